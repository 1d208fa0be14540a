"""Convert images of any layout and dtype to (b, c, h, w) tensors and back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from glocal.arrays import layout_mistake, range_mistake
from glocal.errors import ArgumentError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["AnyImage", "as_batch", "as_floats", "reflected"]

AnyImage = TypeVar("AnyImage", bound="Tensor | np.ndarray[Any, Any] | Image")


def as_batch(image: AnyImage) -> tuple[Tensor, Callable[[Tensor], AnyImage]]:
    """Return the image as (b, c, h, w), and a function from floats back to its form.

    Raises:
        ArgumentError: it is no array or tensor, its shape or dtype is not that of an image, its
            channels seem to be in the wrong place, or its floats are far outside [0, 1].
    """
    if isinstance(image, Tensor):
        found: tuple[Tensor, Callable[[Tensor], Any]] = _of_tensor(image)
    elif isinstance(image, np.ndarray):
        found = _of_array(image)
    else:
        _refuse_object(image)
    return cast("tuple[Tensor, Callable[[Tensor], AnyImage]]", found)


def _of_tensor(image: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    shape = image.shape
    what = f"the image is a tensor of shape {tuple(shape)}"
    if image.ndim not in (3, 4) or 0 in shape:
        raise ArgumentError(f"{what}; expected (c, h, w) or (b, c, h, w)")
    if not image.is_floating_point():
        raise ArgumentError(
            f"the image is a tensor of {image.dtype}; expected floats in [0, 1]: pass "
            "image.float() / 255 if white is 255"
        )
    if image.is_meta:
        raise ArgumentError(f"{what} on the meta device, which holds no values")
    if mistake := layout_mistake(shape, channels_last=False):
        raise ArgumentError(f"{what}; expected (c, h, w) or (b, c, h, w): {mistake}")
    _check_range(image)

    def to_tensor(x: Tensor) -> Tensor:
        # a clone made outside of inference mode can take part in autograd again
        with torch.inference_mode(False):
            return x.reshape(*shape[:-3], *x.shape[1:]).to(image.dtype).clone()

    return image.reshape(-1, *shape[-3:]), to_tensor


def _of_array(image: np.ndarray) -> tuple[Tensor, Callable[[Tensor], np.ndarray]]:
    what = f"the image is an array of shape {image.shape}"
    if image.ndim not in (2, 3) or 0 in image.shape:
        hint = "; pass a batch as a tensor (b, c, h, w)" if image.ndim == 4 else ""
        raise ArgumentError(f"{what}; expected (h, w) or (h, w, c){hint}")
    native = image.dtype.newbyteorder("=")
    if native not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        hint = {
            "b": ": pass image * numpy.uint8(255)",
            "i": ": pass image.astype(numpy.uint8) if white is 255",
            "u": ": pass image.astype(numpy.uint8) if white is 255",
        }.get(native.kind, "")
        raise ArgumentError(
            f"the image is an array of {image.dtype}; expected uint8, uint16 or floats in [0, 1]"
            f"{hint}"
        )
    if mistake := layout_mistake(image.shape, channels_last=True):
        raise ArgumentError(f"{what}; expected (h, w) or (h, w, c): {mistake}")
    writable = np.require(image, native, ["C", "W"])
    source = torch.from_numpy(writable if image.ndim == 3 else writable[..., None])
    if native.kind == "f":
        _check_range(source)

    def to_array(x: Tensor) -> np.ndarray:
        if native.kind == "u":
            peak = np.iinfo(native).max
            x = x.nan_to_num()  # this copies, so the next steps may work in place
            x = x.clamp_(0, 1).mul_(peak).round_()
        pixels = x[0].permute(1, 2, 0).cpu().numpy().astype(native)
        return np.ascontiguousarray(pixels if image.ndim == 3 else pixels[..., 0])

    return source.permute(2, 0, 1)[None], to_array


def _check_range(image: Tensor) -> None:
    least, most = image.detach().aminmax()
    if mistake := range_mistake(least.item(), most.item()):
        raise ArgumentError(f"the image is of {image.dtype}, and {mistake}")


def _refuse_object(image: object) -> NoReturn:
    """Raise the error for what is neither an array nor a tensor."""
    raise ArgumentError(
        f"the image is a {type(image).__name__}; expected a tensor (c, h, w), an array (h, w, c) "
        "a Pillow image, a path, or a list of them"
    )


def as_floats(x: Tensor) -> Tensor:
    """The tensor itself, or unsigned integers scaled to [0, 1] in float32."""
    return x if x.is_floating_point() else x.to(torch.float32) / torch.iinfo(x.dtype).max


def reflected(x: Tensor, dim: int, missing: int) -> Tensor:
    """Append ``missing`` rows or columns by reflection, repeatedly if needed."""
    size = x.shape[dim]
    if missing == 0:
        return x
    period = max(2 * size - 2, 1)
    index = torch.arange(size + missing, device=x.device) % period
    return x.index_select(dim, torch.minimum(index, period - index) if size > 1 else index)
