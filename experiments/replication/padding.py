"""Why HINet loses with TLC: the effect of zero padding on instance norm.

    python experiments/replication/padding.py

Crops of the training size reach the first instance norm of a trained HINet in two ways: through
the convolutions on the crop alone, whose borders are padded with zeros as in training, and cut
out of the map that the convolutions make of the whole photograph, as TLC's windows are. Prints
the deviations of the channels and the distance of the second from the first.
"""

from contextlib import suppress

import numpy as np
import torch
from evaluate import pair
from jobs import Job, finished, trained
from numpy.typing import NDArray
from photos import names
from torch import Tensor

from glocal.study.shift.distances import distance

CROPS_A_PHOTO = 24
NORM = "down_path_1.0.norm"


class _ReachedError(Exception):
    """Raised when the map is recorded, to skip the rest of the network."""


def deviations(job: Job) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deviations before the norm, (crops, channels): of padded crops, and of crops of the map."""
    network = trained(job)
    caught: list[Tensor] = []

    def catch(_: torch.nn.Module, args: tuple[Tensor]) -> None:
        caught.append(args[0])
        raise _ReachedError

    network.get_submodule(NORM).register_forward_pre_hook(catch)

    def map_of(image: Tensor) -> Tensor:
        with suppress(_ReachedError):
            network(image)
        return caught.pop()

    random = np.random.default_rng(0)
    padded, cut = [], []
    size = job.crop
    with torch.inference_mode():
        for name in names("held-out"):
            degraded = torch.from_numpy(pair(job.task, name)[1])
            image = degraded.permute(2, 0, 1)[None].float() / 255
            whole = map_of(image)
            for _ in range(CROPS_A_PHOTO):
                y, x = (int(random.integers(n - size + 1)) for n in image.shape[-2:])
                area = (..., slice(y, y + size), slice(x, x + size))
                padded.append(map_of(image[area]).std((2, 3), correction=0))
                cut.append(whole[area].std((2, 3), correction=0))
    return torch.cat(padded).double().numpy(), torch.cat(cut).double().numpy()


def table() -> str:
    """Table of every stored HINet in Markdown."""
    lines = [
        "| network | median deviation, crop padded | cut out of the whole map | distance |",
        "| --- | --- | --- | --- |",
    ]
    for job in finished():
        if job.network == "hinet":
            padded, cut = deviations(job)
            lines.append(
                f"| {job.name} | {np.median(padded):.4f} | {np.median(cut):.4f} | "
                f"{distance(1 / padded, 1 / cut):.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
