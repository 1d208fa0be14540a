"""Read pickles of torch without running code from them.

torch's own restricted unpickler builds tensors, containers and numbers. Every other class or
function that a file names is replaced by a placeholder that does nothing, so that the options and
loggers that training code stores beside the weights do not prevent reading the weights.
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.bounds import MOST_INSTRUCTIONS, instructions

__all__ = ["Placeholder", "read_pickle"]


class Placeholder:
    """Stands for an object of a class that is not read; has its name alone."""

    name = ""

    def __new__(cls, *args: object, **kwargs: object) -> "Placeholder":
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


class _Dictionary:
    """Stands for a class derived from dict, and becomes a plain one."""

    def __new__(cls, *args: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _List:
    """Stands for a class derived from list, and becomes a plain one."""

    def __new__(cls, *args: object) -> list[Any]:  # type: ignore[misc]
        return []


# What the unpickler says of a stand-in that turns out to be a container.
_CONTAINERS = {
    r"Can only SETITEMS? for|does not support item assignment": _Dictionary,
    r"Can only (?:append to|extend) lists": _List,
}
_TRIES = 100  # fewer for large pickles, so that all of them take seconds


def read_pickle(path: Path) -> object:
    """Return the content of a file written by torch.save.

    Objects of unknown classes are `Placeholder`s; those derived from dict or list are plain ones.

    Raises:
        CheckpointError: it is not such a file, is TorchScript, names a module that torch refuses
            in any pickle, or would unpack to more than its size explains.
    """
    try:
        tries = min(_TRIES, max(3, 2 * MOST_INSTRUCTIONS // instructions(path)))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    stand_ins = {name: _placeholder(name) for name in _unknown_names(path)}
    for _ in range(tries):
        named: list[Any] = [(stand_in, name) for name, stand_in in stand_ins.items()]
        try:
            with (
                path.open("rb") as file,  # torch guesses from the name of a file
                warnings.catch_warnings(),
                torch.serialization.safe_globals(named),
            ):
                warnings.simplefilter("ignore")  # the errors below say more
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load does not document its errors
            learned = _learned(str(error), stand_ins)
            if not learned:
                raise _refusal(path, error) from None
            stand_ins |= learned
    raise CheckpointError(f"{path}: has more than {tries} kinds of Python objects")


def _unknown_names(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            return [name for name in names if name.isprintable()]
    except Exception:  # files of old versions of torch are read in tries; bad ones fail there
        return []


def _placeholder(name: str) -> Callable[..., object]:
    return type(name, (Placeholder,), {"name": name})


def _learned(text: str, stand_ins: dict[str, Any]) -> dict[str, Any]:
    """Return the stand-ins that an error calls for; nothing if the file is to be refused."""
    unknown = re.search(r"GLOBAL (\S+) was not an allowed global", text)
    if unknown:
        name = unknown[1] if "." in unknown[1] else f"builtins.{unknown[1]}"
        is_new = name not in stand_ins and name.isprintable()
        return {name: _placeholder(name)} if is_new else {}
    for pattern, container in _CONTAINERS.items():
        if re.search(pattern, text):
            return {
                name: container
                for name, stand_in in stand_ins.items()
                if stand_in is not container
                and re.search(rf"(?:'|{re.escape(__name__)}\.){re.escape(name)}'", text)
            }
    return {}


def _refusal(path: Path, error: Exception) -> CheckpointError:
    text = str(error)
    forbidden = re.search(r"GLOBAL (\S+)", text)
    if forbidden or "unrecognized function" in text:  # such as a method that the file looks up
        name = f" ({forbidden[1]})" if forbidden else ""
        return CheckpointError(
            f"{path}: has a Python object{name} that cannot be read without running "
            "code from the file;\nif you trust its source, load it yourself and save its "
            "state_dict() with torch.save"
        )
    if "persistent_load" in text:  # old versions of torch store the source of modules
        return CheckpointError(
            f"{path}: has a network itself, whose code would have to run; if you trust its source, "
            "load it yourself and save its state_dict() with torch.save"
        )
    if "TorchScript" in text:
        return CheckpointError(
            f"{path}: is a TorchScript archive, which contains code; load it with "
            "torch.jit.load and save its state_dict()"
        )
    detail = re.search(r"WeightsUnpickler error:\s*(.+)", text) or re.match(r"(.+)", text)
    reason = type(error).__name__ + (f": {detail[1][:120]}" if detail else "")
    return CheckpointError(
        f"{path}: not a readable PyTorch checkpoint; it may be truncated or not written by "
        f"torch.save ({reason})"
    )
