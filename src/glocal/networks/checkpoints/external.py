"""Networks that spandrel knows.

The only module that imports spandrel and spandrel_extra_arches, which are optional. `checkpoint`
reads files, never spandrel, so that no code in a file is executed.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.building import bounded_by
from glocal.networks.checkpoints.misfits import differences_text, has_values
from glocal.networks.checkpoints.optional import brief, imported
from glocal.networks.padding import pad_to_multiple
from glocal.texts import short_name

__all__ = [
    "INPAINTING",
    "External",
    "Fitted",
    "is_spandrel_id",
    "recognised",
    "spandrel_network",
]

INPAINTING = "inpainting"
"""Task of networks that need a mask beside the image."""

_MOST_TENSORS, _MOST_NUMBER = 10_000, 1000


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

    `task` is "restoration", "face restoration", or such as "super-resolution x4". A network whose
    task is `INPAINTING` takes an image and a mask.
    """

    network: nn.Module
    architecture: str
    hyperparameters: dict[str, object]
    task: str


def is_spandrel_id(name: str) -> bool:
    """True if spandrel knows an architecture of this id or name, in any case.

    Raises:
        CheckpointError: spandrel cannot be imported.
    """
    return bool(_supports(name))


def recognised(state_dict: Mapping[str, Tensor], named: str | None = None) -> External | None:
    """Build the network of a state dict with spandrel; None if it is unknown.

    Weights are loaded in float32. The global random state is not changed.

    Args:
        state_dict: tensors by their keys.
        named: id of the architecture, which need not be recognised.

    Raises:
        CheckpointError: spandrel cannot be imported, or the tensors do not match the network that
            it recognised, or have too many names or numbers in them to be one.
    """
    _check_names(state_dict)
    problem = None
    for support in _supports(named):
        try:
            if named is None and not support.detect(state_dict):
                continue
            with (
                torch.random.fork_rng(devices=[]),
                warnings.catch_warnings(),
                bounded_by(state_dict.values()),
            ):
                warnings.simplefilter("ignore")
                found = support.architecture.load(dict(state_dict))
        except Exception as error:  # architectures infer sizes in different ways
            problem = problem or (support.architecture.name, error)
            continue
        return _external(found, state_dict)
    if problem is None:
        return None
    raise CheckpointError(
        f"spandrel recognised {problem[0]}, which the tensors do not match "
        f"({_mismatch(problem[1])})"
    )


def _check_names(state_dict: Mapping[str, Tensor]) -> None:
    """Check that blocks can be counted: spandrel loops up to the numbers in the names."""
    if len(state_dict) > _MOST_TENSORS:
        raise CheckpointError(
            f"{len(state_dict)} tensors are more than any network of spandrel has"
        )
    for key in state_dict:
        for part in key.split("."):
            if part.isdecimal() and (len(part) > 9 or int(part) > _MOST_NUMBER):
                raise CheckpointError(
                    f"{short_name(key)} has a number that no network of spandrel counts to"
                )


def _supports(named: str | None) -> Sequence[Any]:
    """Return spandrel's architectures in the order of detection, or those of an id or name."""
    spandrel = imported("spandrel")
    extra = imported("spandrel_extra_arches")
    registry = spandrel.MAIN_REGISTRY.copy()  # the original is global
    registry.add(*extra.EXTRA_REGISTRY, ignore_duplicates=True)
    supports: list[Any] = registry.architectures("detection")
    if named is None:
        return supports
    return [
        support
        for support in supports
        if named.lower() in (support.architecture.id.lower(), support.architecture.name.lower())
    ]


def _external(found: Any, state_dict: Mapping[str, Tensor]) -> External:
    own = found.model.state_dict()
    integers = [k for k, t in state_dict.items() if k in own and not has_values(own[k], t)]
    if integers:
        raise CheckpointError(
            f"spandrel recognised {found.architecture.name}, but "
            f"{differences_text({'different type': integers})}"
        )
    masked = isinstance(found, imported("spandrel").MaskedImageModelDescriptor)
    tasks = {
        "SR": f"super-resolution x{found.scale}",
        "FaceSR": "face restoration",
        "Inpainting": INPAINTING,
    }
    return External(
        network=(found.model if masked else spandrel_network(found)).float().eval(),
        architecture=found.architecture.name,
        hyperparameters=dict(getattr(found.model, "hyperparameters", {})),
        task=tasks.get(found.purpose, "restoration"),
    )


def _mismatch(error: Exception) -> str:
    """Return the keys that torch's error of a strict load names, or its first line."""
    found = {
        kind: re.findall(r'"([^"]+)"', line)
        for kind, pattern in (("missing", "Missing key"), ("unexpected", "Unexpected key"))
        for line in re.findall(rf"{pattern}.*", str(error))
    }
    return differences_text(found) if found else brief(error)


def spandrel_network(descriptor: Any) -> nn.Module:
    """Return the network of spandrel's `ImageModelDescriptor`, for images of any size.

    It shares its weights with the descriptor. Wraps the network if its plain forward is not
    enough: it needs certain sizes, returns several results, or uses another range of values.
    """
    sizes = descriptor.size_requirements
    network: nn.Module = descriptor.model
    # spandrel's default call is a lambda, which cannot be pickled; plain networks do not need it
    call = descriptor._call_fn
    if call.__module__ == type(descriptor).__module__:
        call = None
    if call is None and sizes.none:
        return network
    return Fitted(
        network,
        call,
        minimum=sizes.minimum,
        multiple=sizes.multiple_of,
        square=sizes.square,
        scale=descriptor.scale,
    )
