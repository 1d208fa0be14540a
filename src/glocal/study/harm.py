"""`check_ways`: signs that a way to restore does harm, from one image without a target.

Windows of the whole image's features have no zero padding along their border, training crops have.
A network whose norms learned that padding gets other statistics from windows than from the whole
image, and worse ones. Where windows lie farther from crops than the full image does, crops serve
better. Whether crops serve better than the full image cannot be seen without targets: crops of a
wrong training size do harm as well. Where a local result has structure of its own, such as colour
mosaics, the full-image result serves better.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from glocal.conversion.identity import network_sha256
from glocal.conversion.localize import plan_of
from glocal.conversion.train_size import resolve_train_size
from glocal.errors import GlocalError
from glocal.images.files import make_private_folder, write_whole
from glocal.inference.areas import parting_areas
from glocal.inference.placing import device_of
from glocal.inference.restore import restore
from glocal.inference.settings import Settings
from glocal.inference.ways import Way
from glocal.json_files import JsonError, read_json
from glocal.ops.windows import Size, covers
from glocal.provenance import versions
from glocal.scanning.example import scan_network
from glocal.scanning.modules import ancestors
from glocal.scanning.plan import Plan
from glocal.scanning.sandbox import isolated_copy
from glocal.study.dataset import AnyImage, as_tensor
from glocal.study.flat_corner import with_flat_corner
from glocal.study.options import RunOptions
from glocal.study.shift.distances import Values, distance
from glocal.study.shift.probe import Probe
from glocal.study.shift.window_probe import WindowProbe
from glocal.texts import share_text

__all__ = ["WayCheck", "check_ways", "norm_warning", "padded_norms"]

SHARE = 1 / 6
"""Share of the image's pixels that is looked at, ..."""

LEAST, MOST = 2, 8
"""... but no fewer and no more training sizes a side than this."""

RUNS = 8
"""About so many times the network runs on the part."""

WINDOWS_AN_AXIS = 3
"""Windows that are sampled along each axis of the part."""

MARGIN = 1.3
"""Windows do harm if they lie so many times farther from crops than the full image does. On three
held-out photographs each it is 1.8 and more for the replication's HINets, which lose by windows,
and 1.1 and less for its dehazing NAFNet and its Restormers, which gain or do not mind.
"""

PARTING = 1 / 3
"""Share of a network's change of an image by which crops and full image may differ. It is 0.2 to
0.8 for the replication's HINets and its dehazing Restormer, 0.2 for its deblurring one."""

NORMS_PER_CONVOLUTION = 0.5
"""From so many norms for each padded convolution on, a network has norms in nearly every block."""


@dataclass(frozen=True)
class WayCheck:
    """How far windows and the full image are from crops.

    Attributes:
        full: mean distance of the statistics of the full image from those of crops, in standard
            deviations over the crops.
        windows: the same for windows; nan if no statistic comes from windows.
        parting: root mean square difference of the results with statistics from crops and of the
            full image, as a share of that between the former and the image.
        areas: share of the image, with a flat dark corner, in which the result of the way parts
            from that of the full image far more than elsewhere, see `glocal.inference.areas`.
        areas_of_crops: the same for statistics from crops; without the corner if that is not the
            way.
    """

    full: float
    windows: float
    parting: float
    areas: float = 0.0
    areas_of_crops: float = 0.0

    @classmethod
    def of_json(cls, values: Mapping[str, float | None]) -> Self:
        """The check that `to_json` returned.

        Raises:
            TypeError: other values.
        """
        return cls(**{key: math.nan if each is None else each for key, each in values.items()})

    def to_json(self) -> dict[str, float | None]:
        """The attributes as JSON can hold them: null stands for nan."""
        return {key: None if math.isnan(each) else each for key, each in asdict(self).items()}

    @property
    def windows_do_harm(self) -> bool:
        """True if windows lie farther from crops than the full image does."""
        return self.windows > MARGIN * self.full

    @property
    def hangs_on_train_size(self) -> bool:
        """True if crops and full image give results that differ a lot."""
        return self.parting > PARTING

    def areas_of(self, way: Way) -> float:
        """The share of areas, if this way is taken in the end: the one compared, or crops."""
        return self.areas_of_crops if way == "crops" else self.areas

    def harm(self) -> str:
        """What `windows_do_harm` means, in words."""
        return (
            f"statistics of windows lie {self.windows:.1f} deviations from those of training "
            f"crops, of the full image {self.full:.1f}: windows are likely to do harm to this "
            "network"
        )

    def doubt(self) -> str:
        """What `hangs_on_train_size` means, in words."""
        return (
            f"results with statistics from crops and of the full image differ by "
            f"{100 * self.parting:.0f} % of what the network changes: all hangs on the training "
            "size; `glocal tune` finds on pairs of images which is right"
        )

    def mosaic(self, way: Way) -> str:
        """What `areas_of` means, in words."""
        return (
            f"in {share_text(self.areas_of(way))} of the part compared, with a flat dark corner, "
            "local results have structure that the full-image result has not, such as colour "
            "mosaics and checkerboards"
        )


