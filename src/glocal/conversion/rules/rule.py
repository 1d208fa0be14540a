"""Rules, and the base class of the modules that they build."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from glocal.ops.windows import Precision, Size, Window

__all__ = ["Local", "Rule"]


@dataclass(frozen=True)
class Rule:
    """Replaces modules of one form by their local form.

    Attributes:
        name: shown in the plan ("transposed attention").
        matches: True for a module of this form. It may guess from structure: `localize` compares
            each replacement with the original before using it.
        build: the local module, from the original and the window (height, width) in pixels of
            the map on which its global operation runs. It shares the original's parameters under
            the same names.
        yields_map: True if the module returns its statistic, as a pool does. The local form
            returns a map of statistics, and `localize` checks that what follows takes a map.
    """

    name: str
    matches: Callable[[nn.Module], bool]
    build: Callable[[nn.Module, Size], nn.Module]
    yields_map: bool = False


class Local(nn.Module):
    """A local module with attributes, parameters and hooks of the one it replaces.

    Attributes:
        window: (height, width) in pixels of the map on which the operation runs; or `CROPS`, if
            its statistics come from crops of the input.
        precision: of window statistics, as in `glocal.ops`; `localize` sets it.
    """

    window: Window
    precision: Precision = "exact"

    @classmethod
    def of(cls, module: nn.Module, window: Size, **attributes: Any) -> Self:
        """Return the local form of `module`, which shares everything with it."""
        new = cls.__new__(cls)
        for name, value in vars(module).items():
            if name == "forward":  # wrapped on the instance; it would hide the local one
                continue
            # Copied, so that adding a parameter, child or hook does not change the original.
            vars(new)[name] = value.copy() if isinstance(value, dict | set) else value
        vars(new).update(window=window, **attributes)
        return new

    def extra_repr(self) -> str:
        """The original's text, then the window."""
        fast = "" if self.precision == "exact" else f"precision={self.precision}"
        return ", ".join(filter(None, [super().extra_repr(), f"window={self.window!r}", fast]))
