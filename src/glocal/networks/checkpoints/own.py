"""Networks that the user's own Python functions build."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import nn

from glocal.errors import ArgumentError, CheckpointError, GlocalError
from glocal.networks.checkpoints.optional import brief
from glocal.scanning.user_code import failure

__all__ = ["Factory", "built_by", "is_function", "made_by"]

Factory = Callable[[], nn.Module]
"""A function or class that returns a network, called without arguments."""


def is_function(name: str) -> bool:
    """True for the name of a Python function, "package.module:factory".

    >>> [is_function(name) for name in ("my.nets:small", "me/nets:w.pth", "NAFNet")]
    [True, False, False]
    """
    return bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", name))


def made_by(name: str) -> nn.Module:
    """Call "package.module:factory" and return its network in eval mode.

    >>> made_by("torch.nn:Identity")
    Identity()

    Args:
        name: of a function or class, called without arguments, or of a network. The current
            folder is searched for the module first.

    Raises:
        CheckpointError: it cannot be imported.
        ArgumentError: the call fails, or does not return a network.
    """
    module, attribute = name.split(":")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        made = reduce(getattr, attribute.split("."), importlib.import_module(module))
        if callable(made) and not isinstance(made, nn.Module):
            made = _call(name, made)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{name}: cannot be imported ({brief(error)})") from error
    except GlocalError:
        raise
    except (Exception, SystemExit) as error:  # the module may do anything
        raise CheckpointError(f"{name}: its import failed: {failure(error)}") from error
    finally:
        sys.path.remove(folder)
    return _network(name, made)


def built_by(factory: str | Factory) -> tuple[str, nn.Module]:
    """Return the name of a factory and its network, to load weights into.

    The global random state of the CPU is not changed.

    Raises:
        CheckpointError: it cannot be imported.
        ArgumentError: it cannot be called, the call fails, or it does not return a network.
    """
    with torch.random.fork_rng(devices=[]):
        if isinstance(factory, str):
            return factory, made_by(factory)
        name = getattr(factory, "__qualname__", type(factory).__name__)
        return name, _network(name, _call(name, factory))


def _network(name: str, made: object) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise ArgumentError(
            f"{name}: returned {type(made).__name__}; a factory must return a torch.nn.Module"
        )
    return made.eval()


def _call(name: str, factory: Callable[[], object]) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise ArgumentError(
            f"{name}: the call without arguments failed: {failure(error)}"
        ) from error
