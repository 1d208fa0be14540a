"""How much of an image is done, and the time left, from tiles and from calls of the network."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["TimeLeft"]

_ENOUGH = 0.05
"""From this share on, the time that has passed tells the rest better than what was expected."""


@dataclass
class TimeLeft:
    """Follows the restoration of an image.

    >>> seconds = iter((0.0, 30.0))
    >>> left = TimeLeft(100.0, calls=2, clock=lambda: next(seconds))
    >>> left.tiles(0, 1)
    >>> left.step(0, 0.5)
    >>> left.share, left.seconds()
    (0.25, 90.0)

    Attributes:
        expected_s: seconds that the image will take, about; None if nothing was measured.
        calls: of the network for an image that is no tile.
        done, total: tiles; total is 0 before the image.
    """

    expected_s: float | None = None
    calls: int = 1
    clock: Callable[[], float] = time.monotonic
    done: int = field(default=0, init=False)
    total: int = field(default=0, init=False)
    _within: float = field(default=0.0, init=False)
    _first_call: int = field(default=-1, init=False)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def restart(self) -> None:
        """Begin another image."""
        self._began = self.clock()

    def tiles(self, done: int, total: int) -> None:
        """Note how many tiles of the image are done."""
        self.done, self.total, self._first_call, self._within = done, total, -1, 0.0

    def step(self, call: int, share: float) -> None:
        """Note how far a call of the network has come.

        Args:
            call: its number in the run; calls before the first tile measure and do not count.
            share: of its time, 0 to 1.
        """
        if not self.total:
            return
        if self._first_call < 0:
            self._first_call = call
        calls = self.calls if self.total == 1 else 1
        self._within = min(0.99, (call - self._first_call + share) / calls)

    @property
    def share(self) -> float:
        """Share of the image that is done, 0 to 1."""
        return min(1.0, (self.done + self._within) / self.total) if self.total else 0.0

    def seconds(self) -> float | None:
        """Seconds left; None if too little is known."""
        share = self.share
        if share >= _ENOUGH:
            return (1 - share) * (self.clock() - self._began) / share
        return None if self.expected_s is None else (1 - share) * self.expected_s
