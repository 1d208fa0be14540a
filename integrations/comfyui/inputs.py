"""Inputs that several nodes have, and what they mean to glocal."""

from typing import Any

from comfy_api.latest import io

__all__ = ["STATISTICS", "TRAIN_SIZE", "WINDOW", "conversion"]

_MOST_PIXELS = 65_536  # a side

TRAIN_SIZE = io.Int.Input(
    "train_size",
    default=256,
    min=0,
    max=_MOST_PIXELS,
    tooltip=(
        "Side of the crops that the model was trained on, in pixels (gt_size, patch_size or "
        "crop_size in its training options): 256 for most models trained on GoPro. 0: as the "
        "model states."
    ),
)
WINDOW = io.Int.Input(
    "window",
    default=0,
    min=0,
    max=_MOST_PIXELS,
    tooltip="Side of the windows in pixels. 0: automatic, 1.5 × the training size.",
)
STATISTICS = io.Combo.Input(
    "statistics",
    options=["auto", "windows", "crops"],
    default="auto",
    tooltip=(
        "Where statistics come from: windows around each pixel (TLC), crops of the training size, "
        "or, auto, what suits each kind of operation: norms and attention from crops, pools from "
        "windows."
    ),
)


def conversion(train_size: int, window: int, statistics: str) -> dict[str, Any]:
    """Return the arguments of `glocal.localize` that these inputs mean."""
    return {
        "train_size": train_size or None,
        "window": window or None,
        "statistics": statistics,
    }
