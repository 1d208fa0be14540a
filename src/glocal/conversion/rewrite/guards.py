"""Conditions under which a block takes the captured path: image sizes and mode."""

import re
from collections.abc import Sequence
from functools import cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from torch import SymInt, Tensor, nn
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.printers import PythonPrinter

from glocal.conversion.rewrite.nodes import is_padding

__all__ = ["Guards", "depends_on_mode", "guards_of", "hold"]


class Guards(NamedTuple):
    """Python conditions on sizes of tensors, such as `L["tensors"][0].size()[2] > 8`.

    Attributes:
        path: under which the code takes the path of the capture.
        padding: under which padding that depends on the image is as large as in the capture.
        follows_padding: True if the code takes that path where another amount is needed.
    """

    path: tuple[str, ...] = ()
    padding: tuple[str, ...] = ()
    follows_padding: bool = False

    def compared(
        self, program: ExportedProgram, other: ExportedProgram, tensors: Sequence[Tensor]
    ) -> "Guards":
        """Return the guards less those without which the code takes the same path.

        An exporter also asks for the memory format of tensors, which changes with the padding.

        Args:
            program: the capture.
            other: a capture with tensors that need padding.
            tensors: those.
        """
        if _operations(program) != _operations(other):
            return self
        kept = tuple(guard for guard in self.path if hold((guard,), tensors))
        return Guards(kept, self.padding, follows_padding=True)


def guards_of(program: ExportedProgram, amount: int | None = None) -> Guards:
    """Return the guards of a capture.

    Args:
        program: the capture.
        amount: of padding that counts as captured; None for that of the capture.
    """
    sources: dict[str, str] = {}
    environment: ShapeEnv | None = None
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    given = [n for n in placeholders if n.name in program.graph_signature.user_inputs]
    for place, node in enumerate(given):
        value = node.meta["val"]
        if isinstance(value, Tensor):
            for dim, size in enumerate(value.shape):
                if isinstance(size, SymInt):
                    sources.setdefault(str(size), f"L['tensors'][{place}].size()[{dim}]")
                    environment = size.node.shape_env
    found: Sequence[str] | None = getattr(program, "_guards_code", None)
    if found is None:
        found = _guards_in(environment) if environment else ()
    pads = [
        pad.meta["val"]
        for node in program.graph.nodes
        if node.op == "call_function" and is_padding(node)
        for pad in node.args[1]
        if hasattr(pad, "meta")
    ]
    return Guards(tuple(found), tuple(_is_as_captured(pad, sources, amount) for pad in pads))


def _guards_in(environment: ShapeEnv) -> list[str]:
    """Return the guards of a program of torch 2.8 or older, as torch 2.9 stores them.

    Comparisons with the largest integers, which hold for every image, are left out.
    """
    names: dict[str, Any] = {
        str(symbol): sources[0].name for symbol, sources in environment.var_to_sources.items()
    }
    inputs = {
        symbol: re.sub(r"\['args'\]\[0\](\[\d+\])", r"['tensors']\1", name())
        for symbol, name in names.items()
    }
    texts = [_in_terms_of(inputs, guard.expr) for guard in environment.guards]
    return [text for text in texts if not re.search(r"\b(2147483647|9223372036854775807)\b", text)]


def _operations(program: ExportedProgram) -> list[tuple[str, ...]]:
    return [(n.name, str(n.target), str(n.args), str(n.kwargs)) for n in program.graph.nodes]


def hold(guards: Sequence[str], tensors: Sequence[Tensor]) -> bool:
    """True if all conditions hold for the sizes of these tensors."""
    names = {"L": {"tensors": tensors}, "__builtins__": {"min": min, "max": max, "abs": abs}}
    try:
        return all(eval(_compiled(guard), names) for guard in guards)
    except Exception:  # a condition that needs more than arithmetic
        return False


@cache
def _compiled(guard: str) -> CodeType:
    return compile(guard, "<guard>", "eval")


def _is_as_captured(value: Any, sources: dict[str, str], amount: int | None) -> str:
    text = _in_terms_of(sources, value.node.expr)
    return f"({text}) == {value.node.hint if amount is None else amount}"


def _in_terms_of(sources: dict[str, str], expression: Any) -> str:
    """Return an expression as Python, with the source of each symbol."""
    text: str = PythonPrinter().doprint(expression)
    for symbol, source in sources.items():
        text = re.sub(rf"\b{symbol}\b", source, text)
    return text


def depends_on_mode(module: nn.Module) -> bool:
    """True if a module may compute something else in training than in eval mode."""
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