def check_ways(
    model: nn.Module,
    image: AnyImage,
    settings: Settings,
    run: RunOptions = RunOptions(),
    cache: Path | None = None,
    before: Callable[[float], None] = lambda passes: None,
) -> WayCheck | None:
    """Compare windows, crops and full image on the centre of an image.

    The network runs on the centre about `RUNS` times: with a sixth of the pixels that takes about
    as long as a pass over the image, far less for large ones and longer for small ones.

    Args:
        model: the original network.
        image: as for `glocal.restore`.
        settings: the way and its options. Statistics of windows are those
            of operations that this way takes from windows.
        run: device and dtype of the network; the output is that of the settings.
        cache: folder of earlier results, which serve for the same network, options and size.
        before: called before the network runs with how long that takes, in passes over the image.

    Returns:
        None if the image is no larger than a training crop.

    Raises:
        GlocalError: the network cannot be converted, or does not run.
    """
    train = resolve_train_size(model, settings.train_size)
    settings = replace(settings, train_size=train)
    x = as_tensor(image)
    if covers(train, (x.shape[-2], x.shape[-1])):
        return None
    pixels = math.prod(x.shape[-2:])
    x = _centre(x, train)
    known = None if cache is None else cache / f"{_key(model, settings, run, x)}.json"
    if known is not None:
        with suppress(OSError, JsonError, TypeError):
            return WayCheck.of_json(read_json(known, dict[str, float | None]))
    before(RUNS * math.prod(x.shape[-2:]) / pixels)
    found = _checked(model, x, settings, train, run)
    if known is not None:
        with suppress(GlocalError):  # it is measured again
            make_private_folder(known.parent, GlocalError)
            write_whole(known, json.dumps(found.to_json()), GlocalError)
    return found


def padded_norms(model: nn.Module, plan: Plan) -> tuple[int, int] | None:
    """Numbers of global norms and padded convolutions, if nearly every block has a norm.

    >>> from glocal.conversion.localize import scan
    >>> layers = nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.ReLU()
    >>> padded_norms(nn.Sequential(*layers), scan(nn.Sequential(*layers), 32))
    (1, 1)
    """
    norms = sum(any(name in row.operation for name in _NORMS) for row in plan.rows)
    padded = sum(isinstance(m, nn.Conv2d) and _is_padded(m) for m in model.modules())
    return (norms, padded) if norms and norms >= NORMS_PER_CONVOLUTION * padded > 0 else None


def norm_warning(norms: int, convolutions: int) -> str:
    """A warning for what `padded_norms` found."""
    return (
        f"{norms} global norms among {convolutions} padded convolutions: the statistics of crops "
        "contain the zero padding at their borders, those of windows do not. Windows may do harm, "
        "and crops too if the training size is wrong; compare with `glocal evaluate`"
    )


