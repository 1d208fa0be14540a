"""Figures of the gallery, legible on the light and on the dark theme."""

from typing import Any

GREY = "#7d8794"


def apply(gallery_conf: dict[str, Any], name: str) -> None:
    """Set colours and sizes before each example."""
    from matplotlib import pyplot, rcsetup

    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    cycle = rcsetup.cycler(color=["#2f8fe0", "#2f9e62", "#e0523f", "#d08b1d", GREY])
    pyplot.rcParams.update(
        dict.fromkeys(colours, GREY)
        | {
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "legend.facecolor": "none",
            "legend.framealpha": 0,
            "axes.prop_cycle": cycle,
            "font.size": 10,
            "figure.constrained_layout.use": True,
        }
    )
