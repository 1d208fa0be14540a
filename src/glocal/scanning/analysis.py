"""Find the global operations among the recorded calls of a network, from shapes alone.

The network ran three times: at the training size, higher, and wider. A dim that changes between
the runs follows H, W, or both (flattened pixels); `dims` tracks this through views. A call is
global if it mixes values along dims that follow H and W (a reduction, contraction or
normalisation), if it mixes the cells of a grid whose cells grow with the image, or if H and W go
in and do not come out. Class names play no part; functions count like modules.

One pass over the calls propagates dims and statistics and classifies each call (`kinds`). A second
step finds the owner of each global operation, and what prevents a local form (`obstacles`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from glocal.ops.windows import Size
from glocal.scanning.aten import (
    FOURIER,
    INDEXING,
    SELECTING,
    VIEWS,
    has_weights,
    is_known,
    mixed_dims,
)
from glocal.scanning.dims import (
    Dim,
    Factor,
    MapSize,
    Operand,
    Sizes,
    dims_of_shapes,
    inherit,
    joined,
    map_size,
    permuted,
    product,
    regroup,
    role,
    roles,
    unfolded,
)
from glocal.scanning.kinds import BOTH, REASONS, Facts, Kind, classify
from glocal.scanning.obstacles import Use, obstacle, owner
from glocal.scanning.recorder import Call, Ref
from glocal.scanning.trace import Trace

__all__ = ["Analysis", "Global", "Traces"]

Traces = tuple[Trace, Trace, Trace]
"""The three runs of one network: at the training size, higher, wider."""


@dataclass(frozen=True)
class Global:
    """A global operation.

    Attributes:
        index: its place among the calls of the trace.
        path, function, line: as in `recorder.Call`.
        kind: what it does, see `kinds.Kind`.
        feature: (height, width) of the map in the first run; None if it is not known.
        owner: path of the smallest module that contains it and all calls that use its statistic.
        obstacle: why a map cannot replace its statistic; None if it can.
        axes: the axes that it mixes: "HW", or one of them if its kind is "axis".
        follows: indices of the operations whose statistics are in the map that it reads, up to the
            last layer with weights before it.
    """

    index: int
    path: str
    function: str
    line: str
    kind: Kind
    feature: Size | None
    owner: str
    obstacle: str | None
    axes: str = "HW"
    follows: frozenset[int] = frozenset()

    @property
    def reason(self) -> str:
        """Why it stays global where neither a rule nor a rewrite makes it local."""
        return REASONS[self.kind]


@dataclass
class _Found:
    """A global call during the pass.

    Attributes:
        kind: until now; a later call may complete a reduction of one axis to a statistic.
        size: of the map that it reads; None if it is not known.
        axes: the axis that it mixes if its kind is "axis"; else empty.
        users: indices of the calls that read its statistic, directly or through each other.
    """

    kind: Kind
    size: MapSize | None
    axes: frozenset[str] = frozenset()
    users: list[int] = field(default_factory=list)


class Analysis:
    """One pass over the calls of three runs.

    Attributes:
        dims: by call and output, the dims of the output.
        from_input: by call, whether it reads values that are computed from the network's input.
        statistics: by call, the indices of the global calls whose statistics its outputs contain.
        combined: by call, the indices of the global calls whose statistics are combined with the
            pixels of its outputs, up to the last layer with weights.
    """

    def __init__(self, traces: Traces) -> None:
        self.calls = traces[0].calls
        self.traces = traces
        self.dims: list[tuple[tuple[Dim, ...], ...]] = []
        self.from_input: list[bool] = []
        self.statistics: list[frozenset[int]] = []
        self.combined: list[frozenset[int]] = []
        self._found: dict[int, _Found] = {}
        self._flattened: dict[Sizes, Dim] = {}  # dims with height and width as factors, by size

    def run(self) -> list[Global]:
        """The global operations, in the order in which they run; call it once."""
        for index, call in enumerate(self.calls):
            operands = self._operands(index)
            self.dims.append(self._output_dims(index, call, operands))
            self.from_input.append(any(self._is_from_input(*operand) for operand in operands))
            self.statistics.append(self._classify(index, call, operands))
            self.combined.append(self._combined(index, call, operands))
        return [self._global(index) for index in sorted(self._found)]

    # ---- dims

    def dims_of(self, ref: Ref, higher: Ref, wider: Ref) -> tuple[Dim, ...]:
        """Dims of a tensor from the three runs; the calls that made it must be analysed."""
        if ref.sources:
            dims = self.dims[ref.sources[0]]
            if ref.output < len(dims) and len(dims[ref.output]) == len(ref.shape):
                return dims[ref.output]
        return dims_of_shapes(ref.shape, higher.shape, wider.shape)

    def _operands(self, index: int) -> list[Operand]:
        runs = [trace.calls[index].refs() for trace in self.traces]
        return [(refs[0], self.dims_of(*refs)) for refs in zip(*runs, strict=True)]

    def _output_dims(
        self, index: int, call: Call, operands: list[Operand]
    ) -> tuple[tuple[Dim, ...], ...]:
        result = []
        shapes = [trace.calls[index].outputs for trace in self.traces]
        for shape in zip(*shapes, strict=True):
            dims = dims_of_shapes(*shape)
            if call.name in VIEWS and operands:
                dims = regroup(operands[0][1], dims)
            elif call.name in ("permute", "transpose", "t") and operands:
                dims = permuted(call, operands[0][1])
            elif call.name == "im2col" and len(dims) == 3:
                dims = (*dims[:2], unfolded(call, operands[0][1]))
            elif call.name in ("expand", "repeat"):  # to pixels that are flattened elsewhere
                dims = tuple(self._flattened.get(product(dim), dim) for dim in dims)
                dims = tuple(inherit(dim, i - len(dims), operands) for i, dim in enumerate(dims))
            elif call.name == "cat" and operands:
                dims = joined(call.arguments.get("dim", 0), dims, operands)
            else:
                dims = tuple(inherit(dim, i - len(dims), operands) for i, dim in enumerate(dims))
            self._remember_flattened(dims)
            result.append(dims)
        return tuple(result)

    def _remember_flattened(self, dims: tuple[Dim, ...]) -> None:
        """Remember the factors of flattened pixels, unless two orders have the same size."""
        for dim in dims:
            if sorted(role(factor.sizes) for factor in dim) == ["H", "W"]:
                size = product(dim)
                if self._flattened.setdefault(size, dim) != dim:
                    self._flattened[size] = (Factor(size),)

    def _is_from_input(self, ref: Ref, dims: tuple[Dim, ...]) -> bool:
        if ref.sources:
            return any(self.from_input[source] for source in ref.sources)
        return bool(roles(dims))

    # ---- kinds

    def _classify(self, index: int, call: Call, operands: list[Operand]) -> frozenset[int]:
        """Record the call if it is global; returns the statistics that its outputs contain."""
        read = self._statistics_in(ref for ref, dims in operands if not roles(dims))
        reduced = [  # in order: of two sums of rows, a second half completes the first
            i for ref, _ in operands for i in sorted(self._statistics_in([ref]))
            if self._found[i].axes
        ]  # fmt: skip
        facts = self._facts(index, call, operands, reduced)
        verdict = classify(facts)
        if verdict == "second half":  # x.mean(3).mean(2)
            first = next(i for i in reduced if self._found[i].axes - facts.mixes)
            self._found[first].kind = "statistic"
            return read | {first}
        if verdict:
            size = map_size(operands) or self._map_size_before(index)
            axes = (facts.mixes or BOTH - facts.returns) if verdict == "axis" else frozenset[str]()
            self._found[index] = _Found(verdict, size, axes)
        for i in read:
            self._found[i].users.append(index)
        made = frozenset({index} if verdict else ())
        if verdict == "axis":
            return frozenset(reduced) | made
        if facts.returns:
            # A reduction of one axis can still be completed while it has the other axis.
            return frozenset(reduced) if len(facts.returns) == 1 else frozenset()
        return read | made

    def _combined(self, index: int, call: Call, operands: list[Operand]) -> frozenset[int]:
        """Return the statistics that are combined with the pixels of a call's outputs."""
        if not any(roles(dims) for dims in self.dims[index]) or has_weights(
            call, [self._is_from_input(*operand) for operand in operands]
        ):
            return frozenset()
        met = self._statistics_in(ref for ref, dims in operands if not roles(dims))
        before = (self.combined[source] for ref, _ in operands for source in ref.sources)
        return frozenset(i for i in met if self._found[i].kind == "statistic").union(*before)

    def _facts(self, index: int, call: Call, operands: list[Operand], reduced: list[int]) -> Facts:
        dims_of = {id(ref): dims for ref, dims in operands}
        mixed = [
            factor
            for ref, along in mixed_dims(call)
            for dim in along
            for factor in dims_of[id(ref)][dim]
        ]
        reads = frozenset().union(*(roles(dims) for _, dims in operands))
        returns = frozenset().union(*(roles(dims) for dims in self.dims[index]))
        if call.name in INDEXING and any(f.joined for _, dims in operands for d in dims for f in d):
            reads = returns  # takes the rows or the columns of a joined strip
        return Facts(
            reads=reads,
            returns=returns,
            mixes=frozenset(axis for factor in mixed for axis in role(factor.sizes)),
            mixes_grid=any(factor.grid for factor in mixed) or _pools_to_bins(call),
            reduced=frozenset().union(*(self._found[i].axes for i in reduced)),
            operands=len(operands),
            from_input=self.from_input[index],
            selects=call.name in INDEXING or call.name in SELECTING,
            fourier=call.name in FOURIER,
            known=is_known(call),
        )

    def _statistics_in(self, refs: Iterable[Ref]) -> frozenset[int]:
        return frozenset(
            i for ref in refs for source in ref.sources for i in self.statistics[source]
        )

    def _map_size_before(self, index: int) -> MapSize | None:
        """Size of the nearest map from which the flattened pixels that a call reads come."""
        seen, queue = {index}, [index]
        while queue:
            at = queue.pop(0)
            operands = self._operands(at)
            if at != index and (found := map_size(operands)):
                return found
            for ref, dims in operands:
                if roles(dims):
                    queue += [s for s in ref.sources if s not in seen]
                    seen.update(ref.sources)
        return None

    # ---- owners and obstacles

    def _global(self, index: int) -> Global:
        call, found = self.calls[index], self._found[index]
        feature = (found.size[0][0], found.size[1][0]) if found.size else None
        paths = [call.path, *(self.calls[user].path for user in found.users)]
        return Global(
            index, call.path, call.function, call.line, found.kind, feature, owner(paths),
            self._obstacle(index, call, found),
            "".join(sorted(found.axes)) if found.kind == "axis" else "HW",
            frozenset(i for ref, _ in self._operands(index) for s in ref.sources
                      for i in self.combined[s]),
        )  # fmt: skip

    def _obstacle(self, index: int, call: Call, found: _Found) -> str | None:
        returned = index in self._statistics_in(self.traces[0].results)
        if found.kind != "statistic":
            return "it does not reduce the map to one value per channel"
        if found.size is None:
            return "the size of the map that it reduces is not known"
        return obstacle(call, found.size, map(self._use, found.users), returned=returned)

    def _use(self, index: int) -> Use:
        call = self.calls[index]
        maps = frozenset(self._found[i].size for i in self._statistics_in(call.refs()))
        return Use(call, self.dims[index], maps)


def _pools_to_bins(call: Call) -> bool:
    """Whether a call pools a map to a fixed number of bins, which grow with the image."""
    pools = ("_adaptive_avg_pool2d", "adaptive_max_pool2d")
    return (
        call.name in pools
        and any(isinstance(n, int) and n > 1 for n in call.outputs[0][-2:])
        and all(
            n == m for n, m in zip(call.outputs[0][-2:], call.arguments["output_size"], strict=True)
        )
    )
