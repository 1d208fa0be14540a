"""The conditions under which a captured block takes the captured path: image sizes, and mode."""

import re
from types import FunctionType
from typing import Any

import torch
from torch import SymInt, Tensor, nn
from torch.export import ExportedProgram
from torch.utils._sympy.printers import PythonPrinter

__all__ = ["depends_on_mode", "guards_of"]

_PADS = frozenset([torch.ops.aten.pad.default, torch.ops.aten.constant_pad_nd.default])


def guards_of(program: ExportedProgram) -> tuple[str, ...]:
    """Python conditions on the sizes of the tensors, `L["tensors"][0].size()[2]` for example.

    They are those of the exporter (none before torch 2.9), and that padding which depends on the
    image is as large as in the capture: padding to a multiple changes the map of a statistic.
    """
    found: list[str] | None = getattr(program, "_guards_code", None)
    if found is None:
        return ()
    sources: dict[str, str] = {}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    given = [n for n in placeholders if n.name in program.graph_signature.user_inputs]
    for place, node in enumerate(given):
        value = node.meta["val"]
        if isinstance(value, Tensor):
            for dim, size in enumerate(value.shape):
                if isinstance(size, SymInt):
                    sources.setdefault(str(size), f"L['tensors'][{place}].size()[{dim}]")
    pads = [
        pad.meta["val"]
        for node in program.graph.nodes
        if node.target in _PADS
        for pad in node.args[1]
        if hasattr(pad, "meta")
    ]
    return (*found, *(_is_as_captured(pad, sources) for pad in pads))


def _is_as_captured(value: Any, sources: dict[str, str]) -> str:
    text = PythonPrinter().doprint(value.node.expr)
    for symbol, source in sources.items():
        text = re.sub(rf"\b{symbol}\b", source.replace("\\", ""), text)
    return f"({text}) == {value.node.hint}"


def depends_on_mode(module: nn.Module) -> bool:
    """True if a module, or one in it, may compute something else in training than in eval mode."""
    return any(map(_reads_training, module.modules()))


def _reads_training(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return any(
        isinstance(value, FunctionType) and "training" in value.__code__.co_names
        for kind in type(module).__mro__
        if not kind.__module__.startswith("torch.")
        for value in vars(kind).values()
    )
