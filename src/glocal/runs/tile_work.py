"""The work on one large image that several workers share: its tiles.

What tiles have in common is measured once and sent: their layout with its halo, the sizes that the
network accepts, and statistics from crops. Workers read samples from the work folder, and return
those of their tiles to the one process that writes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from glocal.errors import ImageError
from glocal.images.sample_files import Header, SampleFile
from glocal.inference.inputs import Extra, InputValue, parts_of, with_maps
from glocal.inference.plan import TilePlan
from glocal.inference.run import TiledImage, TileRunner
from glocal.inference.runner import ModelRunner
from glocal.inference.tensors import as_batch
from glocal.ops.crops import CropStatistics
from glocal.runs.executors.work import Opened, Work
from glocal.runs.stages import Limits, Outcome, Stages
from glocal.scanning.modules import eval_mode
from glocal.scanning.user_code import failure

__all__ = ["ImageSamples", "TileResult", "TileWork"]


@dataclass(frozen=True)
class ImageSamples:
    """The decoded samples of an image, as a network sees them and as files hold them.

    Attributes:
        source: the image file, for errors.
        colour: its samples.
        header: of the file.
        inputs, extras: maps beside the image.
    """

    source: Path
    colour: SampleFile
    header: Header
    inputs: Mapping[str, InputValue]
    extras: tuple[Extra, ...] = ()

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Read a rectangle of the image, and of maps beside it, as (1, c, h, w)."""
        colours = self.header.colours
        try:
            part = as_batch(colours.seen(self.colour.read(rows, columns)))[0]
        except ImageError as error:
            raise ImageError(f"{self.source}: {error}") from None
        if not self.inputs:
            return part
        return with_maps(part, parts_of(self.inputs, rows, columns), self.extras)

    @property
    def back(self) -> Callable[[Tensor], np.ndarray]:
        """Turns a restored (1, c, h, w) into samples as the network sees them."""
        header = self.header
        blank = np.zeros((1, 1, header.channels), header.dtype)
        return as_batch(header.colours.seen(blank))[1]

    def restored(self, rows: slice, columns: slice, result: Tensor, scale: int) -> np.ndarray:
        """Return the samples (h, w, c) of a rectangle of the result of scale s."""
        pixels = self.back(result)
        colours = self.header.colours
        if not colours.are_plain:
            own = (slice(side.start // scale, side.stop // scale) for side in (rows, columns))
            pixels = colours.carried_back(self.colour.read(*own), pixels)
        return pixels.reshape(*pixels.shape[:2], -1)

    def tiled(self) -> TiledImage:
        """The image as tiles are read from it."""
        return TiledImage(self.read, self.header.size, self.back)


@dataclass(frozen=True, eq=False)
class TileResult:
    """A tile that a worker has done.

    Attributes:
        number: of the tile.
        samples: of its core; None if it failed.
        error: why it failed.
    """

    number: int
    samples: np.ndarray | None = None
    error: str = ""


@dataclass
class TileWork(Work[int, TileResult]):
    """Restores tiles of an image by their numbers.

    Attributes:
        runner: of the network.
        plan: of the tiles.
        samples: of the image; workers must be able to read their file.
        statistics: of the crops of the image, for a network that takes them from there.
    """

    runner: ModelRunner
    plan: TilePlan
    samples: ImageSamples
    statistics: CropStatistics | None
    unit: ClassVar[int] = 1

    @contextmanager
    def opened(self) -> Iterator[Opened[int]]:
        """Yield stages of which one does all: a tile fills the memory."""
        image = replace(self.samples.tiled(), statistics=self.statistics)
        restore = TileRunner(self.plan, self.runner, image)

        def compute(numbers: list[int]) -> list[np.ndarray]:
            found = []
            with eval_mode(self.runner.model, self.runner.device), torch.inference_mode():
                for tile in (self.plan.tiles[number] for number in numbers):
                    core, scale = restore(tile)
                    found.append(self.samples.restored(*tile.core(scale), core, scale))
            return found

        stages: Stages[int, Any, Any, Any] = Stages(
            read=lambda number: number,
            compute=compute,
            write=lambda number, loaded, samples: samples,
        )
        yield Opened(stages, Limits(count=0))

    def result(self, outcome: Outcome[int, np.ndarray]) -> TileResult:
        """Return the samples of a tile, or why it failed."""
        if outcome.result is None:
            return TileResult(outcome.item, error=failure(outcome.error or RuntimeError()))
        return TileResult(outcome.item, outcome.result)

    def is_failed(self, result: TileResult) -> bool:
        """True if the tile was not restored."""
        return result.samples is None

    def for_worker(self, name: str, device: str | None) -> Self:
        """Return the work of one process."""
        if device is None:
            return self
        runner = replace(self.runner, device=torch.device(device))
        runner.accepted = self.runner.accepted
        return replace(self, runner=runner)
