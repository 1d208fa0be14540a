"""Nodes for ComfyUI that run restoration networks locally (TLC), made with glocal."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .localize import Localize
from .restore import Restore
from .scan import Scan

__all__ = ["comfy_entrypoint"]


class GlocalExtension(ComfyExtension):
    """The nodes of this pack."""

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the classes of the nodes."""
        return [Localize, Restore, Scan]


async def comfy_entrypoint() -> ComfyExtension:
    """Return the extension; ComfyUI calls this when it starts."""
    return GlocalExtension()
