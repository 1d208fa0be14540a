"""The networks that a worker has loaded and converted, kept from one job to the next."""

from functools import lru_cache
from pathlib import Path

from torch import nn

from glocal.inference.settings import Settings
from glocal.networks import LoadedNetwork, load_checkpoint

__all__ = ["loaded_network", "prepared_network"]


def loaded_network(name: str) -> LoadedNetwork:
    """Load a network, or take it from those loaded before."""
    path = Path(name)
    return _loaded(name, path.stat().st_mtime_ns if path.is_absolute() else 0)


@lru_cache(maxsize=2)
def _loaded(name: str, changed_ns: int) -> LoadedNetwork:
    return load_checkpoint(name)


def prepared_network(name: str, settings: Settings) -> nn.Module:
    """The network that runs, converted if the settings say so; or that of a job before."""
    path = Path(name)
    return _converted(name, path.stat().st_mtime_ns if path.is_absolute() else 0, settings)


@lru_cache(maxsize=4)
def _converted(name: str, changed_ns: int, settings: Settings) -> nn.Module:
    return settings.network(_loaded(name, changed_ns).network)
