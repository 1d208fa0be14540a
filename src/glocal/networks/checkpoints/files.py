"""Read checkpoint files, sharded ones, and folders that have one.

The content of a file decides its format, not its name. No code in a file is executed.
"""

import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.pickles import read_pickle
from glocal.texts import few_names

__all__ = ["INDEX", "SUFFIXES", "read_checkpoint", "read_metadata", "read_shapes"]

SUFFIXES = (".pth", ".pt", ".pk", ".pkl", ".ckpt", ".bin", ".tar", ".safetensors")
"""Usual suffixes of checkpoint files."""

INDEX = ".index.json"
"""End of the name of a file that lists the shards of a checkpoint."""

# The checkpoint of a folder is the first pattern's that any file matches.
_IN_FOLDERS = (
    f"*.safetensors{INDEX}",
    f"*{INDEX}",
    "model.safetensors",
    "*.safetensors",
    "pytorch_model.bin",
    "mp_rank_00_model_states.pt",
    "*/mp_rank_00_model_states.pt",
    "*.ckpt",
    "*.pth",
    "*.pt",
)

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def read_checkpoint(path: str | Path) -> tuple[object, dict[str, str]]:
    """Return the content of a checkpoint and its metadata.

    The content of safetensors files is a mapping of tensors; that of pickles is what was saved.
    Only safetensors files have metadata: the strings `architecture`, `hyperparameters` (JSON),
    `train_size` ("256" or "256x320"), `name` and `task`, all optional.

    Args:
        path: of a file, of an index of shards, of one of several shards, or of a folder that has
            one checkpoint.

    Raises:
        CheckpointError: the file is missing or unreadable, or a folder has no or several
            checkpoints.
    """
    path = Path(path)
    if path.is_dir():
        path = _of_folder(path)
    if not path.is_file():
        what = "is no regular file, but a pipe, a device or a socket" if path.exists() else None
        raise CheckpointError(f"{path}: {what or 'no such file'}")
    index = _index_of(path)
    return _read_file(path) if index is None else _read_shards(index)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file. Reads no tensors."""
    return _read_safetensors(path, with_tensors=False)[1]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a safetensors file. Reads no tensors."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _read_file(path: Path) -> tuple[object, dict[str, str]]:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    # safetensors: the length of a JSON object, which may start with any byte, and the object
    is_safe = start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size
    is_named_so = path.suffix == ".safetensors" and not start.startswith((_ZIP, _PICKLE))
    if is_safe or is_named_so:
        return _read_safetensors(path)
    return read_pickle(path), {}


def _read_safetensors(
    path: Path, *, with_tensors: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys() if with_tensors else ()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: not a readable safetensors file ({error})")


def _of_folder(folder: Path) -> Path:
    for pattern in _IN_FOLDERS:
        files = sorted(folder.glob(pattern))
        if len(files) > 1:
            names = few_names((str(file.relative_to(folder)) for file in files), 8)
            raise CheckpointError(f"{folder}: is a folder with several checkpoints, {names}")
        if files:
            return files[0]
    raise CheckpointError(f"{folder}: is a folder without a checkpoint file")


def _index_of(path: Path) -> Path | None:
    """Return the list of shards that a file is, or is named in; None for a file of its own."""
    if path.name.endswith(INDEX):
        return path
    shard = re.fullmatch(r"(.+)-\d+-of-\d+(\.\w+)", path.name)
    index = path.with_name(f"{shard[1]}{shard[2]}{INDEX}") if shard else path
    return index if shard and index.is_file() else None


def _read_shards(index: Path) -> tuple[dict[str, object], dict[str, str]]:
    tensors: dict[str, object] = {}
    metadata: dict[str, str] = {}
    for name in _shards(index):
        file = index.with_name(name)
        if not file.is_file():
            raise CheckpointError(f"{index}: the shard {name} is missing")
        content, stated = _read_file(file)
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: is not a shard of {index.name}; it has no tensors")
        tensors |= content
        metadata |= stated
    return tensors, metadata


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        names = []
    # a shard lies beside its index: a path could read any file
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise CheckpointError(f"{index}: is not an index of shards with a weight_map of file names")
    return names
