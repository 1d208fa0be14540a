"""*Restore*: an image through a model, in tiles without seams if memory is short."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from comfy import model_management
from comfy.utils import ProgressBar
from comfy_api.latest import io
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from typing_extensions import override

import glocal

from .networks import named_network, network_names, network_of

__all__ = ["Restore"]

_BYTES_A_PIXEL = 4096  # what large networks need for each pixel of a tile
_TILE_PIXELS = 1024 * 1024  # free memory for more does not make a network faster


class Restore(io.ComfyNode):
    """IMAGE → IMAGE, by a connected model or one by name."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="GlocalRestore",
            display_name="Restore (glocal)",
            category="glocal",
            description=(
                "Runs a model on the whole image, or in the largest tiles that fit into memory. A "
                "model of Localize (TLC) has the same result in tiles as on the whole image: no "
                "seams."
            ),
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input(
                    "model",
                    options=network_names(),
                    default=glocal.networks.DEFAULT_MODEL,
                    tooltip=(
                        "An embedded model of glocal, or a file in models/upscale_models that "
                        "states its training size; it is localized (TLC). Has no effect if an "
                        "upscale_model is connected."
                    ),
                ),
                io.Int.Input(
                    "tile_size",
                    default=0,
                    min=0,
                    max=65_536,
                    tooltip="Side of the tiles in pixels. 0: as large as memory allows.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the restored image in the result; the rest is the image.",
                ),
                io.UpscaleModel.Input(
                    "upscale_model",
                    optional=True,
                    tooltip="Runs as it is; connect Localize (TLC) to have it run locally.",
                ),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    @override
    def execute(cls, image, model, tile_size, strength, upscale_model=None) -> io.NodeOutput:
        """Restore the images one by one."""
        network = named_network(model) if upscale_model is None else network_of(upscale_model)
        device = model_management.get_torch_device()
        pixels = min(image.shape[1] * image.shape[2], _TILE_PIXELS)
        needed = model_management.module_size(network) + pixels * _BYTES_A_PIXEL
        model_management.free_memory(needed, device)
        bar = ProgressBar(len(image))
        restored = []
        try:
            with _cancellable():
                for index, each in enumerate(image.movedim(-1, -3)):
                    result = glocal.restore(
                        network,
                        each,
                        tiles=tile_size or "auto",
                        device=device,
                        strength=strength,
                        progress=_progress(bar, index, len(image)),
                    )
                    restored.append(result)
        finally:
            network.to("cpu")
        return io.NodeOutput(torch.stack(restored).movedim(-3, -1).clamp(0, 1))


def _progress(bar: ProgressBar, index: int, count: int):
    """Return a function that shows how many tiles of an image are done."""

    def show(done: int, total: int) -> None:
        bar.update_absolute(index * total + done, count * total)

    return show


class _CancelledError(BaseException):
    """The user cancelled. No `Exception`: glocal takes one for a size that the network refuses."""


@contextmanager
def _cancellable() -> Iterator[None]:
    """Let the user's cancel button end a call of a network at its next module."""

    def check(module: nn.Module, args: object) -> None:
        if model_management.processing_interrupted():
            raise _CancelledError

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    except _CancelledError:
        model_management.throw_exception_if_processing_interrupted()
    finally:
        handle.remove()
