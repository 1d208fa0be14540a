"""One forward pass: device, eval mode, precision, padding, choice of the output.

A network that takes statistics from crops runs twice. The runner lays out the crops itself, on the
image that was given, so that a crop has no part of the padding that the whole image needs.

Above 300 lines: one class, whose parts share what is known of the network.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from glocal.conversion.inside import known_train_size
from glocal.conversion.two_passes import two_passes_of
from glocal.engines.engine import Engine
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.accepted import Accepted, Law, Padding, accepted_sizes
from glocal.inference.colours import Colours, as_image, as_input
from glocal.inference.inputs import Extra, arguments
from glocal.inference.not_finite import NotFiniteError, first_not_finite
from glocal.inference.outputs import chosen_output
from glocal.inference.placing import dtype_of
from glocal.inference.tensors import as_floats
from glocal.ops import crops
from glocal.ops.windows import Size, covers
from glocal.scanning.user_code import failure
from glocal.shortages import is_out_of_memory
from glocal.texts import one_line, size_text

__all__ = ["ModelRunner"]

_ACCEPTED: WeakKeyDictionary[nn.Module, Accepted] = WeakKeyDictionary()
"""What networks accept that have refused a size, as far as is known."""

T = TypeVar("T")


@dataclass
class ModelRunner:
    """Runs a network at any size, in one precision, on one device, with one output.

    Attributes:
        model: the network.
        dtype: that it computes in; see `resolve_dtype`.
        device: where it runs.
        output: name or index of the output to take, None for networks with one output.
        colours: how images become inputs of the network.
        extras: inputs beside the image.
        channels: of the images, without maps of extra inputs.
        strength: share of the result; the rest is the image itself.
        engine: computes the images that it takes, in place of the network.
        accepted: sizes that images are padded to; searched when the network refuses a size.
        memory_format: of the input. Channels last on a CPU: no convolution is slower, and many run
            twice as fast. Contiguous once the network has refused that.
    """

    model: nn.Module
    dtype: torch.dtype
    device: torch.device
    output: int | str | None = None
    colours: Colours = "same"
    extras: tuple[Extra, ...] = ()
    channels: int = 0
    engine: Engine | None = None
    strength: float = 1.0
    accepted: Accepted = field(init=False)
    memory_format: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        """Choose the memory format for the device, and recall what the network accepts."""
        self.accepted = _ACCEPTED.get(self.model, Accepted())
        on_cpu = self.device.type == "cpu"
        self.memory_format = torch.channels_last if on_cpu else torch.contiguous_format

    @property
    def runtime(self) -> str:
        """Name of the library that runs the network."""
        return "torch" if self.engine is None else self.engine.name

    @property
    def taken_channels(self) -> int:
        """Channels of the images that the network gets."""
        return {"same": self.channels, "repeat": 3, "channels": 1, "luma": 1}[self.colours]

    def restore(self, image: Tensor) -> tuple[Tensor, int]:
        """The restored image and the scale, as `__call__`, for any dtype and device.

        Args:
            image: (b, c, h, w): floats in [0, 1], or unsigned integers over their whole range.

        Returns:
            (b, c, s·h, s·w) in float32 or wider on the image's device, and s.
        """
        passes = two_passes_of(self.model)
        if passes is None or crops.is_running():
            return self._restored(image)
        size = image.shape[-2], image.shape[-1]
        is_crop = covers(passes.crop, size)
        at_once = math.prod(size) // math.prod(passes.crop)
        found = None if is_crop else self.statistics(size, lambda y, x: image[..., y, x], at_once)
        with crops.running(crops.Recording() if found is None else crops.Replay(found)):
            return self._restored(image)

    def statistics(
        self, size: Size, read: Callable[[slice, slice], Tensor], at_once: float
    ) -> crops.CropStatistics | None:
        """Return statistics from crops of an image; None if the network uses windows.

        Args:
            size: (height, width) of the image.
            read: rows and columns of the image, for `restore`.
            at_once: most crops in a call.
        """
        passes = two_passes_of(self.model)
        if passes is None:
            return None
        grid = crops.CropGrid.on(size, passes.crop, passes.stride)
        runner = replace(self)  # another one, which does not pad crops as other sizes had to be
        runner.accepted, runner.memory_format = Accepted(), self.memory_format

        def run(places: list[tuple[slice, slice]]) -> None:
            parts = torch.cat([read(*place) for place in places])
            results = runner._in_engine(lambda engine: engine.on_crops(runner.input_of(parts)))
            if results is None:
                runner.restore(parts)
            else:
                crops.record(results)

        return crops.gather(grid, max(1, int(at_once)), run)

    def _restored(self, image: Tensor) -> tuple[Tensor, int]:
        """As `restore`, in the pass that is running."""
        x = self.input_of(image)
        result, scale = self(x)
        if not bool(torch.isfinite(result).all()):
            raise NotFiniteError(self._not_finite(x))
        result = result.to(torch.promote_types(result.dtype, torch.float32))
        if self.colours != "same":
            result = as_image(result, self._split(image)[0], self.colours)
        result = result.to(image.device)
        return (result if self.strength == 1 else self._blended(image, result)), scale

    def _not_finite(self, x: Tensor) -> str:
        """Say which layer first makes values that are not finite of an input."""
        text = "the network makes values that are not numbers (NaN or infinite)"
        alone = replace(self, engine=None)
        where = first_not_finite(self.model, lambda: alone(x))
        if where is None and self.engine is not None:
            return f"{text} in {self.engine.name}, though not in torch; use the runtime torch"
        narrow = torch.finfo(self.dtype).bits < 32
        remedy = f"; it ran in {str(self.dtype).removeprefix('torch.')}: try float32"
        return text + (f", first in {where}" if where else "") + remedy * narrow

    def _blended(self, image: Tensor, result: Tensor) -> Tensor:
        """The result, weighted by `strength`, and the image.

        Raises:
            ArgumentError: they differ in size or channels.
        """
        channels = self.channels if self.extras else image.shape[1]
        own = as_floats(image[:, :channels])
        if own.shape != result.shape:
            raise ArgumentError(
                f"strength needs a result of the image's size and channels; the network makes "
                f"{tuple(result.shape[1:])} of {tuple(own.shape[1:])} (channels, height, width)"
            )
        return torch.lerp(own.to(result.dtype), result, self.strength)

    def input_of(self, image: Tensor) -> Tensor:
        """The image as the network takes it: floats in [0, 1] and its channels, on the device."""
        x, maps = self._split(image)
        if self.colours == "same":
            return torch.cat([x, maps], 1) if maps.shape[1] else x
        x = as_input(x, self.colours)
        return torch.cat([x, maps.repeat_interleave(len(x) // len(maps), 0)], 1)

    def _split(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The image in floats on the device, and maps of extra inputs."""
        # before the move, because a device may lack float64 and uint16
        x = image.to(dtype_of(self.model) if image.is_floating_point() else torch.float32)
        x = x.to(self.device)
        x = x if image.is_floating_point() else x / torch.iinfo(image.dtype).max
        channels = self.channels if self.extras else x.shape[1]
        return x[:, :channels], x[:, channels:]

    def __call__(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the restored (b, c', s·h, s·w) of a (b, c, h, w), and the scale s.

        Raises:
            GlocalError: the network does not run on the image, even padded.
            ArgumentError: its output is not an image whose size is a whole multiple.
        """
        size = x.shape[-2], x.shape[-1]
        refusal: Exception | None = None
        tried: dict[Padding, None] = {}
        for accepted in self._possible(x):
            padding = accepted.padding(size)
            if padding in tried:
                continue
            tried[padding] = None
            for memory_format in dict.fromkeys((self.memory_format, torch.contiguous_format)):
                try:
                    result = self._padded(x, accepted, memory_format)
                except GlocalError:
                    raise
                # A network may refuse a size with any exception; one that takes views of its
                # feature maps refuses channels last.
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    refusal = refusal or error
                    continue
                if result is not None:
                    # the next tiles begin with the padding and format that worked
                    self.memory_format = memory_format
                    if accepted != self.accepted:
                        self.accepted = accepted
                        if not crops.is_running() or crops.is_replaying():
                            _ACCEPTED[self.model] = accepted
                    return result
        if refusal is not None:
            padded = [each.size(size) for each in tried][1:]
            even = f", nor padded to {' or '.join(map(size_text, padded))}" if padded else ""
            raise GlocalError(
                f"the network does not run on {tuple(x.shape)}{even}: {failure(refusal)}"
            ) from refusal
        raise ArgumentError(
            f"the network's output for {tuple(x.shape)} is not a whole multiple of that size; "
            "use a network that keeps or enlarges the image"
        )

    def learn(self, read: Callable[[slice, slice], Tensor], size: Size) -> None:
        """Find what sizes the network accepts before an image is cut into tiles.

        Args:
            read: rows and columns of the image, for `restore`.
            size: (height, width) of the image.
        """
        if self.model in _ACCEPTED:
            return
        train = known_train_size(self.model) or (64, 64)
        # odd sizes, which a network that takes multiples refuses
        rows, columns = (min(n, t | 1) for n, t in zip(size, train, strict=True))
        part = read(slice(0, rows), slice(0, columns))
        recording = crops.Recording() if two_passes_of(self.model) else None
        try:
            with crops.running(recording) if recording else contextlib.nullcontext():
                self(self.input_of(part))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return  # the tiles will show it, or run elsewhere
        _ACCEPTED[self.model] = self.accepted

    def _possible(self, x: Tensor) -> Iterator[Accepted]:
        """Yield sizes that the network may accept: what is known, then what a search finds."""
        yield self.accepted
        yield from accepted_sizes(
            lambda size: self._output_size(x, size), known_train_size(self.model)
        )

    def _output_size(self, x: Tensor, size: Size) -> Size:
        """Run torch on an image of zeros of another size; return (height, width) of the output."""
        blank = x.new_zeros(1, x.shape[1], *size)
        alone = replace(self, engine=None)
        recording = crops.Recording() if two_passes_of(self.model) else None
        with crops.running(recording) if recording else contextlib.nullcontext():
            result = alone._chosen(alone._forward(blank, torch.contiguous_format), blank)
        return result.shape[-2], result.shape[-1]

    def move_to_cpu(self) -> None:
        """Run on the CPU from now on."""
        self.device = torch.device("cpu")
        self.model.to("cpu")

    def _padded(
        self, x: Tensor, accepted: Accepted, memory_format: torch.memory_format
    ) -> tuple[Tensor, int] | None:
        """As `__call__`, on the image padded to a size that is accepted.

        None if the output is not of the expected size.
        """
        height, width = x.shape[-2:]
        padding = accepted.padding((height, width))
        padded = padding(x)
        result = self._chosen(self._forward(padded, memory_format), padded)
        size, found = padded.shape[-2:], (result.shape[-2], result.shape[-1])
        law = accepted.law or Law.of((size[0], size[1]), found)
        if law is None or law.output((size[0], size[1])) != found:
            return None
        top, left = (
            before * law.scale - lost // 2
            for before, lost in zip(padding.before, law.lost, strict=True)
        )
        result = result[..., top : top + height * law.scale, left : left + width * law.scale]
        return result, law.scale

    def _forward(self, x: Tensor, memory_format: torch.memory_format) -> Any:
        if self.engine is not None and self.engine.takes(x):
            found = self._in_engine(lambda engine: engine(x.float()))
            if found is not None:
                return found
        own = dtype_of(self.model)
        # a copy: a network that works in place must not change the caller's image
        x = x.to(own, copy=True, memory_format=memory_format)
        named: dict[str, Tensor] = {}
        if self.extras:
            maps = sum(extra.channels for extra in self.extras)
            x, named = arguments(x, self.extras, x.shape[1] - maps)
        if self.dtype == own:
            return self.model(x, **named)
        with torch.autocast(self.device.type, self.dtype):
            return self.model(x, **named)

    def _in_engine(self, compute: Callable[[Engine], T | None]) -> T | None:
        """What an engine computes; None without one, and after a failure, which removes it."""
        if self.engine is None:
            return None
        try:
            return compute(self.engine)
        except Exception as error:  # an engine may raise any exception
            if is_out_of_memory(error):
                raise
            name, self.engine = self.engine.name, None
            warnings.warn(
                f"{name} failed ({one_line(error)}); continuing in torch",
                GlocalWarning,
                stacklevel=2,
            )
            return None

    def _chosen(self, result: Any, x: Tensor) -> Tensor:
        """The chosen output for an input, checked to be images."""
        found = chosen_output(result, self.output)
        if found.ndim != 4 or found.shape[0] != x.shape[0]:
            raise ArgumentError(
                f"the network returned a tensor {tuple(found.shape)} for {tuple(x.shape)}; "
                "expected (b, c, h, w)"
            )
        return found
