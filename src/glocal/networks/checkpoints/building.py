"""Networks that are built from what a file states, bounded by the tensors that are there.

A file can name block 999,999,999 or state a width of a billion. Modules are counted while a
network is built: one with many more parameters than the file has tensors cannot fit it.
"""

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.nn.modules import module as registrations

__all__ = ["TooLargeError", "bounded_by"]

_MOST = 20_000
_SPARE = 64
_MODULES = 16  # per parameter: activations, identities, containers
_VALUES = 2**24  # spare ones, of masks and the like that a file does not hold


class TooLargeError(ValueError):
    """A network has more parameters or values than the tensors of a file explain."""


@contextmanager
def bounded_by(tensors: Collection[Tensor]) -> Iterator[None]:
    """Stop the building of a network that is too large for the tensors, in this thread.

    A network may have twice as many parameters: a shared one has several names.

    Raises:
        TooLargeError: a module registers one parameter, value or module too many.
    """
    own_thread = threading.get_ident()
    most = min(2 * len(tensors) + _SPARE, _MOST)
    most_values = 2 * sum(each.numel() for each in tensors) + _VALUES
    parameters = modules = values = 0

    def add_tensor(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal parameters, values
        if tensor is None or threading.get_ident() != own_thread:
            return
        if module._parameters.get(name) is not None or module._buffers.get(name) is not None:
            return  # replaced: nothing grows
        parameters += 1
        values += 0 if tensor.is_meta else tensor.numel()
        if parameters > most:
            raise TooLargeError(f"has more than {most} parameters for {len(tensors)} tensors")
        if values > most_values:
            raise TooLargeError(f"has more values than the tensors, from {name} on")

    def add_module(_module: object, _name: str, _added: object) -> None:
        nonlocal modules
        modules += threading.get_ident() == own_thread
        if modules > _MODULES * most:
            raise TooLargeError(f"has more than {modules} modules for {len(tensors)} tensors")

    hooks = (
        (registrations.register_module_parameter_registration_hook, add_tensor),
        (registrations.register_module_buffer_registration_hook, add_tensor),
        (registrations.register_module_module_registration_hook, add_module),
    )
    with ExitStack() as stack:
        for register, hook in hooks:
            stack.callback(register(hook).remove)
        yield
