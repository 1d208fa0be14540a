"""One forward pass: device, eval mode, precision, padding, choice of the output.

A network that takes statistics from crops runs twice. The runner lays out the crops itself, on the
image that was given, so that a crop has no part of the padding that the whole image needs.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from glocal.conversion.two_passes import two_passes_of
from glocal.devices import usable_device
from glocal.engines.engine import Engine
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.inference.tensors import reflected
from glocal.ops import crops
from glocal.ops.windows import Size, covers
from glocal.scanning.user_code import failure
from glocal.texts import one_line

__all__ = [
    "ModelRunner",
    "device_of",
    "is_out_of_memory",
    "resolve_dtype",
]

_MULTIPLES = (1, 8, 16, 32, 64)
"""Multiples that refused sizes are padded to, in turn."""

T = TypeVar("T")

_MEMORY_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad alloc",
    "bad_alloc",
    "failed to allocate",
)


@dataclass
class ModelRunner:
    """Runs a network at any size, in one precision, on one device, with one output.

    Attributes:
        model: the network.
        dtype: that it computes in; see `resolve_dtype`.
        device: where it runs.
        output: index of the output to take, None for networks with one output.
        grey_as_colour: repeat a grey image for three channels and average the result.
        engine: computes the images that it takes, in place of the network.
        multiple: sizes are padded to multiples of this; the first size that is refused raises it.
        memory_format: of the input. Channels last on a CPU: no convolution is slower, and many run
            twice as fast. Contiguous once the network has refused that.
    """

    model: nn.Module
    dtype: torch.dtype
    device: torch.device
    output: int | None = None
    grey_as_colour: bool = False
    engine: Engine | None = None
    multiple: int = field(default=1, init=False)
    memory_format: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        """Choose the memory format for the device."""
        on_cpu = self.device.type == "cpu"
        self.memory_format = torch.channels_last if on_cpu else torch.contiguous_format

    @property
    def runtime(self) -> str:
        """Name of the library that runs the network."""
        return "torch" if self.engine is None else self.engine.name

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
        runner.memory_format = self.memory_format

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
        result, scale = self(self.input_of(image))
        result = result.to(torch.promote_types(result.dtype, torch.float32))
        result = result.mean(1, keepdim=True) if self.grey_as_colour else result
        return result.to(image.device), scale

    def input_of(self, image: Tensor) -> Tensor:
        """The image as the network takes it: floats in [0, 1] and its channels, on the device."""
        # before the move, because a device may lack float64 and uint16
        x = image.to(_dtype_of(self.model) if image.is_floating_point() else torch.float32)
        x = x.to(self.device)
        x = x if image.is_floating_point() else x / torch.iinfo(image.dtype).max
        return x.expand(-1, 3, -1, -1) if self.grey_as_colour else x

    def __call__(self, x: Tensor) -> tuple[Tensor, int]:
        """Return the restored (b, c', s·h, s·w) of a (b, c, h, w), and the scale s.

        Raises:
            GlocalError: the network does not run on the image, even padded.
            ArgumentError: its output is not an image whose size is a whole multiple.
        """
        refusal: Exception | None = None
        tried = set()
        for multiple in (m for m in _MULTIPLES if m >= self.multiple):
            missing = -x.shape[-2] % multiple, -x.shape[-1] % multiple
            if missing in tried:
                continue
            tried.add(missing)
            for memory_format in dict.fromkeys((self.memory_format, torch.contiguous_format)):
                try:
                    result = self._padded(x, missing, memory_format)
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
                    self.multiple, self.memory_format = multiple, memory_format
                    return result
        if refusal is not None:
            raise GlocalError(
                f"the network does not run on {tuple(x.shape)}, even padded to a multiple of up to "
                f"{_MULTIPLES[-1]}: {failure(refusal)}"
            ) from refusal
        raise ArgumentError(
            f"the network's output for {tuple(x.shape)} is not a whole multiple of that size; "
            "use a network that keeps or enlarges the image"
        )

    def move_to_cpu(self) -> None:
        """Run on the CPU from now on."""
        self.device = torch.device("cpu")
        self.model.to("cpu")

    def _padded(
        self, x: Tensor, missing: tuple[int, int], memory_format: torch.memory_format
    ) -> tuple[Tensor, int] | None:
        """As `__call__`, on the image with ``missing`` rows and columns appended.

        None if the output is not of a whole multiple of the size.
        """
        height, width = x.shape[-2:]
        padded = reflected(reflected(x, -2, missing[0]), -1, missing[1])
        result = self._choose(self._forward(padded, memory_format))
        if result.ndim != 4 or result.shape[0] != x.shape[0]:
            raise ArgumentError(
                f"the network returned a tensor {tuple(result.shape)} for {tuple(x.shape)}; "
                "expected (b, c, h, w)"
            )
        scale = result.shape[-2] // padded.shape[-2]
        if scale < 1 or result.shape[-2:] != (padded.shape[-2] * scale, padded.shape[-1] * scale):
            return None
        return result[..., : height * scale, : width * scale], scale

    def _forward(self, x: Tensor, memory_format: torch.memory_format) -> Any:
        if self.engine is not None and self.engine.takes(x):
            found = self._in_engine(lambda engine: engine(x.float()))
            if found is not None:
                return found
        own = _dtype_of(self.model)
        # a copy: a network that works in place must not change the caller's image
        x = x.to(own, copy=True, memory_format=memory_format)
        if self.dtype == own:
            return self.model(x)
        with torch.autocast(self.device.type, self.dtype):
            return self.model(x)

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

    def _choose(self, result: Any) -> Tensor:
        """The chosen output, checked to be a tensor."""
        if isinstance(result, list | tuple):
            if self.output is None:
                shapes = [tuple(r.shape) if isinstance(r, Tensor) else type(r) for r in result]
                raise ArgumentError(
                    f"the network returns {len(result)} outputs, {shapes}; choose one with output="
                )
            if not -len(result) <= self.output < len(result):
                raise ArgumentError(
                    f"output={self.output}, but the network returns {len(result)} outputs"
                )
            result = result[self.output]
        elif self.output not in (None, 0, -1):
            raise ArgumentError(f"output={self.output}, but the network returns one output")
        if not isinstance(result, Tensor):
            raise ArgumentError(f"the network returned {type(result).__name__}, not a tensor")
        return result


def _dtype_of(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def resolve_dtype(model: nn.Module, dtype: torch.dtype | str | None) -> torch.dtype:
    """The dtype that the network computes in, by default its own.

    Raises:
        ArgumentError: the dtype is unknown, or neither the network's own nor one of autocast's.
    """
    own = _dtype_of(model)
    if dtype is None:
        return own
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    narrow = (torch.bfloat16, torch.float16)
    if chosen != own and not (own == torch.float32 and chosen in narrow):
        raise ArgumentError(
            f"dtype={dtype} for a network of {own}; give {own}"
            + (", bfloat16 or float16" if own == torch.float32 else " or convert the network first")
        )
    return chosen


def device_of(model: nn.Module, device: torch.device | str | None) -> torch.device:
    """The given device, or by default the one that the network is on.

    Raises:
        ArgumentError: torch cannot use the given device.
    """
    if device is None:
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    return usable_device(device)


def is_out_of_memory(error: BaseException) -> bool:
    """True if an error means that memory is exhausted; torch raises several kinds."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_WORDS)
