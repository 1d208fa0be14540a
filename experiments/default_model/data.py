"""The photographs: fetched from Debian packages, listed with author, licence and split.

    python experiments/default_model/data.py            # fetch all, write photographs.md
    python experiments/default_model/data.py --check    # and compare sizes only

A photograph larger than 5 megapixels is halved with an area average: at full size such files hold
little detail a pixel. Everything else in this folder asks `photographs(split)` and `load(photo)`.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "default_model"
PACKAGES = (
    "lomiri-wallpapers-16.04",
    "mate-backgrounds",
    "lomiri-wallpapers-20.04",
    "plasma-workspace-wallpapers",
)
LARGEST_PIXELS = 5_000_000

LOMIRI, LOMIRI_20, MATE, PLASMA = (
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    PACKAGES[1],
    PACKAGES[3],
)


@dataclass(frozen=True)
class Photograph:
    """One file of a package; `path` is below /usr/share."""

    path: str
    author: str
    licence: str
    package: str
    split: str

    @property
    def name(self) -> str:
        """A short name, unique in the list."""
        parts = Path(self.path).parts
        return parts[1] if parts[0] == "wallpapers" else Path(self.path).stem


def _lomiri(name: str, author: str, licence: str, split: str) -> Photograph:
    return Photograph(f"backgrounds/{name}.jpg", author, licence, LOMIRI, split)


def _mate(name: str, author: str, split: str) -> Photograph:
    return Photograph(f"backgrounds/mate/nature/{name}.jpg", author, "GPL-2+", MATE, split)


def _plasma(
    name: str, author: str, split: str, licence: str = "LGPL-3 (package: GPL-2+)"
) -> Photograph:
    path = f"wallpapers/{name}/contents/images/2560x1600.jpg"
    return Photograph(path, author, licence, PLASMA, split)


PHOTOGRAPHS = (
    _lomiri("Bridge_by_Sander_Klootwijk", "Sander Klootwijk", "CC-BY-SA-4.0", "train"),
    _lomiri("Picture_1A_by_freespace", 'Trevor "Freespace"', "CC-BY-4.0", "train"),
    _lomiri("aitzgorri_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", "train"),
    _lomiri("free_by_Peter_Nerlich", "Peter Nerlich", "CC-BY-SA-4.0", "train"),
    _lomiri("friends_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", "train"),
    _lomiri("greentock_by_Peter_Nerlich", "Peter Nerlich", "CC-BY-SA-4.0", "train"),
    _lomiri("life_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", "train"),
    _lomiri("seeding_by_Clements_Engelhardt", "Clemens Engelhardt", "CC0-1.0", "train"),
    _lomiri("sunset_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", "train"),
    _mate("Aqua", "Charles Barbin", "train"),
    _mate("Blinds", "Lennart Poettering, Andrea Cimitan", "train"),
    _mate("FreshFlower", "Jens Ansorg", "train"),
    _mate("Garden", "Charles Barbin", "train"),
    _mate("GreenMeadow", "Timothy Schellhase, Lapo Calamandrei", "train"),
    _mate("LadyBird", "Charles Barbin", "train"),
    _mate("Storm", "Sergey Nazarov", "train"),
    _mate("TwoWings", "Charles Barbin, Hylke Bons", "train"),
    _mate("Wood", "Jean-François Fortin Tam", "train"),
    _mate("YellowFlower", "Charles Barbin", "train"),
    _plasma("BytheWater", "Maciej Wiklo", "train"),
    _plasma("ColdRipple", "Risto Saukonpää", "train"),
    _plasma("ColorfulCups", "Dmitri Popov", "train"),
    _plasma("Kite", "Risto Saukonpää", "train"),
    _plasma("OneStandsOut", "Risto Saukonpää", "train"),
    _plasma("Path", "Risto Saukonpää", "train"),
    _plasma("summer_1am", "Risto Saukonpää", "train"),
    _lomiri("Dragonfly_by_Bolly", "Bolly", "CC-BY-SA-4.0", "held-out"),
    _lomiri("Picture_0B_by_freespace", 'Trevor "Freespace"', "CC-BY-4.0", "held-out"),
    _lomiri("Wine_by_Jakkub_Mede", "Jakub Mede", "CC-BY-4.0", "held-out"),
    _lomiri("picosdeeuropa_by_Aitzol_Berasategi", "Aitzol Berasategi", "CC-BY-4.0", "held-out"),
    Photograph(
        "backgrounds/Kleiber_by_Lukas_Baubkus.jpg",
        "Lukas Baubkus",
        "CC-BY-SA-3.0",
        LOMIRI_20,
        "held-out",
    ),
    _mate("Dune", "Marco Cogoni, Hylke Bons", "held-out"),
    _mate("RainDrops", "blackcombwhistler07", "held-out"),
    _plasma("EveningGlow", "Ian Hex", "held-out"),
    _plasma("FallenLeaf", "Martin Klapetek", "held-out"),
    _plasma("Grey", "Sigi Sagi", "held-out"),
)


def photographs(split: str) -> list[Photograph]:
    """The photographs of "train" or "held-out", in a fixed order."""
    return [photo for photo in PHOTOGRAPHS if photo.split == split]


def fetch() -> Path:
    """Download and unpack the packages that are not in the cache yet; return their /usr/share."""
    root = CACHE / "packages"
    root.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if (root / "usr/share/doc" / package / "copyright").exists():
            continue
        subprocess.run(["apt-get", "download", package], cwd=root, check=True)
        archive = next(root.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=root, check=True)
        archive.unlink()
    return root / "usr/share"


def load(photo: Photograph) -> NDArray[np.uint8]:
    """The photograph as (h, w, 3) uint8 sRGB, halved if above 5 megapixels."""
    path = fetch() / photo.path
    image = pyvips.Image.new_from_file(str(path)).autorot().colourspace("srgb")
    if image.width * image.height > LARGEST_PIXELS:
        image = image.shrink(2, 2)
    return np.ascontiguousarray(image.cast("uchar").numpy()[..., :3])


def write_list() -> None:
    """Write photographs.md."""
    lines = [
        "# Photographs of the default model",
        "",
        "Written by `python experiments/default_model/data.py`. Authors and licences: the",
        "packages' `copyright` files, for plasma-workspace-wallpapers also the `metadata.json` of",
        "each wallpaper. Size: as used (files above 5 megapixels are halved).",
        "",
        "| split | photograph | size | author | licence | Debian package |",
        "|---|---|---|---|---|---|",
    ]
    for photo in PHOTOGRAPHS:
        height, width = load(photo).shape[:2]
        lines.append(
            f"| {photo.split} | {photo.name} | {width}×{height} | {photo.author} "
            f"| {photo.licence} | {photo.package} |"
        )
    (HERE / "photographs.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write_list()
