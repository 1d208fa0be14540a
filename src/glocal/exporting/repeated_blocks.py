"""Capture blocks that repeat in a network once each.

Tracing a block takes a second, and a network has dozens of the same class and configuration. One of
them is captured; the program of the network calls it by `glocal::block`, each time with other
weights. `onnx_blocks` puts the blocks back.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from glocal.exporting.capture import MAX_SIZE, any_number
from glocal.ops.windows import Size

__all__ = ["Block", "called_instead", "capture_blocks"]

_MODULES = 4
"""Modules in the smallest block that is worth it, itself included."""
_EXAMPLE: Size = (24, 40)

_INTERNAL = frozenset(vars(nn.Module())) | {"training"}


@dataclass(frozen=True)
class Block:
    """A block that repeats.

    Attributes:
        program: of one of them, from a map (b, c, h, w) of any size to a map of that size.
        paths: of all of them in the network.
        channels: of the result.
    """

    program: ExportedProgram
    paths: tuple[str, ...]
    channels: int


def capture_blocks(model: nn.Module, image: Tensor) -> tuple[Block, ...]:
    """Capture the repeated blocks of a network that is in eval mode.

    Args:
        model: takes one (b, c, h, w).
        image: an example.
    """
    kinds = {path: _kind(module) for path, module in model.named_modules() if path}
    counts = Counter(kinds.values())
    modules = dict(model.named_modules())
    wanted = {
        path: kind
        for path, kind in kinds.items()
        if counts[kind] > 1 and sum(1 for _ in modules[path].modules()) >= _MODULES
    }
    channels = _channels(model, image, wanted)
    unfit = {kind for path, kind in wanted.items() if channels.get(path) is None}
    chosen: dict[Any, list[str]] = {}
    taken: list[str] = []
    for path, kind in wanted.items():  # a module comes before those inside it
        if kind not in unfit and not any(path.startswith(f"{outer}.") for outer in taken):
            chosen.setdefault(kind, []).append(path)
            taken.append(path)
    blocks = []
    for paths in chosen.values():
        found = {channels[path] for path in paths}
        if len(paths) < 2 or len(found) > 1:
            continue
        shape = found.pop()
        assert shape is not None
        program = _captured(modules[paths[0]], image, shape[0])
        if program is not None:
            blocks.append(Block(program, tuple(paths), shape[1]))
    return tuple(blocks)


@contextmanager
def called_instead(model: nn.Module, blocks: Sequence[Block]) -> Iterator[None]:
    """Have the network call `glocal::block` in place of these blocks.

    The number of a call is that of the block's path among the paths of all `blocks`, in order.
    """
    with ExitStack() as stack:
        number = 0
        for block in blocks:
            for path in block.paths:
                module = model.get_submodule(path)
                stack.callback(_restore, module, module.__dict__.get("forward"))
                module.forward = _call(number, block.channels)
                number += 1
        yield


def _call(number: int, channels: int) -> Any:
    def forward(x: Tensor) -> Tensor:
        made: Tensor = block(x, number, channels)
        return made

    return forward


def _restore(module: nn.Module, forward: Any) -> None:
    del module.forward
    if forward is not None:
        module.forward = forward


@torch.library.custom_op(
    "glocal::block", mutates_args=(), schema="(Tensor x, int number, int channels) -> Tensor"
)
def block(x: Tensor, number: int, channels: int) -> Tensor:
    """Call a block of a network; only programs contain it."""
    raise NotImplementedError


@block.register_fake
def _(x: Tensor, number: int, channels: int) -> Tensor:
    return x.new_empty(x.shape[0], channels, *x.shape[2:])


def _kind(module: nn.Module) -> Any:
    """Return a key that is equal for modules that differ in their weights only."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    if any(hooks):
        return id(module)
    own = tuple(
        (name, _value(value))
        for name, value in sorted(vars(module).items())
        if name not in _INTERNAL
    )
    tensors = tuple(
        (name, None if t is None else (t.shape, t.dtype))
        for name, t in (*module._parameters.items(), *module._buffers.items())
    )
    children = tuple((name, child and _kind(child)) for name, child in module._modules.items())
    return (type(module), module.training, own, tensors, children)


def _value(value: Any) -> Any:
    """A hashable form of an attribute that is equal where the attributes are."""
    if value is None or isinstance(value, bool | int | float | str | Enum | type | torch.dtype):
        return (type(value), value)
    if isinstance(value, tuple | list):
        return (type(value), tuple(_value(each) for each in value))
    return id(value)


def _channels(
    model: nn.Module, image: Tensor, wanted: Mapping[str, Any]
) -> dict[str, tuple[int, int] | None]:
    """Channels of the map that each module gets and makes; None if it does anything else."""
    found: dict[str, tuple[int, int] | None] = {}

    def watch(path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, made: Any) -> None:
            fits = (
                not kwargs
                and len(args) == 1
                and all(isinstance(t, Tensor) and t.ndim == 4 for t in (*args, made))
                and args[0].shape[0] == made.shape[0]
                and args[0].shape[2:] == made.shape[2:]
                and args[0].dtype == made.dtype
            )
            shape = (args[0].shape[1], made.shape[1]) if fits else None
            found[path] = shape if found.get(path, shape) == shape else None

        return hook

    with ExitStack() as stack:
        for path in wanted:
            module = model.get_submodule(path)
            handle = module.register_forward_hook(watch(path), with_kwargs=True)
            stack.callback(handle.remove)
        model(image)
    return found


def _captured(module: nn.Module, like: Tensor, channels: int) -> ExportedProgram | None:
    """The program of a block for maps of any size; None if it takes only some sizes."""
    x = like.new_zeros(2, channels, *_EXAMPLE).uniform_()
    sides = (Dim(name, min=2, max=MAX_SIZE) for name in ("h", "w"))
    dims = dict(zip((0, 2, 3), (any_number("batch"), *sides), strict=True))
    try:
        return torch.export.export(module, (x,), dynamic_shapes=(dims,), strict=False)
    except Exception:  # whatever a tracer cannot follow: it is captured with the network
        return None
