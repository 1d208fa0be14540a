"""Draw the figures of the guides, as SVG that takes its colours from the page around it.

    python docs/drawings/draw.py

The pages include the files as they are, so that text and lines follow the light or dark theme of the
site; on their own they are dark on white. `tests/docs` compares the files with what this writes.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

IMAGES = Path(__file__).resolve().parents[1] / "images"

TEXT = "var(--color-foreground-primary, #1f2328)"
SOFT = "var(--color-foreground-secondary, #59636e)"
GROUND = "var(--color-background-secondary, #f6f8fa)"
LINE = "var(--color-foreground-muted, #818b98)"
BLUE, GREEN, RED, AMBER = "#2f8fe0", "#2f9e62", "#e0523f", "#d08b1d"

Box = tuple[float, float, float, float]  # x, y, width, height


def text(x: float, y: float, words: str, *, size: int = 14, fill: str = TEXT, **more: str) -> str:
    """Return a line of text; `anchor` and `weight` as in SVG."""
    anchor, weight = more.get("anchor", "start"), more.get("weight", "normal")
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" '
        f'font-weight="{weight}" style="fill:{fill}">{words}</text>'
    )


def lines(x: float, y: float, several: Iterable[str], **more: str) -> str:
    """Return lines of small text below each other."""
    return "".join(
        text(x, y + 18 * i, each, size=13, fill=SOFT, **more) for i, each in enumerate(several)
    )


def rectangle(
    box: Box,
    stroke: str,
    fill: str = "none",
    *,
    width: float = 2,
    dash: str = "",
    radius: float = 3,
) -> str:
    """Return a rectangle."""
    x, y, w, h = box
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius:g}" stroke-width="{width:g}"'
        + (f' stroke-dasharray="{dash}"' if dash else "")
        + f' style="stroke:{stroke};fill:{fill}"/>'
    )


def dot(x: float, y: float, fill: str = RED, radius: float = 4.5) -> str:
    """Return a filled circle with a light rim, visible on any ground."""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="#fff" stroke-width="1.5"/>'


def path(
    points: Iterable[tuple[float, float]],
    stroke: str,
    fill: str = "none",
    width: float = 2,
    **more: str,
) -> str:
    """Return a line through points; `dash` as in SVG, `closed` fills it."""
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{more["dash"]}"' if "dash" in more else ""
    return f'<path d="{d}" stroke-width="{width:g}"{dash} style="stroke:{stroke};fill:{fill}"/>'


def arrow(x0: float, y0: float, x1: float, y1: float, stroke: str = LINE) -> str:
    """Return an arrow."""
    angle = math.atan2(y1 - y0, x1 - x0)
    wings = [
        (x1 - 9 * math.cos(angle + side), y1 - 9 * math.sin(angle + side)) for side in (0.45, -0.45)
    ]
    return path([(x0, y0), (x1, y1)], stroke) + path([wings[0], (x1, y1), wings[1]], stroke)


def photograph(box: Box) -> str:
    """Return a small landscape, the photograph of the drawings."""
    x, y, w, h = box

    def at(points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x + px * w:.1f},{y + py * h:.1f}" for px, py in points)

    far = [(0, 0.62), (0.16, 0.44), (0.3, 0.56), (0.48, 0.33), (0.7, 0.58), (0.84, 0.46), (1, 0.6)]
    near = [(0, 0.8), (0.22, 0.7), (0.5, 0.82), (0.78, 0.68), (1, 0.78)]
    corners = [(1, 1), (0, 1)]
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" fill="#a9c6e0"/>'
        f'<circle cx="{x + 0.8 * w:g}" cy="{y + 0.2 * h:g}" r="{0.08 * h:g}" fill="#f3dc9a"/>'
        f'<polygon points="{at([*far, *corners])}" fill="#7f98ad"/>'
        f'<polygon points="{at([*near, *corners])}" fill="#64795f"/>'
        + rectangle(box, LINE, width=1.2, radius=0)
    )


def bell(
    box: Box, centre: float, spread: float, stroke: str, fill: str = "none", dash: str = ""
) -> str:
    """Return a density over the box; centre and spread as shares of its width."""
    x, y, w, h = box
    shares = [i / 60 for i in range(61)]
    points = [(x + s * w, y + h - h * math.exp(-(((s - centre) / spread) ** 2))) for s in shares]
    return path(points, stroke, fill, **({"dash": dash} if dash else {}))


def svg(width: int, height: int, title: str, *parts: str) -> str:
    """Return a drawing."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, -apple-system, Segoe UI, sans-serif">\n<title>{title}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def three_panels() -> str:
    """Where the statistic of a pixel comes from: the image, its window, the crops around it."""
    parts = []
    panels = (
        ("full image", RED, 0.74, 0.05, ["One statistic of all pixels.", "Every pixel gets the same", "value, far from training."]),
        ("window (TLC)", BLUE, 0.53, 0.17, ["Each pixel takes the", "statistic of its own window,", "of about the training size."]),
        ("crops", GREEN, 0.44, 0.17, ["Crops run as in training;", "each pixel interpolates what", "the crops around it gave."]),
    )  # fmt: skip
    for number, (name, colour, centre, spread, words) in enumerate(panels):
        x = 20 + 285 * number
        image: Box = (x, 44, 240, 160)
        px, py = x + 96, 136
        parts += [text(x, 28, name, size=17, weight="600", fill=colour), photograph(image)]
        if name == "full image":
            parts.append(rectangle((x + 2, 46, 236, 156), colour, colour + "2e", width=3))
        elif name == "crops":
            boxes = [(x + 1 + 76.5 * i, 45 + 76.5 * j, 85, 81.5) for j in (0, 1) for i in (0, 1, 2)]
            parts += [rectangle(box, colour, colour + "22", width=1.6) for box in boxes]
            centres = [
                (bx + w / 2, by + h / 2) for bx, by, w, h in (boxes[i] for i in (0, 1, 3, 4))
            ]
            parts += [
                path([(px, py), centre_], colour, width=1.6, dash="4 3") for centre_ in centres
            ]
            parts += [dot(*centre_, colour, 3.5) for centre_ in centres]
        else:
            parts.append(rectangle((px - 52, py - 52, 104, 104), colour, colour + "38", width=2.5))
        parts.append(dot(px, py))
        axis: Box = (x, 226, 240, 62)
        parts += [
            bell(axis, 0.44, 0.17, LINE, "#88888830"),
            bell(axis, centre, spread, colour, dash="" if name != "crops" else "6 4"),
            path([(x, 288), (x + 240, 288)], LINE, width=1.2),
            lines(x, 310, words),
        ]
    parts.append(
        text(
            20,
            372,
            "Curves: the statistic of a layer in training (grey) and when the network runs (colour).",
            size=12,
            fill=SOFT,
        )
    )
    return svg(
        870,
        384,
        "Where the statistic of a pixel comes from: the full image, its window, or crops",
        *parts,
    )


