"""Run a copy of a network without a trace in the original, and know which module is at work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from glocal.scanning.modules import clone, drop_hooks

__all__ = ["follow", "same_random_state", "stand_in"]


def stand_in(model: nn.Module) -> nn.Module:
    """A copy to run in eval mode: parameters are shared, buffers are not, hooks are left out."""
    copy = drop_hooks(clone(model)).eval()
    for module in copy.modules():  # a network may write to its buffers as it runs
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    return copy


def follow(
    model: nn.Module,
    paths: list[str],
    called: Callable[[str, Any, Any], None] = lambda path, args, kwargs: None,
) -> None:
    """Keep `paths` the paths of the modules that run, the innermost last.

    Args:
        model: a copy of one's own: hooks are put on its modules.
        paths: changed in place.
        called: told the path, args and kwargs of every call of a module.
    """
    for path, module in model.named_modules():

        def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            paths.append(path)
            called(path, args, kwargs)

        def leave(*_: Any) -> None:
            paths.pop()

        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave, always_call=True)


@contextmanager
def same_random_state() -> Iterator[None]:
    """Leave torch's random state as it was."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
