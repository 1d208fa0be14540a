"""*Localize (TLC)*: an upscale model whose global operations run locally."""

from comfy_api.latest import io
from typing_extensions import override

import glocal

from .inputs import STATISTICS, TRAIN_SIZE, WINDOW, conversion
from .networks import network_of, with_network

__all__ = ["Localize"]


class Localize(io.ComfyNode):
    """UPSCALE_MODEL → UPSCALE_MODEL, for every node that takes one."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="GlocalLocalize",
            display_name="Localize (TLC)",
            category="glocal",
            description=(
                "Converts a restoration or upscale model so that its global operations (channel "
                "attention, instance norm, transposed attention) run on windows of about its "
                "training size: quality on a whole image as on the crops it was trained on. The "
                "model that comes in stays as it is."
            ),
            inputs=[
                io.UpscaleModel.Input("upscale_model"),
                TRAIN_SIZE,
                WINDOW,
                STATISTICS,
                io.Boolean.Input(
                    "allow_global",
                    default=False,
                    tooltip=(
                        "Leave operations global that cannot be converted, instead of an error "
                        "that lists them."
                    ),
                ),
            ],
            outputs=[io.UpscaleModel.Output()],
        )

    @classmethod
    @override
    def execute(cls, upscale_model, train_size, window, statistics, allow_global) -> io.NodeOutput:
        """Convert the model."""
        options = conversion(train_size, window, statistics)
        network = glocal.localize(network_of(upscale_model), allow_global=allow_global, **options)
        return io.NodeOutput(with_network(upscale_model, network))
