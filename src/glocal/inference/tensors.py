"""Convert images of any layout and dtype to (b, c, h, w) tensors and back."""

import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from glocal.errors import ArgumentError, GlocalWarning

__all__ = ["AnyImage", "as_batch", "checked_finite", "reflected", "warn_not_finite"]

AnyImage = TypeVar("AnyImage", Tensor, np.ndarray)


def as_batch(image: AnyImage) -> tuple[Tensor, Callable[[Tensor], AnyImage]]:
    """Return the image as (b, c, h, w), and a function from floats back to its form.

    Raises:
        ArgumentError: the shape or dtype is not that of an image.
    """
    kind = "array" if isinstance(image, np.ndarray) else "tensor"
    ndims = (2, 3) if kind == "array" else (3, 4)
    if image.ndim not in ndims or 0 in image.shape:
        raise ArgumentError(
            f"the image is a {kind} of shape {tuple(image.shape)}; expected "
            + ("(h, w) or (h, w, c)" if kind == "array" else "(c, h, w) or (b, c, h, w)")
        )
    if isinstance(image, Tensor):
        if not image.is_floating_point():
            raise ArgumentError(
                f"the image is a tensor of {image.dtype}; expected floats in [0, 1]"
            )
        shape = image.shape

        def to_tensor(x: Tensor) -> Tensor:
            # a clone made outside of inference mode can take part in autograd again
            with torch.inference_mode(False):
                return x.reshape(*shape[:-3], *x.shape[1:]).to(image.dtype).clone()

        return image.reshape(-1, *shape[-3:]), to_tensor

    native = image.dtype.newbyteorder("=")
    if native not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise ArgumentError(
            f"the image is an array of {image.dtype}; expected uint8, uint16 or floats"
        )
    writable = np.require(image, native, ["C", "W"])
    source = torch.from_numpy(writable if image.ndim == 3 else writable[..., None])

    def to_array(x: Tensor) -> np.ndarray:
        if native.kind == "u":
            peak = np.iinfo(native).max
            x = x.nan_to_num()  # this copies, so the next steps may work in place
            x = x.clamp_(0, 1).mul_(peak).round_()
        pixels = x[0].permute(1, 2, 0).cpu().numpy().astype(native)
        return np.ascontiguousarray(pixels if image.ndim == 3 else pixels[..., 0])

    return source.permute(2, 0, 1)[None], to_array


def checked_finite(x: Tensor) -> Tensor:
    """The tensor itself; warns if it has values that are not finite."""
    if not torch.isfinite(x).all():
        warn_not_finite()
    return x


def warn_not_finite() -> None:
    """Warn that the network returned values that are not finite."""
    warnings.warn(
        "the network returned values that are not finite; try dtype float32 if it ran in half "
        "precision",
        GlocalWarning,
        stacklevel=4,
    )


def reflected(x: Tensor, dim: int, missing: int) -> Tensor:
    """Append ``missing`` rows or columns by reflection, repeatedly if needed."""
    size = x.shape[dim]
    if missing == 0:
        return x
    period = max(2 * size - 2, 1)
    index = torch.arange(size + missing, device=x.device) % period
    return x.index_select(dim, torch.minimum(index, period - index) if size > 1 else index)
