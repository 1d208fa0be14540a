"""Options that `evaluate`, `analyze` and `tune` share, as frozen values.

Each value groups the arguments of one step: the conversion, the run, the score. The
defaults serve a simple call, so `glocal.evaluate(model, "set/")` needs none of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glocal.conversion.rules import DEFAULT_RULES, Rule
from glocal.engines.runtimes import Runtime
from glocal.inference.colours import Grey
from glocal.ops.windows import LEAST, Overlap, Precision
from glocal.scanning.example import Example

__all__ = ["ConversionOptions", "RunOptions", "ScoreOptions"]


@dataclass(frozen=True)
class ConversionOptions:
    """Arguments of `glocal.localize`, except sizes and statistics.

    Attributes:
        keep_global: module paths, or patterns such as "encoder.*", to leave global.
        allow_global: leave an operation that cannot be converted global instead of raising.
        rules: the forms to convert; the first match wins.
        window_overlap: how the windows of operations that mix pixels overlap.
        precision: of window statistics, "exact" or "fast".
        example: what the scan calls the model with if it takes more than one image tensor.
        verify: prove the conversion, as in `glocal.localize`.
    """

    keep_global: str | Iterable[str] = ()
    allow_global: bool = False
    rules: Sequence[Rule] = DEFAULT_RULES
    window_overlap: Overlap = LEAST
    precision: Precision = "exact"
    example: Example | None = None
    verify: bool = True

    def __post_init__(self) -> None:
        patterns = self.keep_global
        patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        object.__setattr__(self, "keep_global", patterns)

    @property
    def patterns(self) -> tuple[str, ...]:
        """`keep_global` as a tuple."""
        return tuple(self.keep_global)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `glocal.localize`."""
        return dict(vars(self))

    def record(self) -> dict[str, Any]:
        """The options as JSON values, to compare two logs by; without the example."""
        return {
            "keep_global": list(self.patterns),
            "allow_global": self.allow_global,
            "rules": [rule.name for rule in self.rules],
            "window_overlap": dict(vars(self.window_overlap)),
            "precision": self.precision,
        }


@dataclass(frozen=True)
class RunOptions:
    """How a network runs: arguments of `glocal.restore`.

    Attributes:
        device: where it runs; by default where it is. The network is moved there and stays there.
        dtype: what it computes in; by default its parameters' type. A float32 network runs in
            bfloat16 or float16 by autocast.
        output: name or index of the output to take, for networks that return several.
        grey: how a network of one channel restores colour images.
        runtime: what computes the network, see `glocal.restore`. Statistics are measured in torch.
    """

    device: torch.device | str | None = None
    dtype: torch.dtype | str | None = None
    output: int | str | None = None
    runtime: Runtime = "torch"
    grey: Grey = "channels"

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `glocal.restore`."""
        return dict(vars(self))


@dataclass(frozen=True)
class ScoreOptions:
    """How restored images are compared with their targets.

    Attributes:
        metrics: names, see `glocal.metrics.METRICS`; `evaluate` also takes those of pyiqa, such as
            "lpips" and "niqe". `tune` decides by the first.
        round8: clamp and round both images to 8 bits first, as published tables do.
        border: pixels to cut from each border first.
    """

    metrics: str | Sequence[str] = ("psnr", "ssim-3d")
    round8: bool = True
    border: int = 0

    def __post_init__(self) -> None:
        names = (self.metrics,) if isinstance(self.metrics, str) else tuple(self.metrics)
        object.__setattr__(self, "metrics", names)

    @property
    def names(self) -> tuple[str, ...]:
        """`metrics` as a tuple without repetitions."""
        return tuple(dict.fromkeys(self.metrics))

    def preparation(self) -> str:
        """How images are prepared for the metrics, in words."""
        rounded = "clamped and rounded to 8 bits" if self.round8 else "neither clamped nor rounded"
        cut = f", {self.border} pixels cut from each border" if self.border else ""
        return f"Restored image and target are {rounded}{cut}."