_NORMS = ("instance_norm", "group_norm", "layer_norm", "batch_norm", "var", "std")


def _is_padded(convolution: nn.Conv2d) -> bool:
    padding = convolution.padding
    return padding == "same" or (padding != "valid" and any(padding))


def _centre(x: Tensor, train: Size) -> Tensor:
    for dim, crop in zip((-2, -1), train, strict=True):
        size = x.shape[dim]
        length = min(size, MOST * crop, max(LEAST * crop, round(size * math.sqrt(SHARE))))
        x = x.narrow(dim, (size - length) // 2, length)
    return x


def _key(model: nn.Module, settings: Settings, run: RunOptions, x: Tensor) -> str:
    options = {**asdict(settings), "model": None, "dtype": str(run.dtype)}
    names = [each.name for each in fields(WayCheck)]  # a result of older code may have fewer
    parts = network_sha256(model), options, tuple(x.shape), versions()["glocal"], names
    return sha256(json.dumps(parts).encode()).hexdigest()


def _checked(
    model: nn.Module, x: Tensor, settings: Settings, train: Size, run: RunOptions
) -> WayCheck:
    network = isolated_copy(model).to(device_of(model, run.device)).eval()
    options: dict[str, Any] = {"allow_global": True}
    on_crops = replace(settings, way="crops", window=None, **options).network(network, verify=False)
    with torch.inference_mode(False):
        probe = Probe(network, scan := scan_network(network, train, None), run.dtype)
    crops = _joined([probe(crop) for crop in _crops(x, train)])
    full = probe(x)
    windows: Sequence[Values | None] = [None] * len(full)
    chosen = replace(settings, **options).network(network, verify=False)
    plan = plan_of(chosen)
    if any(row.source == "windows" for row in plan.with_status("local")):
        changed = replace(settings, way="windows", stride=None, **options)
        local = changed.network(network, verify=False)
        windows = WindowProbe(network, scan, local, run.dtype, WINDOWS_AN_AXIS)(x)
        taken = {row.path for row in plan.with_status("local") if row.source == "windows"}
        paths = [each.operation.path for each in probe.statistics]
        windows = [
            w if taken & set(ancestors(path)) else None
            for w, path in zip(windows, paths, strict=True)
        ]
    pairs = [
        (distance(c, f), distance(c, w))
        for c, f, w in zip(crops, full, windows, strict=True)
        if w is not None
    ]
    of_full, of_windows = (_mean([pair[i] for pair in pairs]) for i in (0, 1))
    arguments = {**run.arguments(), "output": settings.output}
    a, b = (restore(each, x, tiles=None, **arguments) for each in (on_crops, network))
    flat = with_flat_corner(x, plan.window, train)
    of_way, of_full_image = (
        restore(each, flat, tiles=None, **arguments) for each in (chosen, network)
    )
    areas = parting_areas(of_way, of_full_image, flat).share, parting_areas(a, b, x).share
    return WayCheck(of_full, of_windows, _parting(a, b, x), *areas)


def _crops(x: Tensor, crop: Size) -> list[Tensor]:
    """The crops at the corners and in the centre."""
    height, width = (min(n, k) for n, k in zip(x.shape[-2:], crop, strict=True))
    below, beside = x.shape[-2] - height, x.shape[-1] - width
    places = [(0, 0), (0, beside), (below, 0), (below, beside), (below // 2, beside // 2)]
    return [x[..., y : y + height, z : z + width] for y, z in dict.fromkeys(places)]


def _joined(samples: Sequence[Sequence[Values]]) -> list[Values]:
    return [np.concatenate(each) for each in zip(*samples, strict=True)]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _parting(crops: Tensor, full: Tensor, image: Tensor) -> float:
    """The difference of two results as a share of the change; nan if the size changes."""
    if crops.shape != image.shape or full.shape != image.shape:
        return math.nan
    change = float((crops - image).square().mean().sqrt())
    return float((crops - full).square().mean().sqrt()) / change if change > 0 else math.nan
