"""The training size that a network carries, so that callers need not pass it."""

from torch import nn

from glocal.errors import ArgumentError
from glocal.ops.windows import Size, as_size

__all__ = ["ATTRIBUTE", "carried_train_size", "resolve_train_size"]

ATTRIBUTE = "glocal_train_size"
"""Attribute of a network: side or (height, width) of its training crops, in pixels.

`glocal.load` sets it. A plain attribute survives `copy.deepcopy` and pickle, and is absent from
the state dict.
"""


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
