"""Networks that others made: of spandrel, of the Hugging Face Hub, of a Python function.

The only module that imports spandrel, spandrel_extra_arches and huggingface_hub, all of them
optional and only when they are needed. State dicts are read by `checkpoint`, never by spandrel,
so that nothing in a file is executed.
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

from glocal.errors import ArgumentError, CheckpointError
from glocal.networks.checkpoint import SUFFIXES, few
from glocal.networks.padding import pad_to_multiple

__all__ = ["INSTALL", "External", "Fitted", "download", "is_repository", "made_by", "recognised"]

INSTALL = 'pip install "glocal[spandrel]"'
"""What to do where an optional package is missing."""


# --- spandrel --------------------------------------------------------------------------------


class Fitted(nn.Module):
    """A network of spandrel that takes every size and gives one image, both in [0, 1].

    Some of spandrel's networks refuse sizes, return several results, or work in another range of
    values; its descriptor of the network knows, and this module does as the descriptor says.

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
        """Around `network`.

        Args:
            network: what spandrel built.
            call: (network, image) → image; None for network(image).
            minimum: least height and width the network takes, in pixels; a multiple of `multiple`.
            multiple: what height and width must be multiples of.
            square: whether the network takes squares only.
            scale: height of its result ÷ height of the image.
        """
        super().__init__()
        self.network = network
        self.call = call
        self.minimum = minimum
        self.multiple = multiple
        self.square = square
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, c', scale·h, scale·w)."""
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
    """A network that spandrel recognised, in eval mode on the CPU, and what spandrel knows of it.

    `task` is "restoration", "face restoration", or "super-resolution x4".
    """

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    task: str


def recognised(state_dict: Mapping[str, Tensor]) -> External | None:
    """The network of a state dict that spandrel knows; None where it knows none.

    The weights are loaded in float32, and the global random state is left alone.

    Raises:
        CheckpointError: spandrel cannot be imported; knows the network, but the tensors do not
            fit it; or the network takes a mask beside the image.
    """
    spandrel = _imported("spandrel")
    extra = _imported("spandrel_extra_arches")
    registry = spandrel.MAIN_REGISTRY.copy()  # spandrel's own is global
    registry.add(*extra.EXTRA_REGISTRY, ignore_duplicates=True)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = spandrel.ModelLoader("cpu", registry).load_from_state_dict(dict(state_dict))
    except spandrel.UnsupportedModelError:
        return None
    except Exception as error:  # each architecture infers its sizes in a way of its own
        raise CheckpointError(
            f"spandrel takes it for a network that its tensors do not fit ({_first_line(error)})"
        ) from None
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise CheckpointError(
            f"spandrel takes it for {found.architecture.name}, which needs a mask beside the "
            "image; load it with spandrel and call glocal.localize with example="
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
    """The network of a descriptor, in a `Fitted` where its forward alone does not do."""
    sizes = found.size_requirements
    network: nn.Module = found.model.float()
    # What takes an image and gives an image needs no call of its own, and spandrel's default is
    # a lambda, which could not be pickled.
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
    """Whether a name has the form of a repository, "owner/name", or of a file in one.

    >>> [is_repository(name) for name in ("me/deblur", "me/deblur:gopro.pth", "gopro.pth")]
    [True, True, False]
    """
    repository, colon, file = name.partition(":")
    return bool(_REPOSITORY.fullmatch(repository)) and bool(file) == bool(colon)


def download(name: str) -> Path:
    """The checkpoint of a repository on the Hugging Face Hub, from its cache where it is there.

    Args:
        name: "owner/name", where the repository holds one checkpoint (or the same one in several
            formats), or "owner/name:path/of/file".

    Raises:
        CheckpointError: huggingface_hub is not installed, the Hub cannot be reached or has no
            such file, or there are several checkpoints to choose from.
    """
    hub = _imported("huggingface_hub", f"{name}: no such file, nor can it be downloaded")
    repository, _, file = name.partition(":")
    try:
        file = file or _only_checkpoint(repository, hub.list_repo_files(repository))
        return Path(hub.hf_hub_download(repository, file))
    except CheckpointError:
        raise
    except Exception as error:  # its own errors, those of the network, of the file system
        raise CheckpointError(
            f"{name}: no such file, nor can it be downloaded from the Hugging Face Hub "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from None


def _only_checkpoint(repository: str, files: Iterable[str]) -> str:
    checkpoints = [PurePosixPath(file) for file in files if file.endswith(SUFFIXES)]
    # safetensors before the same in another format
    safe = {path.with_suffix("") for path in checkpoints if path.suffix == ".safetensors"}
    kept = [
        str(path)
        for path in checkpoints
        if path.suffix == ".safetensors" or path.with_suffix("") not in safe
    ]
    if not kept:
        raise CheckpointError(f"{repository}: the repository holds no {', '.join(SUFFIXES)} file")
    if len(kept) > 1:
        raise CheckpointError(
            f"{repository}: the repository holds {len(kept)} checkpoints, {few(kept, 8)}; "
            f"choose one as {repository}:{kept[0]}"
        )
    return kept[0]


# --- a Python function -----------------------------------------------------------------------


def made_by(name: str) -> nn.Module:
    """The network that "package.module:factory" names, in eval mode.

    >>> made_by("torch.nn:Identity")
    Identity()

    Args:
        name: a function or class, called without arguments, or a network itself; the folder at
            work is searched for the module before all others.

    Raises:
        CheckpointError: it cannot be imported.
        ArgumentError: calling it fails, or gives no network.
    """
    module, attribute = name.split(":")
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        made = reduce(getattr, attribute.split("."), importlib.import_module(module))
        if callable(made) and not isinstance(made, nn.Module):
            made = _call(name, made)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{name}: cannot be imported ({_first_line(error)})") from None
    finally:
        sys.path.remove(folder)
    if not isinstance(made, nn.Module):
        raise ArgumentError(
            f"{name}: gave {type(made).__name__}; a factory returns a torch.nn.Module"
        )
    return made.eval()


def _call(name: str, factory: Callable[[], object]) -> Any:
    try:
        return factory()
    except Exception as error:
        raise ArgumentError(
            f"{name}: calling it without arguments fails ({type(error).__name__}: "
            f"{_first_line(error)})"
        ) from error


# --- what all of them need -------------------------------------------------------------------


def _imported(package: str, problem: str = "") -> ModuleType:
    lead = f"{problem}: " if problem else ""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{lead}{error.name} is not installed; {INSTALL}") from None
    except Exception as error:  # torchvision built for another torch, for one
        raise CheckpointError(
            f"{lead}{package} is installed, but cannot be imported "
            f"({type(error).__name__}: {_first_line(error)})"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
