"""Inputs beside a photograph that are files: masks, depth, noise maps."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from glocal.errors import ImageError
from glocal.images.image_files import read
from glocal.images.limits import SUFFIXES
from glocal.inference.inputs import InputValue
from glocal.texts import few_names

__all__ = ["InputSource", "input_files", "read_inputs"]

InputSource: TypeAlias = InputValue | Path
"""An input of `glocal.restore`, an image file, or a folder that has a file for each photograph."""


def read_inputs(inputs: Mapping[str, InputSource], source: Path) -> dict[str, InputValue]:
    """Return the inputs for a photograph, with files read.

    Args:
        inputs: by name. A folder has a file of the photograph's name, with any suffix; if the
            photograph lies in a subfolder, the file may lie in a subfolder of the same name.
        source: the photograph.

    Raises:
        ImageError: a folder has no file for the photograph, or several, or a file cannot be read.
    """
    found = input_files(inputs, source)
    return {
        name: read(value).pixels if isinstance(value, Path) else value
        for name, value in found.items()
    }


def input_files(inputs: Mapping[str, InputSource], source: Path) -> dict[str, InputSource]:
    """Return the inputs for a photograph, a file in place of each folder.

    Raises:
        ArgumentError: a folder has no file for the photograph, or several.
    """
    return {
        name: _file_for(name, value, source) if isinstance(value, Path) else value
        for name, value in inputs.items()
    }


def _file_for(name: str, path: Path, source: Path) -> Path:
    if not path.is_dir():
        return path
    for folder in (path / source.parent.name, path):
        found = [
            file
            for file in sorted(folder.glob("*"))
            if file.stem == source.stem and file.suffix.lower() in SUFFIXES
        ]
        same = [file for file in found if file.name == source.name]
        if len(same or found) == 1:
            return (same or found)[0]
        if found:
            files = few_names(file.name for file in found)
            raise ImageError(f"input {name!r}: {folder} has several files for {source}: {files}")
    raise ImageError(f"input {name!r}: {path} has no image named {source.stem}")