def train_and_run() -> str:
    """A crop is a small part of a photograph."""
    image: Box = (330, 40, 300, 200)
    return svg(
        650, 310, "A network learns on crops and runs on whole photographs",
        text(20, 26, "training", size=16, weight="600"), text(330, 26, "use", size=16, weight="600"),
        *(photograph((20 + 84 * i, 84 + 10 * (i % 2), 72, 72)) for i in range(3)),
        lines(20, 196, ["Small crops: in each of them the", "mean over all pixels is a mean over", "256 × 256 pixels."]),
        photograph(image), rectangle((462, 128, 58, 52), AMBER, AMBER + "30", dash="5 3"),
        lines(330, 262, ["The whole photograph: the same mean covers", "14 times as many pixels, and takes values that", "training never showed."]),
        arrow(278, 128, 318, 128),
    )  # fmt: skip


def border() -> str:
    """The window of a pixel near the border is the nearest one inside the map."""
    x, y, step = 24, 44, 22
    grid = [
        rectangle((x + step * i, y + step * j, step, step), LINE, width=0.8, radius=0)
        for j in range(8)
        for i in range(16)
    ]
    # the window of each pixel, and the pixel itself, in cells
    shown = (
        ("inside", BLUE, 5, 2, 7, 4),
        ("at the border", AMBER, 11, 3, 14, 4),
        ("in the corner", RED, 0, 3, 0, 7),
    )
    parts = [*grid]
    for number, (name, colour, left, top, px, py) in enumerate(shown):
        parts.append(
            rectangle(
                (x + step * left, y + step * top, 5 * step, 5 * step),
                colour,
                colour + "30",
                width=2.5,
            )
        )
        parts += [dot(x + step * (px + 0.5), y + step * (py + 0.5), colour, 6)]
        parts += [
            rectangle((420, 62 + 44 * number, 18, 18), colour, colour + "30"),
            text(448, 76 + 44 * number, name),
        ]
    return svg(
        640, 290, "Windows of pixels in the middle, at the border and in the corner of a map",
        text(24, 28, "A map of 8 × 16 pixels, windows of 5 × 5", size=16, weight="600"), *parts,
        lines(24, 246, ["The window of a pixel is the nearest one that lies inside the map: no window is cut off,", "and none contains padding. Pixels near the border share a window."]),
    )  # fmt: skip


