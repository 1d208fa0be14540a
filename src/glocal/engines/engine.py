"""`Engine`: the exported file of a network, which computes in place of its `forward`."""

import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from glocal.conversion.two_passes import two_passes_of
from glocal.engines.network_files import NetworkFile, network_file, network_key
from glocal.engines.runtimes import EngineName
from glocal.engines.sessions import opened
from glocal.errors import GlocalError, GlocalWarning
from glocal.exporting.check import difference
from glocal.ops import crops
from glocal.ops.placement import is_placed, is_recorded
from glocal.ops.windows import Size
from glocal.scanning.modules import eval_mode
from glocal.texts import size_text

__all__ = ["TOLERANCES", "Engine", "engine_for"]

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference between a stored file and its network, relative to the largest value."""

_CHECKED: Size = (64, 80)
"""Size at which a stored file is compared with its network."""

Maps = tuple[tuple[Size, int], ...]
"""Size of the map on a crop and number of statistics, by operation."""


class Engine:
    """A network of float32 weights in an engine, on the CPU."""

    def __init__(
        self, name: EngineName, file: NetworkFile, maps: Maps, threads: int, dtype: torch.dtype
    ) -> None:
        """Open the files of a network.

        Args:
            name: of the engine.
            file: of the network.
            maps: of the operations that take statistics from crops.
            threads: that the engine uses.
            dtype: that it computes in, float32 or bfloat16.

        Raises:
            GlocalError: the engine does not take a file, or does not compute in this type.
        """
        self.name = name
        self._file = file
        self._maps = maps
        self._image = opened(name, file.path, threads, dtype)
        self._crops = None if file.crops is None else opened(name, file.crops, threads, dtype)
        self._said: set[str] = set()

    @property
    def has_crops(self) -> bool:
        """True if the network takes statistics from crops."""
        return self._crops is not None

    def takes(self, x: Tensor) -> bool:
        """True if the engine computes this image now; else a warning says once why not."""
        if is_recorded() or (self.has_crops and crops.replayed() is None):
            return False  # torch records what only it shows, or computes a single crop
        reason = ""
        size: Size = (x.shape[-2], x.shape[-1])
        multiple, smallest = self._file.multiple, self._file.smallest
        if is_placed():
            reason = "tiles of a network with a grid of windows depend on their position"
        elif min(size) < smallest or any(n % multiple for n in size):
            of = f", in multiples of {multiple}" if multiple > 1 else ""
            reason = f"the file takes sides from {smallest} pixels on{of}, not {size_text(size)}"
        if reason and reason not in self._said:
            self._said.add(reason)
            warnings.warn(f"{self.name}: {reason}; continuing in torch", GlocalWarning, 2)
        return not reason

    def __call__(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the network's result for an image (b, c, h, w), or its results.

        A network with statistics from crops takes those of the running pass.
        """
        inputs = [x]
        recorded = crops.replayed() if self.has_crops else None
        if recorded is not None:
            grid = recorded.grid
            inputs += [torch.tensor(starts) for starts in (grid.rows, grid.columns)]
            inputs += [value for record in recorded.records for value in record.values]
        found = self._image(*inputs)
        return found[0] if len(found) == 1 else found

    def on_crops(self, x: Tensor) -> list[tuple[Size, tuple[Tensor, ...]]]:
        """Size of the map and results of each operation on crops (n, c, h, w), for `record`."""
        assert self._crops is not None
        runs = [self._crops(crop) for crop in x.split(1)]
        joined = iter([torch.cat(each) for each in zip(*runs, strict=True)])
        return [(size, tuple(next(joined) for _ in range(n))) for size, n in self._maps]

    def difference(self, model: nn.Module, channels: int) -> float:
        """Compare with the network; return the largest difference ÷ the largest value."""

        def image(size: Size) -> Tensor:
            generator = torch.Generator().manual_seed(0)
            return torch.rand(1, channels, *size, generator=generator)

        def on_image(x: Tensor) -> list[Tensor]:
            found = self(x)
            return found if isinstance(found, list) else [found]

        multiple = self._file.multiple
        passes = two_passes_of(model)
        least = passes.crop if passes else _CHECKED
        height, width = (max(n, self._file.smallest) + -n % multiple for n in least)
        if passes is None:
            return difference(model, on_image, image((height, width)))
        grid = crops.CropGrid((0,), (0,), passes.crop)
        crop = image(passes.crop)
        theirs = crops.gather(grid, 1, lambda places: model(crop))
        ours = crops.gather(grid, 1, lambda places: crops.record(self.on_crops(crop)))
        apart = [
            float((b - a).abs().max() / a.abs().max().clamp_min(1e-30))
            for first, second in zip(theirs.records, ours.records, strict=True)
            for a, b in zip(first.values, second.values, strict=True)
        ]
        with crops.running(crops.Replay(theirs)):
            return max(*apart, difference(model, on_image, image((height, width + multiple))))


_Key = tuple[EngineName, str, int, torch.dtype]
_ENGINES: WeakKeyDictionary[nn.Module, dict[_Key, Engine | None]] = WeakKeyDictionary()
"""Engines by network. An engine does not refer to its network, so both can be freed."""


def engine_for(
    model: nn.Module,
    name: EngineName,
    channels: int,
    dtype: torch.dtype = torch.float32,
    report: Callable[[str], None] | None = None,
) -> Engine | None:
    """Return an engine that computes a network; None, with a warning, if it cannot.

    Args:
        model: the network, converted or not, in float32 on the CPU.
        name: of the engine.
        channels: of the images.
        dtype: that the engine computes in, float32 or bfloat16.
        report: called with one line before the network is exported, which takes a while.
    """
    key, threads = network_key(model, channels), torch.get_num_threads()
    known = _ENGINES.setdefault(model, {})
    if (name, key, threads, dtype) not in known:
        try:
            found: Engine | None = _opened(model, name, channels, key, threads, dtype, report)
        except GlocalError as error:
            warnings.warn(f"{name}: {error}; continuing in torch", GlocalWarning, stacklevel=3)
            found = None
        known[name, key, threads, dtype] = found
    return known[name, key, threads, dtype]


def _opened(
    model: nn.Module,
    name: EngineName,
    channels: int,
    key: str,
    threads: int,
    dtype: torch.dtype,
    report: Callable[[str], None] | None,
) -> Engine:
    with eval_mode(model, torch.device("cpu")), torch.no_grad():
        maps = _maps(model, channels)
        file = network_file(model, channels, key, report)
        engine = Engine(name, file, maps, threads, dtype)
        # Bytecode does not show all that a network computes: its file may be outdated.
        if not file.fresh and not engine.difference(model, channels) <= TOLERANCES[dtype]:
            file.delete()
            file = network_file(model, channels, key, report)
            engine = Engine(name, file, maps, threads, dtype)
    return engine


def _maps(model: nn.Module, channels: int) -> Maps:
    passes = two_passes_of(model)
    if passes is None:
        return ()
    recording = crops.Recording()
    with crops.running(recording):
        model(torch.zeros(1, channels, *passes.crop))
    return tuple((size, len(values)) for size, values in recording.results)
