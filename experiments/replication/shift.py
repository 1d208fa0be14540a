"""The statistic that a global operation takes, over crops, whole photographs, and with TLC.

What it is: the pooled means (NAFNet), the means and standard deviations of the normalised
channels (HINet), the cosines between query and key channels (Restormer). It is computed from
the map that reaches the operation, which a forward hook catches in the network as it runs, for
TLC in the converted network with all of its operations local.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from evaluate import pair
from jobs import Job, trained
from numpy.typing import NDArray
from photos import Photo, names, read
from tasks import TASKS, seed_of
from torch import Tensor, nn
from torch.nn import functional as F

import glocal
from glocal.windows import Size

CROPS_A_PHOTO = 24
WINDOWS_AN_AXIS = 8
SCALE = 1.5

Values = NDArray[np.float64]  # (samples, channels)


@dataclass(frozen=True)
class Shift:
    """The statistic of one operation, (samples, channels) each."""

    path: str
    training_crops: Values
    crops: Values  # of the held-out photographs
    full: Values
    local: Values

    def distance(self, values: Values) -> float:
        """How far `values` are from those over crops of the same photographs.

        Wasserstein-1 distance of each channel ÷ its standard deviation over crops, mean over
        the channels.
        """
        return float(
            np.mean(
                [
                    _wasserstein(c, v) / c.std()
                    for c, v in zip(self.crops.T, values.T, strict=True)
                    if c.std() > 0
                ]
            )
        )


def _wasserstein(a: Values, b: Values) -> float:
    levels = (np.arange(512) + 0.5) / 512
    return float(np.mean(np.abs(np.quantile(a, levels) - np.quantile(b, levels))))


def _means(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _moments(x: Tensor) -> Tensor:
    return torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], 1)


def _cosines(attention: nn.Module) -> Callable[[Tensor], Tensor]:
    def cosines(x: Tensor) -> Tensor:
        heads = attention.temperature.shape[0]
        q, k, _ = (t.unflatten(1, (heads, -1)).flatten(3) for t in x.chunk(3, 1))
        return (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).flatten(1)

    return cosines


def _probe(job: Job, network: nn.Module, path: str) -> tuple[nn.Module, bool, Callable]:
    """The module to hook, whether its output (else its input) is the map, and the statistic."""
    module = network.get_submodule(path)
    if job.network == "restormer":
        return module.qkv_dwconv, True, _cosines(module)
    return module, False, _means if job.network == "nafnet" else _moments


@contextmanager
def _maps(job: Job, network: nn.Module, paths: list[str]) -> Iterator[dict[str, Tensor]]:
    """While open, the last map that reached each operation."""
    caught: dict[str, Tensor] = {}
    handles = []
    for path in paths:
        module, after, _ = _probe(job, network, path)

        def hook(_: nn.Module, args: tuple, out: Tensor, path: str = path, after: bool = after):
            caught[path] = out if after else args[0]

        handles.append(module.register_forward_hook(hook))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _tensor(photo: Photo) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float() / 255


def _crops(photo: Photo, size: int, random: np.random.Generator) -> Tensor:
    places = [
        [int(random.integers(n - size + 1)) for n in photo.shape[:2]] for _ in range(CROPS_A_PHOTO)
    ]
    return torch.cat([_tensor(photo[y : y + size, x : x + size]) for y, x in places])


def _windows(x: Tensor, window: Size) -> Tensor:
    """Windows of a map on an even grid, stacked on the batch dim."""
    height, width = (min(w, n) for w, n in zip(window, x.shape[-2:], strict=True))
    rows, columns = (
        np.linspace(0, n - w, WINDOWS_AN_AXIS).round().astype(int)
        for n, w in zip(x.shape[-2:], (height, width), strict=True)
    )
    return torch.cat([x[..., r : r + height, c : c + width] for r in rows for c in columns])


def shifts(job: Job) -> list[Shift]:
    """The statistics of every global operation of a network, in the order in which they run."""
    network = trained(job)
    local = glocal.localize(network, job.crop, window_scale=SCALE)
    rows = {row.path: row.window for row in glocal.plan_of(local).having("local")}
    paths = list(rows)
    kinds = ("training_crops", "crops", "full", "local")
    found: dict[str, dict[str, list[Tensor]]] = {p: {k: [] for k in kinds} for p in paths}
    random = np.random.default_rng(0)

    @torch.inference_mode()
    def collect(kind: str, model: nn.Module, x: Tensor) -> None:
        with _maps(job, model, paths) as caught:
            model(x)
        for path, window in rows.items():
            statistic = _probe(job, model, path)[2]
            at = _windows(caught[path], window) if kind == "local" else caught[path]
            found[path][kind].append(statistic(at).double())

    for name in names("train"):
        degraded = TASKS[job.task](read(name), seed_of(job.task, name, 1))
        collect("training_crops", network, _crops(degraded, job.crop, random))
    for name in names("held-out"):
        degraded = pair(job.task, name)[1]
        collect("crops", network, _crops(degraded, job.crop, random))
        collect("full", network, _tensor(degraded))
        collect("local", local, _tensor(degraded))
    return [
        Shift(path, **{kind: torch.cat(values).numpy() for kind, values in kinds.items()})
        for path, kinds in found.items()
    ]
