"""Metrics of pyiqa, perceptual and without reference; the only module that imports it.

Install it with `pip install "glocal[iqa]"` (extra `iqa`). pyiqa downloads the weights of a metric
on its first use.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glocal.errors import ArgumentError
from glocal.metrics import METRICS, Metric, Pixels, metric_named
from glocal.texts import one_line

__all__ = ["check_metrics", "metrics_named"]

PREFIX = "pyiqa:"
"""Before the name of a metric that both packages have: "pyiqa:ssim"."""

RELATIVE_ROUNDING = 1e-4
"""Rounding of a network's scores in float32, relative to the score."""

SETS = ("fid", "inception_score")
"""Parts of the names of pyiqa's metrics that compare sets of images."""


def check_metrics(names: Sequence[str]) -> None:
    """Check that metrics exist, without loading their weights.

    Raises:
        ArgumentError: one does not exist, or needs pyiqa, which is missing.
    """
    for name in names:
        if name not in METRICS:
            _known(name, _pyiqa(name))


def metrics_named(names: Sequence[str], device: torch.device) -> list[Metric]:
    """Return the metrics of `glocal.metrics` and of pyiqa with these names.

    Args:
        names: pyiqa's own names; where both packages have a name, it is that of `glocal.metrics`,
            and "pyiqa:" before it chooses the other.
        device: where metrics of pyiqa run.

    Raises:
        ArgumentError: no metric has such a name, or pyiqa is missing or cannot load it.
    """
    return [metric_named(name) if name in METRICS else _loaded(name, device) for name in names]


def _loaded(name: str, device: torch.device) -> Metric:
    pyiqa = _pyiqa(name)
    own_name = _known(name, pyiqa)
    # pyiqa makes cuDNN deterministic for the whole process, which changes the time of networks
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    try:
        network = pyiqa.create_metric(own_name, device=device)
    except Exception as error:  # of a download, or of a package that the metric needs
        raise ArgumentError(f"pyiqa cannot load {own_name}: {one_line(error)}") from None
    finally:
        cudnn.deterministic, cudnn.benchmark = flags
    lower, needs_target = bool(network.lower_better), network.metric_mode == "FR"
    version = getattr(pyiqa, "__version__", "of unknown version")
    protocol = (
        f"{own_name} of pyiqa {version}, {'with' if needs_target else 'without'} reference, of "
        f"images clamped to [0, 1]; {'lower' if lower else 'higher'} is better."
    )

    def function(
        restored: Pixels, target: Pixels, *, border: int = 0, round8: bool = False
    ) -> float:
        images = [restored, target] if needs_target else [restored]
        if needs_target and restored.shape != target.shape:
            raise ArgumentError(
                f"{name} compares images of the same shape, got {restored.shape} and {target.shape}"
            )
        tensors = [_tensor(name, image, border, round8).to(device) for image in images]
        try:
            with torch.no_grad():
                return _number(network(*tensors))
        except Exception as error:  # networks have least sizes of their own
            raise ArgumentError(f"{name}: {one_line(error)}") from None

    return Metric(name, protocol, not lower, function, needs_target=needs_target)


def _pyiqa(name: str) -> ModuleType:
    try:
        import pyiqa
    except Exception as error:  # packages that it needs may be missing, or not fit torch
        if isinstance(error, ModuleNotFoundError) and error.name == "pyiqa":
            raise ArgumentError(
                f"no metric is called {name!r}; choose from {', '.join(METRICS)}, or install pyiqa "
                'for others, such as lpips and niqe: pip install "glocal[iqa]"'
            ) from None
        raise ArgumentError(
            f"{name!r} may be a metric of pyiqa, which cannot be imported: {one_line(error)}"
        ) from None
    found: ModuleType = pyiqa
    return found


def _known(name: str, pyiqa: ModuleType) -> str:
    """Return the name of a metric in pyiqa."""
    own_name = name.removeprefix(PREFIX)
    if own_name not in pyiqa.list_models():
        raise ArgumentError(
            f"no metric is called {name!r}; choose from {', '.join(METRICS)}, or the names of "
            "pyiqa.list_models()"
        )
    if any(part in own_name for part in SETS):
        raise ArgumentError(f"{name} compares sets of images, not an image with its target")
    return own_name


def _tensor(name: str, image: Pixels, border: int, round8: bool) -> Tensor:
    """Return an image (h, w, c) as (1, 3, h, w) floats in [0, 1] without its border."""
    height, width = image.shape[0] - 2 * border, image.shape[1] - 2 * border
    if border < 0 or min(height, width) < 1 or image.shape[2] not in (1, 3):
        raise ArgumentError(
            f"{name} takes grey or colour images larger than the border of {border} pixels, got "
            f"{image.shape}"
        )
    part: NDArray[Any] = image[border : border + height, border : border + width]
    unit = part.astype(np.float32).clip(0, 1)
    unit = np.rint(unit * 255) / np.float32(255) if round8 else unit
    return torch.from_numpy(np.ascontiguousarray(unit)).permute(2, 0, 1)[None].expand(1, 3, -1, -1)


def _number(score: Any) -> float:
    """Return the score of one image; some metrics also return maps."""
    first = score[0] if isinstance(score, tuple) else score
    return float(torch.as_tensor(first).reshape(()))
