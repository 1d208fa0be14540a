"""Read the tensors of checkpoint files, without wrappers of training code.

No code in a file is executed: pickles are read with `weights_only=True`.
"""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.texts import few_names

__all__ = ["SUFFIXES", "read_checkpoint", "read_metadata"]

SUFFIXES = (".pth", ".pt", ".pk", ".ckpt", ".safetensors")
"""Suffixes of checkpoint files."""


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the unwrapped state dict and the metadata of a checkpoint file.

    Wrappers are entries and key prefixes that training code adds: `params_ema`, `params`,
    `state_dict`, `model`, `net`, `generator`; `module.`, `_orig_mod.`, `net_g.`. Only safetensors
    files have metadata: the strings `architecture`, `hyperparameters` (JSON), `train_size`
    ("256" or "256x320"), `name` and `task`, all optional.

    Raises:
        CheckpointError: the file is missing or unreadable, has no tensors, or has Python objects
            that cannot be read without running code.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a checkpoint file" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}")
    loaded: object
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        loaded, metadata = _read_safetensors(path)
    elif path.suffix in SUFFIXES:
        loaded = _read_pickle(path)
    else:
        raise CheckpointError(
            f"{path}: checkpoints are {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} files, not "
            f"{path.suffix or 'files without a suffix'}"
        )
    state_dict = _strip_prefixes(_unwrap(loaded))
    if not state_dict:
        raise CheckpointError(f"{path}: has no tensors{_describe_entries(loaded)}")
    return state_dict, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file. Reads no tensors."""
    return _read_safetensors(path, with_tensors=False)[1]


def _read_safetensors(
    path: Path, *, with_tensors: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys() if with_tensors else ()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numbers()):
            warnings.simplefilter("ignore")  # the errors below say more
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load does not document its errors
        text = str(error)
        forbidden = re.search(r"GLOBAL (\S+)", text)
        if isinstance(error, pickle.UnpicklingError) and forbidden:
            raise CheckpointError(
                f"{path}: has a Python object ({forbidden[1]}) that cannot be read without running "
                "code from the file;\nif you trust its source, load it yourself and save its "
                "state_dict() with torch.save"
            ) from None
        if "TorchScript" in text:
            raise CheckpointError(
                f"{path}: is a TorchScript archive, which contains code; load it with "
                "torch.jit.load and save its state_dict()"
            ) from None
        detail = re.search(r"WeightsUnpickler error:\s*(.+)", text) or re.match(r"(.+)", text)
        reason = type(error).__name__ + (f": {detail[1][:120]}" if detail else "")
        raise CheckpointError(
            f"{path}: not a readable PyTorch checkpoint; it may be truncated or not written by "
            f"torch.save ({reason})"
        ) from None


def _numbers() -> list[Any]:
    """Return the globals in pickles of NumPy scalars, which FFA-Net's files contain."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32)]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    return [np.dtype, *kinds, *((scalar, name) for name in names)]


_WRAPPERS = ("params_ema", "params", "state_dict", "model", "net", "generator")


def _unwrap(loaded: object) -> dict[str, Tensor]:
    for _ in range(8):  # wrappers nest; bounded, because a file can contain itself
        if not isinstance(loaded, Mapping):
            return {}
        inner = [loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)]
        if not inner:
            break
        loaded = inner[0]
    assert isinstance(loaded, Mapping)
    return {
        key: value
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def _strip_prefixes(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    state_dict.pop("n_averaged", None)  # the counter of torch.optim.swa_utils.AveragedModel
    while True:
        for prefix in ("module.", "_orig_mod.", "net_g."):
            inside = {
                key.removeprefix(prefix): value
                for key, value in state_dict.items()
                if key.startswith(prefix)
            }
            # a generator may be stored beside its critic; the other prefixes wrap all keys
            if inside and (len(inside) == len(state_dict) or prefix == "net_g."):
                state_dict = inside
                break
        else:
            return state_dict


def _describe_entries(loaded: object) -> str:
    if not isinstance(loaded, Mapping):
        return f": it is a {type(loaded).__name__}"
    return f"; its entries are {few_names(map(str, loaded))}" if loaded else ""
