"""The user's model folder: checkpoints that load by their names."""

import os
import sys
import warnings
from pathlib import Path

from glocal.errors import CheckpointError, GlocalWarning
from glocal.images.files import check_private, make_folder, make_private_folder, write_whole

__all__ = ["FOLDER_VARIABLE", "models_folder", "remove_model", "store_model", "stored_models"]

FOLDER_VARIABLE = "GLOCAL_MODELS"
"""Environment variable that names another folder."""

_SUFFIX = ".safetensors"


def models_folder() -> Path:
    """The folder: that of `FOLDER_VARIABLE`, else the platform's for data of applications."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser() if given else _data_folder() / "glocal" / "models"


def stored_models() -> dict[str, Path]:
    """Return the files in the folder by the names of their models, sorted.

    Warns, and returns none, if other users may write to the platform's folder: they could put
    other weights under a known name. A folder that `FOLDER_VARIABLE` names may be shared.
    """
    folder = models_folder()
    try:
        if folder.is_dir() and FOLDER_VARIABLE not in os.environ:
            check_private(folder, CheckpointError)
    except CheckpointError as problem:
        warnings.warn(f"{problem}; its models are not used", GlocalWarning, stacklevel=2)
        return {}
    files = sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []
    return {file.name.removesuffix(_SUFFIX): file for file in files if file.is_file()}


def store_model(name: str, checkpoint: bytes) -> Path:
    """Write a safetensors file into the folder, whole or not at all; return its path.

    Raises:
        CheckpointError: it cannot be written.
    """
    folder = models_folder()
    make = make_folder if FOLDER_VARIABLE in os.environ else make_private_folder
    make(folder, CheckpointError)
    path = folder / f"{name}{_SUFFIX}"
    write_whole(path, checkpoint, CheckpointError)
    return path


def remove_model(name: str) -> Path:
    """Delete a model from the folder; return the path that it had.

    Raises:
        CheckpointError: the folder has no such model, or it cannot be deleted.
    """
    stored = stored_models()
    if name not in stored:
        has = f"has {', '.join(stored)}" if stored else "is empty"
        raise CheckpointError(f"{name}: not in your model folder, {models_folder()}, which {has}")
    try:
        stored[name].unlink()
    except OSError as error:
        raise CheckpointError(f"{stored[name]}: cannot be deleted ({error.strerror})") from None
    return stored[name]


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
