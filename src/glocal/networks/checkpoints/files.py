"""Read checkpoint files, sharded ones, and folders that have one.

The content of a file decides its format, not its name. No code in a file is executed.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.json_files import JsonError, read_json
from glocal.networks.checkpoints.optional import brief
from glocal.networks.checkpoints.pickles import read_pickle
from glocal.texts import few_names, short_name

__all__ = [
    "INDEX",
    "SUFFIXES",
    "WEIGHTS_FILE",
    "read_checkpoint",
    "read_metadata",
    "read_shapes",
]

SUFFIXES = (".pth", ".pt", ".pk", ".pkl", ".ckpt", ".bin", ".tar", ".safetensors")
"""Usual suffixes of checkpoint files."""

WEIGHTS_FILE = "model.safetensors"
"""Usual name of the checkpoint of a folder, or of a repository on the Hugging Face Hub."""

INDEX = ".index.json"
"""End of the name of a file that lists the shards of a checkpoint."""

# The checkpoint of a folder is the first pattern's that any file matches.
_IN_FOLDERS = (
    f"*.safetensors{INDEX}",
    f"*{INDEX}",
    WEIGHTS_FILE,
    "*.safetensors",
    "pytorch_model.bin",
    "mp_rank_00_model_states.pt",
    "*/mp_rank_00_model_states.pt",
    "*.ckpt",
    "*.pth",
    "*.pt",
)

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"

_MOST_HEADER = 3 * 2**20
"""Most bytes of the header of a safetensors file: about 25,000 tensors of 2 KB in Python each."""

# The library documents none of its errors; memory that it maps may be short.
_UNREADABLE = (SafetensorError, OSError, MemoryError, ValueError, OverflowError, RuntimeError)


@dataclass(frozen=True)
class _Index:
    """The file of the shards of a checkpoint: the shard of each tensor."""

    weight_map: dict[str, str]


def read_checkpoint(path: str | Path) -> tuple[object, dict[str, str]]:
    """Return the content of a checkpoint and its metadata.

    The content of safetensors files is a mapping of tensors; that of pickles is what was saved.
    Only safetensors files have metadata: the strings `architecture`, `hyperparameters` (JSON),
    `train_size` and `window` ("256" or "256x320"), `name`, `task`, `licence` and `source`, all
    optional.

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
    _check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except _UNREADABLE as error:
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
    _check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys() if with_tensors else ()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            stated = int.from_bytes(file.read(8), "little")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if stated > _MOST_HEADER:
        raise CheckpointError(
            f"{path}: not a readable safetensors file (its header would have {stated} bytes)"
        )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: not a readable safetensors file ({brief(error)})")


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
    names_of = _shards(index)
    for name, expected in names_of.items():
        file = index.with_name(name)
        _check_shard(index, file)
        content, stated = _read_file(file)
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: is not a shard of {index.name}; it has no tensors")
        missing = [key for key in expected if key not in content]
        if missing:
            raise CheckpointError(f"{file}: has no {few_names(missing)}, unlike {index.name} says")
        tensors |= {key: content[key] for key in expected}
        metadata |= stated
    return tensors, metadata


def _check_shard(index: Path, file: Path) -> None:
    """Check that a shard lies beside its index, both as they are named and as links lead."""
    try:
        if not file.is_file():
            raise CheckpointError(f"{index}: the shard {short_name(file.name)} is missing")
        folders = {index.parent.resolve(), index.resolve().parent}
        if file.resolve().parent not in folders:
            raise CheckpointError(
                f"{index}: the shard {short_name(file.name)} is a link out of its folder"
            )
    except (OSError, RuntimeError) as error:  # a loop of links
        raise CheckpointError(
            f"{index}: the shard {short_name(file.name)} cannot be read ({brief(error)})"
        ) from None


def _shards(index: Path) -> dict[str, list[str]]:
    """Return the names of the shards of an index, sorted, and of the tensors in each."""
    try:
        weight_map = read_json(index, _Index, ignore_others=True).weight_map
    except OSError as error:
        raise CheckpointError(f"{index}: cannot be read ({error.strerror})") from None
    except JsonError as error:
        raise CheckpointError(f"{index}: is not an index of shards; {error}") from None
    found: dict[str, list[str]] = {name: [] for name in sorted(set(weight_map.values()))}
    # a shard lies beside its index: a path could read any file
    wrong = [name for name in found if not _FILE_NAME.fullmatch(name)]
    if wrong or not found:
        what = few_names(map(repr, wrong)) if wrong else "nothing"
        raise CheckpointError(
            f"{index}: is not an index of shards; weight_map: expected names of files beside it, "
            f"got {what}"
        )
    for key, name in weight_map.items():
        found[name].append(key)
    return found


_FILE_NAME = re.compile(r"(?!\.)[^/\\:\x00-\x1f\ud800-\udfff]{1,200}")
"""The name of a file that is not hidden, without folders."""
