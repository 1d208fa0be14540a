"""Run a network without side effects on it, and track which module runs."""

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glocal.devices import keep_random_states
from glocal.scanning.hooks import HookWatch, isolate_hooks
from glocal.scanning.modules import clone

__all__ = ["isolated_copy", "keep_random_state", "no_collection", "track_modules"]


def isolated_copy(model: nn.Module, watch: HookWatch | None = None) -> nn.Module:
    """A copy in the mode of `model` whose runs leave `model` unchanged.

    It shares parameters with `model`, and has its own buffers, other tensors and copies of the
    forward hooks.

    Args:
        model: any network.
        watch: notes what the hooks do.
    """
    copy = clone(model)
    isolate_hooks(copy, HookWatch() if watch is None else watch)
    for module in copy.modules():  # a network may write to its buffers when it runs
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.requires_grad:
                vars(module)[name] = value.clone()
    return copy


def track_modules(
    model: nn.Module,
    paths: list[str],
    on_call: Callable[[str, Any, Any], None] = lambda path, args, kwargs: None,
) -> None:
    """Maintain the stack of modules that run, by hooks on the modules of `model`.

    Args:
        model: a copy that nobody else uses, because it gets hooks.
        paths: the stack, changed in place: paths of the running modules, innermost last.
        on_call: called with path, args and kwargs before every call of a module's forward.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks; its caller is running
            continue

        def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            paths.append(path)

        def called(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            on_call(path, args, kwargs)

        def leave(*_: Any) -> None:
            paths.pop()

        # The hooks of the network run between the first and the last of these.
        module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
        module.register_forward_pre_hook(called, with_kwargs=True)
        module.register_forward_hook(leave, always_call=True)


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause Python's garbage collector, for code with many objects and few cycles.

    The collector visits all objects again and again while a scan records its calls: without it
    the scan of Restormer takes a third less time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch after the block."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with keep_random_states():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
