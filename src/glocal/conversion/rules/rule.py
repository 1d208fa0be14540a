"""What a rule is, and what its local modules have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from glocal.ops.windows import Precision, Size

__all__ = ["Local", "Rule"]


@dataclass(frozen=True)
class Rule:
    """How to make one form of global operation local.

    Attributes:
        name: shown in the plan ("transposed attention").
        matches: whether a module has this form. It may be a guess from structure: every
            replacement is compared with the original before it is used.
        build: the local module, from the original and the window (height, width) in pixels of
            the map that its global operation sees. It shares the original's parameters under
            their own names.
        yields_map: the module returns its statistic, and its local form returns a map of
            statistics instead, as a pool does. Then what follows must take a map, which
            `localize` checks.
    """

    name: str
    matches: Callable[[nn.Module], bool]
    build: Callable[[nn.Module, Size], nn.Module]
    yields_map: bool = False


class Local(nn.Module):
    """A module that took the place of a global one: same attributes, parameters and hooks.

    Attributes:
        window: (height, width) in pixels of the map that the operation sees.
        precision: of window statistics, as in `glocal.ops`; `localize` sets it.
    """

    window: Size
    precision: Precision = "exact"

    @classmethod
    def of(cls, module: nn.Module, window: Size, **attributes: Any) -> Self:
        """The local form of `module`; everything it holds is shared, nothing in it changes."""
        new = cls.__new__(cls)
        for name, value in vars(module).items():
            # The registries of parameters, children and hooks are the module's own.
            vars(new)[name] = value.copy() if isinstance(value, dict | set) else value
        vars(new).update(window=window, **attributes)
        return new

    def extra_repr(self) -> str:
        """The window, after what the original says."""
        fast = "" if self.precision == "exact" else f"precision={self.precision}"
        return ", ".join(filter(None, [super().extra_repr(), f"window={self.window}", fast]))
