"""How far a call of a network has come: its modules, timed on a small image.

A large image takes many seconds in one call, which reports nothing itself. A small image passes
through the same modules in the same order, so the time until each module of it, as a share of the
whole, tells how far a large one has come at that module.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

__all__ = ["Steps"]


@dataclass
class Steps:
    """Follows the modules of a network.

    Attributes:
        model: the network.
        calls: of the network for an image, as learned: two with statistics from crops.
        shares: of the time of the last call before each of its modules, in order.
    """

    model: nn.Module
    calls: int = 1
    shares: tuple[float, ...] = ()
    _own: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._own = frozenset(map(id, self.model.modules()))

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Learn from the restoration of a small image inside the block."""
        starts: list[list[float]] = []

        def note(module: nn.Module) -> None:
            if module is self.model:
                starts.append([])
            if starts:
                starts[-1].append(time.perf_counter())

        with self._following(note):
            yield
        if starts:
            first, end = starts[-1][0], time.perf_counter()
            self.shares = tuple((each - first) / (end - first) for each in starts[-1])
            self.calls = len(starts)

    @contextmanager
    def watching(self, tell: Callable[[int, float], None]) -> Iterator[None]:
        """Call `tell` with the number of finished calls, and the share of the one that runs."""
        calls, steps = -1, 0

        def note(module: nn.Module) -> None:
            nonlocal calls, steps
            if module is self.model:
                calls, steps = calls + 1, 0
            if calls >= 0 and steps < len(self.shares):
                tell(calls, self.shares[steps])
                steps += 1

        with self._following(note):
            yield

    @contextmanager
    def _following(self, note: Callable[[nn.Module], None]) -> Iterator[None]:
        def hook(module: nn.Module, args: Any) -> None:
            if id(module) in self._own:
                note(module)

        handle = register_module_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()
