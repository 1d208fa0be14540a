"""*Scan*: the global operations of a model, as text."""

from comfy_api.latest import io, ui
from typing_extensions import override

import glocal

from .inputs import STATISTICS, TRAIN_SIZE, WINDOW, conversion
from .networks import network_of

__all__ = ["Scan"]


class Scan(io.ComfyNode):
    """UPSCALE_MODEL → STRING."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        """Describe the node."""
        return io.Schema(
            node_id="GlocalScan",
            display_name="Scan (glocal)",
            category="glocal",
            description=(
                "Lists the global operations of a model, where they are, and what Localize (TLC) "
                "makes of them. For a model of Localize (TLC): what it made of them."
            ),
            inputs=[io.UpscaleModel.Input("upscale_model"), TRAIN_SIZE, WINDOW, STATISTICS],
            outputs=[io.String.Output(display_name="plan")],
            is_output_node=True,
        )

    @classmethod
    @override
    def execute(cls, upscale_model, train_size, window, statistics) -> io.NodeOutput:
        """Write the plan."""
        network = network_of(upscale_model)
        try:
            plan = glocal.plan_of(network)
        except glocal.ArgumentError:  # it is not converted yet
            plan = glocal.scan(network, **conversion(train_size, window, statistics))
        return io.NodeOutput(str(plan), ui=ui.PreviewText(str(plan)))
