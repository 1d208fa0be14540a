"""Networks from elsewhere: spandrel, the Hugging Face Hub, Python functions.

The only module that imports spandrel, spandrel_extra_arches and huggingface_hub, which are optional
and imported on demand. `checkpoint` reads state dicts, never spandrel, so that no code in a file is
executed.
"""

import importlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.errors import ArgumentError, CheckpointError, GlocalError
from glocal.networks.checkpoint import SUFFIXES
from glocal.networks.padding import pad_to_multiple
from glocal.scanning.user_code import failure
from glocal.texts import few_names

__all__ = ["INSTALL", "External", "Fitted", "download", "is_repository", "made_by", "recognised"]

INSTALL = 'pip install "glocal[spandrel]"'
"""Command that installs the optional packages."""


# --- spandrel --------------------------------------------------------------------------------


class Fitted(nn.Module):
    """Adapts a spandrel network to any image size and one result, both in [0, 1].

    Some of spandrel's networks need certain sizes, return several results, or use another range
    of values. The arguments come from spandrel's descriptor of the network.

    >>> fitted = Fitted(nn.Identity(), None, minimum=16, multiple=8, square=False, scale=1)
    >>> fitted(torch.rand(1, 3, 13, 21)).shape
    torch.Size([1, 3, 13, 21])
    """

    def __init__(
        self,
        network: nn.Module,
        call: Callable[[nn.Module, Tensor], Tensor] | None,
        *,
        minimum: int,
        multiple: int,
        square: bool,
        scale: int,
    ) -> None:
        """Wrap `network`.

        Args:
            network: network built by spandrel.
            call: (network, image) → image; None for network(image).
            minimum: smallest height and width in pixels; a multiple of `multiple`.
            multiple: height and width must be multiples of it.
            square: whether height and width must be equal.
            scale: height of the result ÷ height of the image.
        """
        super().__init__()
        self.network = network
        self.call = call
        self.minimum = minimum
        self.multiple = multiple
        self.square = square
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to (b, c', scale·h, scale·w)."""
        height, width = x.shape[-2:]
        padded = self._pad(x)
        restored = self.network(padded) if self.call is None else self.call(self.network, padded)
        return restored[..., : height * self.scale, : width * self.scale]

    def _pad(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        least = max(self.minimum, height, width) if self.square else self.minimum
        bottom, right = max(least - height, 0), max(least - width, 0)
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        return pad_to_multiple(x, self.multiple)


@dataclass(frozen=True)
class External:
    """A network that spandrel recognised, in eval mode on the CPU.

    `task` is "restoration", "face restoration", or such as "super-resolution x4".
    """

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    task: str


def recognised(state_dict: Mapping[str, Tensor]) -> External | None:
    """Build the network of a state dict with spandrel; None if it is unknown.

    Weights are loaded in float32. The global random state is not changed.

    Raises:
        CheckpointError: spandrel cannot be imported, the tensors do not match the network that it
            recognised, or the network needs a mask beside the image.
    """
    spandrel = _imported("spandrel")
    extra = _imported("spandrel_extra_arches")
    registry = spandrel.MAIN_REGISTRY.copy()  # the original is global
    registry.add(*extra.EXTRA_REGISTRY, ignore_duplicates=True)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = spandrel.ModelLoader("cpu", registry).load_from_state_dict(dict(state_dict))
    except spandrel.UnsupportedModelError:
        return None
    except Exception as error:  # architectures infer sizes in different ways
        raise CheckpointError(
            f"spandrel recognised a network that the tensors do not match ({_first_line(error)})"
        ) from None
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise CheckpointError(
            f"spandrel recognised {found.architecture.name}, which needs a mask beside the image; "
            "load it with spandrel and call glocal.localize with example="
        )
    return External(
        network=_fitted(found).eval(),
        architecture=found.architecture.name,
        hyperparameters=dict(getattr(found.model, "hyperparameters", {})),
        task={"SR": f"super-resolution x{found.scale}", "FaceSR": "face restoration"}.get(
            found.purpose, "restoration"
        ),
    )


def _fitted(found: Any) -> nn.Module:
    """Return a descriptor's network, in `Fitted` if its plain forward is not enough."""
    sizes = found.size_requirements
    network: nn.Module = found.model.float()
    # spandrel's default call is a lambda, which cannot be pickled; plain networks do not need it
    call = found._call_fn
    if call.__module__ == type(found).__module__:
        call = None
    if call is None and sizes.none:
        return network
    return Fitted(
        network,
        call,
        minimum=sizes.minimum,
        multiple=sizes.multiple_of,
        square=sizes.square,
        scale=found.scale,
    )


# --- the Hugging Face Hub --------------------------------------------------------------------

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def is_repository(name: str) -> bool:
    """True for the name of a repository or a file in it: "owner/name:file".

    >>> [is_repository(name) for name in ("me/deblur", "me/deblur:gopro.pth", "gopro.pth")]
    [True, True, False]
    """
    repository, colon, file = name.partition(":")
    return bool(_REPOSITORY.fullmatch(repository)) and bool(file) == bool(colon)


def download(name: str) -> Path:
    """Download a checkpoint from the Hugging Face Hub, or read it from the cache.

    Args:
        name: "owner/name" of a repository with one checkpoint (in any number of formats), or
            "owner/name:path/of/file".

    Raises:
        CheckpointError: huggingface_hub is not installed, the Hub cannot be reached or does not
            have the file, or the repository has several checkpoints.
    """
    hub = _imported("huggingface_hub", f"{name}: no such file, and it cannot be downloaded")
    repository, _, file = name.partition(":")
    try:
        file = file or _only_checkpoint(repository, hub.list_repo_files(repository))
        return Path(hub.hf_hub_download(repository, file))
    except CheckpointError:
        raise
    except Exception as error:  # errors of the Hub, the connection, the file system
        raise CheckpointError(
            f"{name}: no such file, and it cannot be downloaded from the Hugging Face Hub "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from None


def _only_checkpoint(repository: str, files: Iterable[str]) -> str:
    checkpoints = [PurePosixPath(file) for file in files if file.endswith(SUFFIXES)]
    # safetensors files take precedence over the same checkpoint in another format
    safe = {path.with_suffix("") for path in checkpoints if path.suffix == ".safetensors"}
    candidates = [
        str(path)
        for path in checkpoints
        if path.suffix == ".safetensors" or path.with_suffix("") not in safe
    ]
    if not candidates:
        raise CheckpointError(f"{repository}: the repository has no {', '.join(SUFFIXES)} file")
    if len(candidates) > 1:
        raise CheckpointError(
            f"{repository}: the repository has {len(candidates)} checkpoints, "
            f"{few_names(candidates, 8)}; choose one, such as {repository}:{candidates[0]}"
        )
    return candidates[0]


# --- a Python function -----------------------------------------------------------------------


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
        raise CheckpointError(f"{name}: cannot be imported ({_first_line(error)})") from error
    except GlocalError:
        raise
    except (Exception, SystemExit) as error:  # the module may do anything
        raise CheckpointError(f"{name}: its import failed: {failure(error)}") from error
    finally:
        sys.path.remove(folder)
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


# --- common parts ----------------------------------------------------------------------------


def _imported(package: str, problem: str = "") -> ModuleType:
    lead = f"{problem}: " if problem else ""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{lead}{error.name} is not installed; {INSTALL}") from None
    except Exception as error:  # such as torchvision built for another torch
        raise CheckpointError(
            f"{lead}{package} is installed but cannot be imported "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
