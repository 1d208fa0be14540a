"""Find the constants of a graph that depend on the dtype of its inputs.

A capture holds types as constants: `x.new_zeros(1, dtype=x.dtype)` becomes a tensor of the type
that the example had. A second capture in another type tells which of them came from the inputs:
those that changed. It is made only where the first one holds its own type somewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_flatten

from glocal.conversion.rewrite import runtime
from glocal.errors import ConversionError

if TYPE_CHECKING:  # importing it takes longer than most conversions
    from torch.export import ExportedProgram

__all__ = ["Follows", "follow_dtype", "in_dtype", "make_symbolic"]

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}
_LIMITS = ("eps", "max", "min", "tiny", "resolution")


@dataclass(frozen=True)
class Follows:
    """The constants of a graph that depend on the floating-point type of the inputs.

    Attributes:
        dtype: the type of the capture.
        types: True if `dtype` in the graph means the type of the inputs.
        limits: numbers that are an attribute of `torch.finfo` of that type.
    """

    dtype: torch.dtype = torch.float64
    types: bool = False
    limits: dict[float, str] = field(default_factory=dict)


def in_dtype(given: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """Return the type of the kind of `given` (real, complex) and `dtype`'s precision.

    >>> in_dtype(torch.float16, torch.float64), in_dtype(torch.int64, torch.float64)
    (torch.float64, torch.int64)
    """
    if given.is_floating_point:
        return dtype
    return dtype.to_complex() if given.is_complex else given


def follow_dtype(
    export: Callable[[torch.dtype], "ExportedProgram"],
) -> tuple["ExportedProgram", Follows]:
    """Capture a block for every floating-point type.

    Args:
        export: captures it with parameters and inputs of a type.

    Returns:
        The capture, in float64 or float32, and what in it follows the type of the inputs.

    Raises:
        ConversionError: no single graph is right for all types.
    """
    wide = export(torch.float64)
    if not _mentions(wide, torch.float64):
        return wide, Follows()
    narrow = export(torch.float32)
    problem: ConversionError | None = None
    for main, other, own, its in (
        (wide, narrow, torch.float64, torch.float32),
        (narrow, wide, torch.float32, torch.float64),
    ):
        try:
            return main, _Comparison(own, its).run(main, other)
        except ConversionError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _mentions(program: "ExportedProgram", dtype: torch.dtype) -> bool:
    """True if a graph or its constants hold a type or a limit of the type."""
    limits = _limits(dtype)
    literals = (leaf for node in _calls(program) for leaf in _leaves(node))
    kinds = (dtype, _COMPLEX[dtype])
    if any(leaf in kinds if isinstance(leaf, torch.dtype) else _is_in(leaf, limits)
           for leaf in literals):  # fmt: skip
        return True
    return any(isinstance(c, Tensor) and c.dtype in kinds for c in program.constants.values())


def _calls(program: "ExportedProgram") -> list[fx.Node]:
    return [n for n in program.graph.nodes if n.op not in ("placeholder", "output")]


def _leaves(node: fx.Node) -> list[Any]:
    return tree_flatten((node.args, dict(node.kwargs)))[0]


def _limits(dtype: torch.dtype) -> dict[float, str]:
    info = torch.finfo(dtype)
    return {float(getattr(info, name)): name for name in reversed(_LIMITS)}


def _is_in(leaf: object, limits: dict[float, str]) -> bool:
    return type(leaf) is float and leaf in limits


def _is_cast(node: fx.Node) -> bool:
    """True for a conversion of a tensor to another type."""
    return node.target is torch.ops.aten._to_copy.default and "dtype" in node.kwargs


def make_symbolic(graph: fx.Graph, follows: Follows, dtype: str) -> None:
    """Replace what follows the dtype of the inputs in a graph by an input for it.

    Args:
        graph: is changed in place.
        follows: from `follow_dtype`.
        dtype: name of the input.
    """
    if not follows.types and not follows.limits:
        return
    placeholders = graph.find_nodes(op="placeholder")
    with graph.inserting_before(placeholders[0]):
        given = graph.placeholder(dtype)
    values: dict[Any, fx.Node] = {}
    last = graph.find_nodes(op="placeholder")[-1]
    with graph.inserting_after(last):
        if follows.types:
            values[follows.dtype] = given
            values[_COMPLEX[follows.dtype]] = graph.call_function(runtime.complex_of, (given,))
        for number, name in follows.limits.items():
            values[number] = graph.call_function(runtime.limit, (given, name))
    for node in values.values():
        node.meta["is_wrapped"] = True  # as in `Emission.call`
    for node in list(graph.nodes):
        if node.op == "call_function" and node not in values.values():

            def symbolic(leaf: Any) -> Any:
                literal = isinstance(leaf, (torch.dtype, float))
                return values.get(leaf, leaf) if literal else leaf

            node.args = fx.node.map_aggregate(node.args, symbolic)
            node.kwargs = fx.node.map_aggregate(node.kwargs, symbolic)
    for node in values.values():
        if not node.users and node.op != "placeholder":
            graph.erase_node(node)


class _Comparison:
    """Compares a capture in one type with that in another type."""

    def __init__(self, own: torch.dtype, its: torch.dtype) -> None:
        self.own, self.its = own, its
        self.limits, self.other_limits = _limits(own), _limits(its)
        self.follows: set[bool] = set()  # for the occurrences of the type
        self.found: dict[float, set[str | None]] = {}  # for numbers that may be limits
        self.same: dict[fx.Node, fx.Node] = {}

    def run(self, main: "ExportedProgram", other: "ExportedProgram") -> Follows:
        self._constants(main, other)
        inputs = zip(
            main.graph.find_nodes(op="placeholder"), other.graph.find_nodes(op="placeholder"),
            strict=False,
        )  # fmt: skip
        self.same.update(inputs)
        queue = _calls(other)
        for node in _calls(main):
            found = queue[0] if queue else None
            if _is_cast(node) and not self._is_same_cast(node, found):  # does nothing in the other
                self.same[node] = self.same[node.all_input_nodes[0]]
                if node.kwargs["dtype"] == self.own:
                    self.follows.add(True)
            else:
                self._compare(node, found)
                queue = queue[1:]
        if queue:
            raise self._differ()
        if len(self.follows) > 1 or any(len(names) > 1 for names in self.found.values()):
            raise ConversionError(
                f"its code uses {self.own} as well as the dtype of its input ({self.own})"
            )
        limits = {n: name for n, names in self.found.items() for name in names if name}
        return Follows(self.own, True in self.follows, limits)

    def _differ(self) -> ConversionError:
        return ConversionError("its code runs other operations in float32 than in float64")

    def _is_same_cast(self, node: fx.Node, other: fx.Node | None) -> bool:
        if other is None or not _is_cast(other):
            return False
        return self.same[node.all_input_nodes[0]] is other.all_input_nodes[0]

    def _compare(self, node: fx.Node, other: fx.Node | None) -> None:
        if other is None or node.target != other.target:
            raise self._differ()
        ours, theirs = (tree_flatten((n.args, dict(n.kwargs))) for n in (node, other))
        if ours[1] != theirs[1]:
            raise self._differ()
        for a, b in zip(ours[0], theirs[0], strict=True):
            self._literal(a, b)
        self.same[node] = other

    def _literal(self, a: Any, b: Any) -> None:
        if isinstance(a, fx.Node):
            if self.same.get(a) is not b:
                raise self._differ()
        elif isinstance(a, torch.dtype):
            self._type(a, b)
        elif _is_in(a, self.limits) and (a == b or _is_in(b, self.other_limits)):
            self.found.setdefault(a, set()).add(None if a == b else self.limits[a])
        elif a != b and not (a != a and b != b):
            raise ConversionError("a number in its code depends on the dtype of its input")

    def _type(self, a: torch.dtype, b: object) -> None:
        if a in (self.own, _COMPLEX[self.own]):
            self.follows.add(a != b)
        elif a != b:
            raise self._differ()

    def _constants(self, main: "ExportedProgram", other: "ExportedProgram") -> None:
        for a, b in self._pairs(main, other):
            if a.shape != b.shape or not torch.allclose(
                a.to(b.dtype), b, rtol=1e-5, atol=1e-30, equal_nan=True
            ):
                raise ConversionError("a tensor that its code creates depends on the dtype")
            self._type(a.dtype, b.dtype)

    def _pairs(
        self, main: "ExportedProgram", other: "ExportedProgram"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        ours, theirs = (
            [c for c in program.constants.values() if isinstance(c, Tensor)]
            for program in (main, other)
        )
        if len(ours) != len(theirs):
            raise self._differ()
        return zip(ours, theirs, strict=True)
