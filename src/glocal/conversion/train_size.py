"""The training size and window that a network carries, so that callers need not pass them."""

from torch import nn

from glocal.errors import ArgumentError
from glocal.ops.windows import Size, as_size

__all__ = [
    "ATTRIBUTE",
    "WINDOW_ATTRIBUTE",
    "carried_train_size",
    "resolve_train_size",
    "resolve_window",
]

ATTRIBUTE = "glocal_train_size"
"""Attribute of a network: side or (height, width) of its training crops, in pixels.

`glocal.load` sets it. A plain attribute survives `copy.deepcopy` and pickle, and is absent from
the state dict.
"""

WINDOW_ATTRIBUTE = "glocal_window"
"""Attribute of a network: side or (height, width) of the window that serves it best, in pixels."""

WINDOW_SCALE = 1.5
"""Window ÷ training size, where no window is known; the paper's."""


def carried_train_size(model: nn.Module) -> Size | None:
    """Return the (height, width) that a network carries, None if it carries none.

    Raises:
        ArgumentError: the attribute is not a size.
    """
    value = getattr(model, ATTRIBUTE, None)
    return None if value is None else as_size(value, ATTRIBUTE)


def resolve_train_size(model: nn.Module, train_size: int | Size | None) -> Size:
    """Return a training size as (height, width), by default the one of the model.

    >>> model = nn.InstanceNorm2d(3)
    >>> model.glocal_train_size = 64
    >>> resolve_train_size(model, None), resolve_train_size(model, 256)
    ((64, 64), (256, 256))

    Raises:
        ArgumentError: the size is not positive, or neither the caller nor the model gives one.
    """
    if train_size is not None:
        return as_size(train_size, "train_size")
    size = carried_train_size(model)
    if size is None:
        raise ArgumentError(
            f"the training size of this {type(model).__name__} is unknown; pass train_size, the "
            "side or (height, width) of its training crops in pixels\n"
            "(gt_size, patch_size or crop_size in its training options; 256 for most models "
            "trained on GoPro)"
        )
    return size


def resolve_window(
    model: nn.Module, train_size: Size, window: int | Size | None, scale: float | None
) -> Size:
    """Return a window as (height, width), by default the one of the model, else 1.5 × the crops.

    >>> model = nn.InstanceNorm2d(3)
    >>> model.glocal_train_size, model.glocal_window = 64, 80
    >>> resolve_window(model, (64, 64), None, None), resolve_window(model, (32, 32), None, None)
    ((80, 80), (48, 48))

    Args:
        model: its window counts for its own training size only.
        train_size: in pixels.
        window: the window, if the caller gives it.
        scale: window ÷ training size, if the caller gives that.

    Raises:
        ArgumentError: a value is not positive, or the window of the model is no size.
    """
    if window is not None:
        return as_size(window, "window")
    if scale is None and carried_train_size(model) == train_size:
        stated = getattr(model, WINDOW_ATTRIBUTE, None)
        if stated is not None:
            return as_size(stated, WINDOW_ATTRIBUTE)
    scale = WINDOW_SCALE if scale is None else scale
    if not scale > 0:
        raise ArgumentError(f"window_scale must be above 0, got {scale!r}")
    return max(1, int(train_size[0] * scale)), max(1, int(train_size[1] * scale))
