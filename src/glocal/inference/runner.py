"""One network run on one tensor: device, mode, precision, padding, the choice of its output."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError, GlocalError

__all__ = [
    "Runner",
    "channels_of",
    "device_of",
    "eval_mode",
    "is_out_of_memory",
    "resolve_dtype",
]

_MULTIPLES = (1, 8, 16, 32, 64)
_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass
class Runner:
    """Runs the network on one tile: padding, precision, choice of the output, its checks."""

    model: nn.Module
    dtype: torch.dtype
    device: torch.device
    output: int | None
    multiple: int = field(default=1, init=False)
    form: torch.memory_format = field(init=False)

    def __post_init__(self) -> None:
        """Channels last on a CPU: no convolution is slower then, and many run twice as fast."""
        on_cpu = self.device.type == "cpu"
        self.form = torch.channels_last if on_cpu else torch.contiguous_format

    def __call__(self, x: Tensor) -> tuple[Tensor, int]:
        """(b, c, h, w) → the restored (b, c', s·h, s·w) and s."""
        refusal: Exception | None = None
        tried = set()
        for multiple in (m for m in _MULTIPLES if m >= self.multiple):
            missing = -x.shape[-2] % multiple, -x.shape[-1] % multiple
            if missing in tried:
                continue
            tried.add(missing)
            for form in dict.fromkeys((self.form, torch.contiguous_format)):
                try:
                    result = self._padded(x, missing, form)
                except GlocalError:
                    raise
                # A network may refuse a size in any way it likes; and one that takes a view of
                # its maps' memory refuses channels last.
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    refusal = refusal or error
                    continue
                if result is not None:
                    # the next tiles begin with what worked
                    self.multiple, self.form = multiple, form
                    return result
        if refusal is not None:
            raise refusal
        raise ArgumentError(
            f"the network's output for {tuple(x.shape)} is no whole multiple of that size; "
            "only networks that keep or enlarge the image can be run"
        )

    def _padded(
        self, x: Tensor, missing: tuple[int, int], form: torch.memory_format
    ) -> tuple[Tensor, int] | None:
        height, width = x.shape[-2:]
        padded = _reflect(_reflect(x, -2, missing[0]), -1, missing[1])
        result = self._choose(self._forward(padded, form))
        if result.ndim != 4 or result.shape[0] != x.shape[0]:
            raise ArgumentError(
                f"the network gave a tensor {tuple(result.shape)} for {tuple(x.shape)}; "
                "expected (b, c, h, w)"
            )
        scale = result.shape[-2] // padded.shape[-2]
        if scale < 1 or result.shape[-2:] != (padded.shape[-2] * scale, padded.shape[-1] * scale):
            return None
        return result[..., : height * scale, : width * scale], scale

    def _forward(self, x: Tensor, form: torch.memory_format) -> Any:
        own = _dtype_of(self.model)
        # a copy: networks that work in place must not reach the caller's image
        x = x.to(own, copy=True, memory_format=form)
        if self.dtype == own:
            return self.model(x)
        with torch.autocast(self.device.type, self.dtype):
            return self.model(x)

    def _choose(self, result: Any) -> Tensor:
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
    """What the network computes in: its own type, or a narrower one by autocast.

    Raises:
        ArgumentError: the type is unknown, or neither the network's own nor one of autocast's.
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
    """The device asked for, or the one the network is on."""
    if device is None:
        return next((p.device for p in model.parameters()), torch.device("cpu"))
    return torch.device(device)


def channels_of(model: nn.Module) -> int | None:
    """1 for a network with a convolution of one channel and none of three, else 3 (or None)."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        return None
    taken = {m.in_channels for m in convolutions if m.groups == 1}
    return 1 if 1 in taken and 3 not in taken else 3


@contextlib.contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The network on the device and in eval mode; the training flags are put back."""
    training = [module for module in model.modules() if module.training]
    if any(p.device != device for p in model.parameters()):
        model.to(device)
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, in any of torch's ways of saying so."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_WORDS)


def _reflect(x: Tensor, dim: int, missing: int) -> Tensor:
    """Append ``missing`` rows or columns by reflection, back and forth where they are many."""
    size = x.shape[dim]
    if missing == 0:
        return x
    period = max(2 * size - 2, 1)
    index = torch.arange(size + missing, device=x.device) % period
    return x.index_select(dim, torch.minimum(index, period - index) if size > 1 else index)
