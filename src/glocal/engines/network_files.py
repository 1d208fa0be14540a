"""Exported networks in the user's cache folder, each written once.

A file is named by a digest of the network and of all versions that it depends on. The folder is
the user's own: nobody else may write there, since a file decides what a network computes.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from torch import nn

from glocal.conversion.identity import network_sha256
from glocal.conversion.two_passes import two_passes_of
from glocal.errors import GlocalError
from glocal.exporting.export import crops_file, export
from glocal.images.files import cache_folder, make_private_folder, write_whole
from glocal.json_files import JsonError, read_json

__all__ = ["NetworkFile", "network_file", "network_key"]

MOST_FILES = 24
"""Networks to keep; the ones that were not used for the longest time are deleted."""


@dataclass(frozen=True)
class NetworkFile:
    """An exported network.

    Attributes:
        path: the file whose program takes an image.
        crops: the file whose program takes crops, for statistics from crops.
        multiple: heights and widths must be multiples of this.
        smallest: least height and width.
        fresh: True if it was written, and thereby checked, just now.
    """

    path: Path
    crops: Path | None
    multiple: int
    smallest: int
    fresh: bool

    def delete(self) -> None:
        """Delete the files: they do not belong to the network."""
        for path in (self.path, self.crops, _about(self.path)):
            if path is not None:
                path.unlink(missing_ok=True)


def network_key(model: nn.Module, channels: int) -> str:
    """A digest of all that a network's file depends on.

    Args:
        model: the network, converted or not.
        channels: of the images.
    """
    packages = ("glocal", "torch", "onnx", "onnxscript")
    parts = network_sha256(model), channels, [version(name) for name in packages]
    return sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _Sizes:
    """What is kept beside a network."""

    multiple: int
    smallest: int


def network_file(
    model: nn.Module, channels: int, key: str, report: Callable[[str], None] | None = None
) -> NetworkFile:
    """Return the file of a network, written unless it exists.

    Args:
        model: in float32, on the CPU.
        channels: of the images.
        key: from `network_key`.
        report: called with one line before a file is written.

    Raises:
        GlocalError: the network cannot be exported, or the folder is not private.
    """
    folder = cache_folder("networks")
    make_private_folder(folder, GlocalError)
    path = folder / f"{key}.onnx"
    crops = None if two_passes_of(model) is None else crops_file(path)
    with suppress(OSError, JsonError):
        sizes = read_json(_about(path), _Sizes)
        if path.exists() and (crops is None or crops.exists()):
            os.utime(path)
            return NetworkFile(path, crops, sizes.multiple, sizes.smallest, False)
    if report is not None:
        report("writing the network for the engine, once; this takes up to some minutes")
    exported = export(model, path, channels=channels, allow_global=True)
    about = {"multiple": exported.multiple, "smallest": exported.smallest}
    write_whole(_about(path), json.dumps(about), GlocalError)
    _delete_oldest(folder)
    return NetworkFile(path, exported.crops, exported.multiple, exported.smallest, True)


def _about(path: Path) -> Path:
    return path.with_suffix(".json")


def _delete_oldest(folder: Path) -> None:
    with suppress(OSError):  # another process deletes too
        abouts = sorted(folder.glob("*.json"), key=lambda each: _used(each.with_suffix(".onnx")))
        for about in abouts[:-MOST_FILES]:
            for path in folder.glob(f"{about.stem}*"):
                path.unlink(missing_ok=True)


def _used(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
