"""Networks of upscale models, upscale models of networks, and networks by name.

An UPSCALE_MODEL of ComfyUI is spandrel's descriptor: a network with its scale, its channels and the
sizes that it accepts.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import folder_paths
from spandrel import ImageModelDescriptor
from torch import nn

import glocal
from glocal.networks import embedded_models, load, spandrel_network

__all__ = ["named_network", "network_names", "network_of", "with_network"]

_FOLDER = "upscale_models"


def network_of(model: Any) -> nn.Module:
    """Return the network of an UPSCALE_MODEL; it takes images of any size.

    Raises:
        ValueError: it is no descriptor of spandrel.
    """
    if not isinstance(model, ImageModelDescriptor):
        raise ValueError(
            f"{type(model).__name__} is no model of Load Upscale Model, which this node needs"
        )
    return spandrel_network(model)


def with_network(model: ImageModelDescriptor, network: nn.Module) -> ImageModelDescriptor:
    """Return an UPSCALE_MODEL with another network, which takes images of any size."""
    return ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=model.architecture,
        purpose=model.purpose,
        tags=[*model.tags, "TLC"],
        supports_half=model.supports_half,
        supports_bfloat16=model.supports_bfloat16,
        scale=model.scale,
        input_channels=model.input_channels,
        output_channels=model.output_channels,
        tiling=model.tiling,
    )


def network_names() -> list[str]:
    """Return what `named_network` takes: embedded models, and files in models/upscale_models.

    A workflow of somebody else can name nothing but these: no path, no download, no function.
    """
    return [*embedded_models(), *folder_paths.get_filename_list(_FOLDER)]


def named_network(name: str) -> nn.Module:
    """Return the converted network of a name, with the training size that its file states.

    Raises:
        glocal.GlocalError: its file cannot be read, states no training size, or the network
            cannot be converted.
    """
    if name in embedded_models():
        return _converted(name, 0)
    path = Path(folder_paths.get_full_path_or_raise(_FOLDER, name))
    return _converted(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _converted(source: str | Path, changed_ns: int) -> nn.Module:
    """Return the converted network of a source; it is loaded again if the file changed."""
    return glocal.localize(load(source), statistics="auto")
