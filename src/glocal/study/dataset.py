"""Read `data` arguments: a folder, pairs of files, or arrays."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glocal.data.datasets import pairs
from glocal.data.pairing import Pair, check_names, data_label, evenly_spaced, pair_sha256, stems_of
from glocal.data.pixels import Floats, PairImages, matched, read_pair
from glocal.errors import ArgumentError
from glocal.images.folders import list_images
from glocal.inference.tensors import as_batch

__all__ = ["AnyImage", "Data", "Dataset", "Sample", "as_tensor", "folder_images", "open_dataset"]

AnyImage: TypeAlias = Tensor | NDArray[Any]
"""An array (h, w) or (h, w, c) of uint8, uint16 or floats in [0, 1], or a float tensor (c, h, w)
or (1, c, h, w)."""

Data: TypeAlias = (
    str | Path | Sequence[Pair] | Sequence[AnyImage] | Sequence[tuple[AnyImage, AnyImage]]
)
"""A folder, pairs of files, degraded images, or (degraded, target) tuples of images.

A folder is read by the first layout of `glocal.pairs` that fits. A sequence is indexed one image
at a time, so it may load images on demand.
"""


class Sample(Protocol):
    """One image of a data set."""

    @property
    def name(self) -> str:
        """Unique in the data set."""

    @property
    def has_target(self) -> bool:
        """True if there is a clean image to compare with."""

    def digest(self) -> str:
        """Return a SHA-256 of name, image and target."""

    def degraded(self) -> AnyImage:
        """Return the image to restore, without conversion."""

    def read(self) -> PairImages:
        """Return degraded image and target, adapted by `glocal.data.pixels.matched`.

        Raises:
            ImageError: a file cannot be read.
            ArgumentError: an array has a wrong shape or type, or the sizes of files do not match.
        """


@dataclass(frozen=True)
class Dataset:
    """Named images with what identifies them.

    Attributes:
        samples: one for each image; their names differ.
        label: short name for reports, such as "GoPro/test".
    """

    samples: tuple[Sample, ...]
    label: str

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each image and its target, by name; reads all files once."""
        return {sample.name: sample.digest() for sample in self.samples}

    def digest(self) -> str:
        """Return a SHA-256 of all names, images and targets."""
        return hashlib.sha256("\n".join(self.digests.values()).encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        return tuple(sample.name for sample in self.samples)


def open_dataset(
    data: Data, limit: int | None = None, *, purpose: str, needs_targets: bool = True
) -> Dataset:
    """Return the images of `data`.

    Args:
        data: see `Data`.
        limit: number of images to take, evenly spaced over the data set; all by default.
        purpose: what the images are for, to complete "there are no images to ...".
        needs_targets: if False, a folder without pairs counts as a folder of degraded images.

    Raises:
        ArgumentError: the data is empty or malformed, the folder matches no layout, two images
            have the same name, or the limit is below 1.
    """
    if isinstance(data, str | Path):
        found = pairs(data) if needs_targets else folder_images(Path(data))[0]
        return _of_pairs(found, limit, purpose, data)
    if isinstance(data, Tensor | np.ndarray) and data.ndim != 4:
        raise ArgumentError(
            f"data is one array of shape {tuple(data.shape)}; pass a list of images, [image]"
        )
    if len(data) and isinstance(data[0], Pair):
        return _of_pairs(list(data), limit, purpose, None)  # type: ignore[arg-type]
    return _of_arrays(data, limit, purpose)


def folder_images(folder: Path) -> tuple[list[Pair], bool]:
    """Return the pairs of a folder, or its images without targets; True for pairs.

    Raises:
        ArgumentError: the folder is missing, or holds neither pairs nor images.
    """
    plain = (
        folder.is_dir()
        and bool(list_images(folder, recursive=False))
        and not any(path.is_dir() for path in folder.iterdir())
    )
    if not plain:
        return pairs(folder), True
    return [Pair(stem, path, None) for stem, path in stems_of(folder).items()], False


def as_tensor(image: AnyImage) -> Tensor:
    """Return an image as (1, c, h, w) floats in [0, 1].

    Raises:
        ArgumentError: as for `glocal.restore`, or there are several images.
    """
    plane = isinstance(image, Tensor) and image.ndim == 2
    x = as_batch(image[None] if plane else image)[0]
    if x.shape[0] != 1:
        raise ArgumentError(f"got {x.shape[0]} images in one tensor; pass them one by one")
    if not x.is_floating_point():
        x = x.to(torch.float32) / torch.iinfo(x.dtype).max
    return x.to(torch.float32) if isinstance(image, np.ndarray) else x


@dataclass(frozen=True)
class _PairSample:
    """A pair of files."""

    pair: Pair

    @property
    def name(self) -> str:
        return self.pair.name

    @property
    def has_target(self) -> bool:
        return self.pair.target is not None

    def digest(self) -> str:
        return pair_sha256(self.pair)

    def degraded(self) -> AnyImage:
        return read_pair(self.pair).degraded

    def read(self) -> PairImages:
        return read_pair(self.pair)


@dataclass(frozen=True, eq=False)
class _ArraySample:
    """An image, or a (degraded, target) tuple, of a sequence."""

    name: str
    data: Sequence[Any]
    index: int

    @property
    def has_target(self) -> bool:
        return self.images()[1] is not None

    def digest(self) -> str:
        found = hashlib.sha256()
        for image in self.images():
            if image is not None:
                pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else image
                found.update(f"{self.name} {pixels.shape} {pixels.dtype}\n".encode())
                found.update(np.ascontiguousarray(pixels).data)
        return found.hexdigest()

    def degraded(self) -> AnyImage:
        return self.images()[0]

    def read(self) -> PairImages:
        degraded, target = self.images()
        return matched(_as_pixels(degraded), None if target is None else _as_pixels(target))

    def images(self) -> tuple[AnyImage, AnyImage | None]:
        """Return degraded image and target as they are in the sequence."""
        item = self.data[self.index]
        parts = tuple(item) if isinstance(item, tuple | list) else (item, None)
        kinds = Tensor | np.ndarray
        if len(parts) != 2 or not isinstance(parts[0], kinds):
            wrong = [type(part).__name__ for part in parts if part is not None]
            raise ArgumentError(
                f"data[{self.index}] is {', '.join(wrong)}; expected an image or a tuple (degraded "
                "image, target), as arrays or tensors"
            )
        return parts[0], parts[1]


def _of_pairs(
    found: list[Pair], limit: int | None, purpose: str, root: str | Path | None
) -> Dataset:
    found = evenly_spaced(found, limit)
    check_names(found, purpose)
    samples = tuple(_PairSample(pair) for pair in found)
    return Dataset(samples, data_label(found, root))


def _of_arrays(data: Sequence[Any], limit: int | None, purpose: str) -> Dataset:
    chosen = evenly_spaced(range(len(data)), limit)
    if not chosen:
        raise ArgumentError(f"there are no images to {purpose}")
    width = len(str(len(data)))
    samples = tuple(_ArraySample(f"{index + 1:0{width}d}", data, index) for index in chosen)
    return Dataset(samples, "arrays")


def _as_pixels(image: AnyImage) -> Floats:
    pixels: Floats = as_tensor(image)[0].detach().permute(1, 2, 0).float().cpu().numpy()
    return pixels