def two_passes() -> str:
    """Statistics from crops: the network runs on crops, then on the image."""

    def network(x: float, y: float) -> str:
        bars = [
            rectangle(
                (x + 16 * i, y + 6 * abs(i - 2), 11, 78 - 12 * abs(i - 2)), LINE, GROUND, width=1.4
            )
            for i in range(5)
        ]
        return "".join(bars) + rectangle((x + 32, y, 11, 78), GREEN, GREEN + "40", width=2)

    crops = [(20 + 46 * (i % 3), 66 + 46 * (i // 3), 40, 40) for i in range(6)]
    return svg(
        800, 330, "Statistics from crops: two passes of the network",
        text(20, 30, "1  on crops, as in training", size=16, weight="600", fill=GREEN),
        *(photograph(box) + rectangle(box, GREEN, width=1.6) for box in crops),
        arrow(166, 110, 200, 110), network(212, 70), arrow(302, 110, 338, 110),
        *(rectangle((350 + 26 * (i % 3), 84 + 26 * (i // 3), 22, 22), GREEN, GREEN + f"{40 + 12 * i:02x}") for i in range(6)),
        lines(440, 90, ["What each global operation computed", "on each crop is recorded, and laid out", "where the crops lie in the image."]),
        text(20, 204, "2  on the whole image", size=16, weight="600", fill=BLUE),
        photograph((20, 218, 132, 90)), arrow(166, 262, 200, 262), network(212, 222), arrow(302, 262, 338, 262),
        photograph((350, 218, 132, 90)),
        path([(389, 140), (389, 178), (249, 178)], GREEN, dash="5 4"), arrow(249, 178, 249, 216, GREEN),
        lines(504, 250, ["The operations take the recorded values,", "interpolated at each pixel, and compute", "no statistic. No tile, so no seam."]),
    )  # fmt: skip


def tile() -> str:
    """A tile: its core is kept, its halo is discarded."""
    image: Box = (20, 44, 360, 240)
    core: Box = (152, 124, 84, 84)
    return svg(
        720, 300, "A tile of a large image, with core and halo",
        text(20, 28, "A tile of a large photograph", size=16, weight="600"), photograph(image),
        rectangle((114, 86, 160, 160), AMBER, AMBER + "40", dash="6 4", width=2.5), rectangle(core, BLUE, BLUE + "48", width=2.5),
        rectangle((206, 110, 44, 44), RED, "none", width=2), dot(228, 132),
        rectangle((420, 66, 18, 18), BLUE, BLUE + "48"), text(450, 80, "core: kept"),
        lines(450, 100, ["equals the same part of the whole", "image to within 1/255"]),
        rectangle((420, 142, 18, 18), AMBER, AMBER + "40", dash="6 4"), text(450, 156, "halo: computed and discarded"),
        lines(450, 176, ["as wide as differences reach, which", "is measured on the photograph"]),
        rectangle((420, 218, 18, 18), RED), text(450, 232, "window of a pixel"),
        lines(450, 252, ["inside the tile, also for the pixels", "at the border of the core"]),
    )  # fmt: skip


def decision() -> str:
    """Which way to run a network, as questions."""

    def box(
        x: float, y: float, w: float, several: list[str], colour: str, command: str = ""
    ) -> str:
        h = 24 + 20 * len(several) + (20 if command else 0)
        inner = "".join(
            text(x + w / 2, y + 27 + 20 * i, each, anchor="middle")
            for i, each in enumerate(several)
        )
        code = (
            f'<text x="{x + w / 2:g}" y="{y + h - 14:g}" font-size="12.5" text-anchor="middle" '
            f'font-family="ui-monospace, monospace" style="fill:{SOFT}">{command}</text>'
            if command
            else ""
        )
        return (
            rectangle((x, y, w, h), colour, GROUND if colour == LINE else colour + "26", radius=8)
            + inner
            + code
        )

    def label(x: float, y: float, word: str) -> str:
        return text(x, y, word, size=13, fill=SOFT, weight="600")

    return svg(
        800, 500, "Which way: questions and answers",
        box(20, 20, 330, ["Do you have pairs of degraded and", "clean images like yours?"], LINE),
        arrow(350, 52, 455, 52), label(390, 44, "yes"),
        box(460, 12, 320, ["Measure it: the best way, window and", "stride on your own images"], GREEN, "glocal tune MODEL --data set/"),
        arrow(185, 84, 185, 130), label(195, 112, "no"),
        box(20, 134, 330, ["Was the network trained on crops", "smaller than your images?"], LINE),
        arrow(350, 166, 455, 166), label(386, 158, "no"),
        box(460, 126, 320, ["Nothing to mend: run the original", "on the whole image"], AMBER, "--way full"),
        arrow(185, 198, 185, 244), label(195, 226, "yes"),
        box(20, 248, 330, ["Which global operations has it?", "glocal scan MODEL"], LINE),
        arrow(350, 266, 455, 258), label(372, 252, "pools only"),
        box(460, 236, 320, ["Windows, 1.5 × the training size"], BLUE, "--way windows"),
        arrow(350, 284, 455, 350), label(362, 330, "norms,"),
        label(362, 347, "attention"),
        box(460, 316, 320, ["Crops for these, windows for pools:", "the default of glocal restore"], GREEN, "--way auto"),
        arrow(185, 312, 185, 398), label(195, 362, "training crops unknown"),
        box(20, 402, 330, ["Try both and look: a wrong training", "size makes windows and crops worse"], AMBER, "--region X,Y,W,H --train-size N"),
        arrow(350, 444, 455, 444), label(370, 436, "in doubt"),
        box(460, 412, 320, ["Keep the original where it is better"], AMBER, "--way full, or --way stitch"),
    )  # fmt: skip


DRAWINGS: dict[str, Callable[[], str]] = {
    "drawing-panels.svg": three_panels,
    "drawing-train.svg": train_and_run,
    "drawing-border.svg": border,
    "drawing-passes.svg": two_passes,
    "drawing-tile.svg": tile,
    "drawing-decision.svg": decision,
}


def main() -> None:
    """Write the drawings."""
    for name, draw in DRAWINGS.items():
        (IMAGES / name).write_text(draw())


if __name__ == "__main__":
    main()
