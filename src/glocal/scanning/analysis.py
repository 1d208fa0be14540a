"""Find the global operations among the recorded calls of a network, from shapes.

The network ran three times: at the training size, higher, and wider. A dim that changes between
the runs follows H, W, or both (flattened pixels); `dims` tracks this through views. A call is
global if it mixes values along dims that follow H and W (a reduction, contraction or
normalisation), if it mixes the cells of a grid whose cells grow with the image, or if H and W go
in and do not come out. Class names play no part; functions count like modules.

One pass over the calls propagates dims and statistics and classifies each call (`kinds`). A second
step finds the owner of each global operation, and what prevents a local form (`obstacles`).

Longer than 300 lines: the pass is one class, whose parts share what is known of earlier calls.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from glocal.ops.windows import Size
from glocal.scanning.aten import (
    CUTS,
    FACTORIES,
    FOURIER,
    INDEXING,
    SELECTING,
    TRANSPOSING,
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
    windowed,
)
from glocal.scanning.effects import MIDDLE, ORDER, POSITIONS
from glocal.scanning.growing import growing_argument
from glocal.scanning.kinds import BOTH, REASONS, Facts, Kind, Verdict, classify
from glocal.scanning.obstacles import Use, obstacle, owner
from glocal.scanning.positions import UNIFORM, Layout, Moved, moved, reading_order
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
        refusal: why it has no local form whatever module it is in; None if it may have one.
        within: paths of the modules that run it, outermost first.
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
    refusal: str | None = None
    within: tuple[str, ...] = ()
    follows: frozenset[int] = frozenset()

    @property
    def reason(self) -> str:
        """Why it stays global where neither a rule nor a rewrite makes it local."""
        return self.refusal or REASONS[self.kind]


@dataclass
class _Found:
    """A global call during the pass.

    Attributes:
        kind: until now; a later call may complete a reduction of one axis to a statistic.
        size: of the map that it reads; None if it is not known.
        axes: the axis that it mixes if its kind is "axis"; else empty.
        users: indices of the calls that read its statistic, directly or through each other.
        refusal: as in `Global`.
    """

    kind: Kind
    size: MapSize | None
    axes: frozenset[str] = frozenset()
    users: list[int] = field(default_factory=list)
    refusal: str | None = None


class Analysis:
    """One pass over the calls of three runs.

    Attributes:
        dims: by call and output, the dims of the output.
        from_input: by call, whether it reads values that are computed from the network's input.
        statistics: by call, the indices of the global calls whose statistics its outputs contain.
        layouts: by call and output, where its pixels lie in the image.
        strips: by call, the calls that cut the strips at the border which its outputs contain.
        combined: by call, the indices of the global calls whose statistics are combined with the
            pixels of its outputs, up to the last layer with weights.
    """

    def __init__(self, traces: Traces) -> None:
        self.calls = traces[0].calls
        self.traces = traces
        self.dims: list[tuple[tuple[Dim, ...], ...]] = []
        self.from_input: list[bool] = []
        self.statistics: list[frozenset[int]] = []
        self.layouts: list[tuple[Layout, ...]] = []
        self.strips: list[frozenset[tuple[int, str]]] = []
        self.combined: list[frozenset[int]] = []
        self._found: dict[int, _Found] = {}
        self._flattened: dict[Sizes, Dim] = {}  # dims with height and width as factors, by size
        self._hooked = traces[0].hooked | {  # and those whose values are used outside hooks
            hook
            for call in self.calls
            if call.hook is None
            for ref in call.refs()
            for source in ref.sources
            if (hook := self.calls[source].hook) is not None
        }

    def run(self) -> list[Global]:
        """The global operations, in the order in which they run; call it once."""
        for index, call in enumerate(self.calls):
            operands = self._operands(index)
            self.dims.append(self._output_dims(index, call, operands))
            self.from_input.append(
                call.name not in FACTORIES
                and any(self._is_from_input(*operand) for operand in operands)
            )
            motion = self._move(index, call, operands)
            self.statistics.append(self._classify(index, call, operands, motion))
            self.combined.append(self._combined(index, call, operands))
        self._check_results()
        found = [self._global(index) for index in sorted(self._found)]
        return found + self._exits()

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
            elif call.name in TRANSPOSING and operands:
                dims = permuted(call, operands[0][1])
            elif call.name == "unfold" and operands:
                dims = windowed(call, operands[0][1], dims)
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

    # ---- places

    def _move(self, index: int, call: Call, operands: list[Operand]) -> Moved:
        """Record places and strips of the outputs; return what the call does to them."""
        given = [
            (operand, self._layout_of(operand[0]))
            for operand in operands
            if self._is_from_input(*operand)
            and (roles(operand[1]) or not self._strips_in(operand[0]))
        ]
        calls = (call, self.traces[1].calls[index], self.traces[2].calls[index])
        motion = moved(index, calls, given, self.dims[index])
        if self.from_input[index] and not motion.problem:
            growing = growing_argument(calls)
            if growing or self._reorders(call, operands, self.dims[index]):
                motion = motion._replace(problem=growing or ORDER)
        self.layouts.append(motion.outputs)
        self.strips.append(self._strips_after(index, call, operands, motion))
        return motion

    def _layout_of(self, ref: Ref) -> Layout:
        if ref.sources:
            layouts = self.layouts[ref.sources[0]]
            if ref.output < len(layouts):
                return layouts[ref.output]
        return UNIFORM

    def _reorders(
        self, call: Call, operands: list[Operand], outputs: tuple[tuple[Dim, ...], ...]
    ) -> bool:
        """Whether a call takes rows for columns."""
        if call.name in TRANSPOSING or len(operands) != 1 or not outputs:
            return False
        before, after = reading_order(operands[0][1]), reading_order(outputs[0])
        return len(before) == 2 and sorted(before) == sorted(after) and before != after

    def _strips_after(
        self, index: int, call: Call, operands: list[Operand], motion: Moved
    ) -> frozenset[tuple[int, str]]:
        """Return the strips in the outputs of a call; list those that it spreads."""
        cut = {(index, axis) for strips in motion.strips for axis in strips}
        if call.name == "copy" and operands and self._strips_in(operands[0][0]):
            return frozenset()  # a margin that is written: circular padding
        returned = {axis for dims in self.dims[index] for axis in roles(dims)}
        mixed = {d for _, along in mixed_dims(call) for d in along}
        held = {strip for ref, _ in operands for strip in self._strips_in(ref)}
        kept = set()
        for strip in held:
            if strip[1] not in returned and not (mixed and not returned):
                kept.add(strip)
            elif call.name not in ("cat", "slice_scatter", "select_scatter"):
                self._find_strip(strip[0])
        return frozenset(kept | cut)

    def _strips_in(self, ref: Ref) -> frozenset[tuple[int, str]]:
        return frozenset(strip for source in ref.sources for strip in self.strips[source])

    def _find_strip(self, index: int) -> None:
        if self.from_input[index] and index not in self._found:
            size = map_size(self._operands(index)) or self._map_size_before(index)
            self._found[index] = _Found("selection", size, refusal=MIDDLE)

    def _check_results(self) -> None:
        """Find what the network returns mirrored, shifted, transposed, or as a strip."""
        refs = [trace.results for trace in self.traces]
        for ref, *others in zip(*refs, strict=False):
            dims = self.dims_of(ref, *others)
            for strip in self._strips_in(ref):
                self._find_strip(strip[0])
            for place in (each for _, part in self._layout_of(ref) for each in part.values()):
                if place.is_moved and place.by not in self._found:
                    size = map_size(self._operands(place.by))
                    why = "the network returns the map mirrored or shifted"
                    self._found[place.by] = _Found("mixing", size, refusal=why)
            if reading_order(dims) == "WH" and ref.sources and ref.sources[0] not in self._found:
                why = "the network returns the map with rows and columns exchanged"
                self._found[ref.sources[0]] = _Found("mixing", map_size([(ref, dims)]), refusal=why)

    def _exits(self) -> list[Global]:
        """What code outside torch computes from the image."""
        found = []
        for number, (_, call) in enumerate(self.traces[0].exits):
            runs = [trace.exits[number][1].refs() for trace in self.traces]
            operands = [(refs[0], self.dims_of(*refs)) for refs in zip(*runs, strict=False)]
            operands = [operand for operand in operands if self._is_from_input(*operand)]
            if not operands:
                continue
            size = map_size(operands)
            why = f"{call.function}() gives its values to code outside torch"
            found.append(
                Global(
                    len(self.calls) + number, call.path, call.function, call.line, "unknown",
                    size and (size[0][0], size[1][0]), call.path, why,
                    refusal=why, within=call.within,
                )
            )  # fmt: skip
        return found

    # ---- kinds

    def _classify(
        self, index: int, call: Call, operands: list[Operand], motion: Moved
    ) -> frozenset[int]:
        """Record the call if it is global; return the statistics in its outputs."""
        read = self._statistics_in(ref for ref, dims in operands if not roles(dims))
        reduced = [  # in order: of two sums of rows, a second half completes the first
            i for ref, _ in operands for i in sorted(self._statistics_in([ref]))
            if self._found[i].axes
        ]  # fmt: skip
        facts = self._facts(index, call, operands, reduced)
        verdict, refusal = self._verdict(call, facts, motion)
        if verdict == "second half":  # x.mean(3).mean(2)
            first = next(i for i in reduced if self._found[i].axes - facts.mixes)
            self._found[first].kind = "statistic"
            return read | {first}
        if verdict:
            size = map_size(operands) or self._map_size_before(index)
            axes = (facts.mixes or BOTH - facts.returns) if verdict == "axis" else frozenset[str]()
            self._found[index] = _Found(verdict, size, axes, refusal=refusal)
        for i in read:
            self._found[i].users.append(index)
        made = frozenset({index} if verdict else ())
        if verdict == "axis":
            return frozenset(reduced) | made
        if facts.returns:
            # A reduction of one axis can still be completed while it has the other axis.
            return frozenset(reduced) if len(facts.returns) == 1 else frozenset()
        return read | made

    def _verdict(self, call: Call, facts: Facts, motion: Moved) -> tuple[Verdict, str | None]:
        """The kind of a call, and why it has no local form whatever module it is in."""
        if call.name in CUTS and facts.from_input and not facts.mixes:
            return ("selection" if motion.problem else None), motion.problem
        verdict, refusal = classify(facts), None
        if not verdict and motion.problem:
            selects = motion.problem in (POSITIONS, MIDDLE)
            verdict, refusal = ("selection" if selects else "mixing"), motion.problem
        if call.hook is not None and call.hook not in self._hooked:
            return None, None  # it only records
        if verdict and call.hook is not None:
            refusal = f"it runs in a forward hook of '{call.hook}', which no local form can contain"
        return verdict, refusal

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
            found.refusal, call.within,
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
    """True if a call pools a map to a fixed number of bins, which grow with it."""
    pools = ("_adaptive_avg_pool2d", "adaptive_max_pool2d")
    return (
        call.name in pools
        and any(isinstance(n, int) and n > 1 for n in call.outputs[0][-2:])
        and all(
            n == m for n, m in zip(call.outputs[0][-2:], call.arguments["output_size"], strict=True)
        )
    )
