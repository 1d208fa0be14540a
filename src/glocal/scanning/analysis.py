"""What is global among the calls that three runs of a network made, told from shapes alone.

How a dim of a tensor changes between the three runs is its *role*: it follows H, W, both
(flattened pixels) or neither. An operation is global when it mixes along dims that follow H and
W (a reduction, a contraction, a normalisation), or along a constant dim that a view split off H
or W as its outer part (a grid whose cells grow with the image), or when H and W go into it and
do not come out. Nothing is known of class names; functions count like modules.
"""

from dataclasses import dataclass, field

from glocal.ops.windows import Size
from glocal.scanning.aten import FOURIER, PICKS, SELECTING, VIEWS, is_known, mixed_dims
from glocal.scanning.dims import (
    Dim,
    Operand,
    Sizes,
    fresh,
    inherit,
    map_of,
    permuted,
    product,
    regroup,
    role,
    roles,
)
from glocal.scanning.modules import ancestors
from glocal.scanning.trace import Call, Ref, Trace

__all__ = ["Analysis", "Global", "Traces"]

Traces = tuple[Trace, Trace, Trace]


@dataclass
class Global:
    """A global operation.

    Attributes:
        index: its place among the calls of the trace.
        path, function, line: as in `trace.Call`.
        kind: "statistic" (H and W go in and do not come out), "mixing" (they come out again:
            normalisation, attention), "grid", "axis" (one axis only), "selection", "fourier",
            "unknown" (torch does not say what it does).
        feature: (height, width) of the map at the training size; None if it cannot be told.
        owner: path of the smallest module that holds it and what uses its statistic.
        obstacle: why a map could not stand in the place of its statistic; None if it could.
    """

    index: int
    path: str
    function: str
    line: str
    kind: str
    feature: Size | None
    owner: str = ""
    obstacle: str | None = None
    _map: tuple[Sizes, Sizes] | None = None
    _users: list[int] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why it stays global where neither a rule nor a rewrite makes it local."""
        return {
            "axis": "it mixes one axis only",
            "selection": "it selects by place or rank over the map",
            "fourier": "it is a Fourier transform of the map",
            "grid": "it mixes the cells of a grid that grows with the image",
            "unknown": "what this operation mixes is not known",
        }.get(self.kind, "no rule matches its module")


class Analysis:
    """One pass over the calls: dims flow forward, statistics flow forward until they meet a map."""

    def __init__(self, traces: Traces) -> None:
        self.calls = traces[0].calls
        self.traces = traces
        self.dims: list[tuple[tuple[Dim, ...], ...]] = []  # by call, output, dim
        self.fed: list[bool] = []  # by call: whether it works on the network's input
        self.carries: list[frozenset[int]] = []  # by call: the statistics its outputs hold
        self.found: dict[int, Global] = {}
        self.halves: dict[int, str] = {}  # axis operations by the axis they mixed

    def run(self) -> list[Global]:
        """The global operations, in order."""
        for index, call in enumerate(self.calls):
            refs = self._refs(index, call)
            self.dims.append(self._out_dims(index, call, refs))
            self.fed.append(any(self._is_fed(ref, dims) for ref, dims in refs))
            self.carries.append(self._classify(index, call, refs))
        returned = {s for ref in self.traces[0].results for s in ref.sources}
        for operation in self.found.values():
            self._place(operation)
            if any(operation.index in self.carries[s] for s in returned):
                operation.obstacle = (
                    operation.obstacle or "its statistic is a result of the network"
                )
        return [self.found[i] for i in sorted(self.found)]

    # ---- dims

    def dims_of(self, ref: Ref, higher: Ref, wider: Ref) -> tuple[Dim, ...]:
        """Dims of a tensor, seen in the three runs, that a call which was analysed has made."""
        if ref.sources:
            dims = self.dims[ref.sources[0]]
            if ref.output < len(dims) and len(dims[ref.output]) == len(ref.shape):
                return dims[ref.output]
        return fresh(ref.shape, higher.shape, wider.shape)

    def _refs(self, index: int, call: Call) -> list[Operand]:
        alike = [t.calls[index].refs() for t in self.traces]
        return [(refs[0], self.dims_of(*refs)) for refs in zip(*alike, strict=True)]

    def _out_dims(self, index: int, call: Call, refs: list[Operand]) -> tuple[tuple[Dim, ...], ...]:
        result = []
        shapes = [t.calls[index].outputs for t in self.traces]
        for shape in zip(*shapes, strict=True):
            out = fresh(*shape)
            if call.name in VIEWS and refs:
                out = regroup(refs[0][1], out)
            elif call.name in ("permute", "transpose", "t") and refs:
                out = permuted(call, refs[0][1])
            else:
                out = tuple(inherit(dim, i - len(out), refs) for i, dim in enumerate(out))
            result.append(out)
        return tuple(result)

    def _is_fed(self, ref: Ref, dims: tuple[Dim, ...]) -> bool:
        if ref.sources:
            return any(self.fed[source] for source in ref.sources)
        return bool(roles(dims))

    # ---- what an operation does

    def _classify(self, index: int, call: Call, refs: list[Operand]) -> frozenset[int]:
        """Note a global operation; returns the statistics that the outputs carry."""
        given = set().union(*(roles(dims) for _, dims in refs)) if refs else set()
        kept = set().union(*(roles(dims) for dims in self.dims[index]))
        arriving = frozenset().union(
            *(self.carries[s] for ref, dims in refs if not roles(dims) for s in ref.sources)
        )
        dims_of = {id(ref): dims for ref, dims in refs}
        atoms = [
            atom for ref, along in mixed_dims(call) for d in along for atom in dims_of[id(ref)][d]
        ]
        mixed = {letter for atom in atoms for letter in role(atom.sizes)}
        grid = {atom.grid for atom in atoms if atom.grid}
        half = [
            i for ref, _ in refs for s in ref.sources for i in self.carries[s] if i in self.halves
        ]

        kind = None
        if mixed == {"H", "W"}:
            kind = "mixing" if kept == {"H", "W"} else "statistic"
        elif grid:
            kind = "grid"
        elif mixed:
            first = next((i for i in half if self.halves[i] not in mixed), None)
            if first is not None and not kept:
                # mean(3).mean(2): the second axis of a statistic that began at `first`.
                self.found[first].kind = "statistic"
                return arriving | {first}
            kind = "axis"
        elif given == {"H", "W"} and not kept:
            kind = "selection" if call.name in PICKS else "statistic"
        elif given == {"H", "W"} and len(kept) == 1 and len(refs) == 1:
            kind = "selection" if call.name in PICKS else "axis"
        elif given and not is_known(call):
            kind = "unknown"
        if not self.fed[index]:  # masks and positions, made of sizes
            kind = None
        if kind == "mixing" and call.name in FOURIER:
            kind = "fourier"
        if kind and call.name in SELECTING:
            kind = "selection"

        if kind:
            lead = map_of(refs) or self._map_above(index)
            self.found[index] = Global(
                index,
                call.path,
                call.function,
                call.line,
                kind,
                (lead[0][0], lead[1][0]) if lead else None,
                _map=lead,
            )
            if kind == "axis" and mixed:
                self.halves[index] = "".join(sorted(mixed))
        for i in arriving:
            self.found[i]._users.append(index)
        if kind == "axis":
            return frozenset(half) | {index}
        if kept:
            # A half statistic stays one while only pointwise work is done on it.
            return frozenset(half) if kept != {"H", "W"} else frozenset()
        return arriving | {index} if kind else arriving

    def _map_above(self, index: int) -> tuple[Sizes, Sizes] | None:
        """Height and width of the nearest map from which a call's flattened pixels come."""
        seen, queue = {index}, [index]
        while queue:
            at = queue.pop(0)
            refs = self._refs(at, self.calls[at])
            if at != index and (found := map_of(refs)):
                return found
            for ref, dims in refs:
                if roles(dims):
                    queue += [s for s in ref.sources if s not in seen]
                    seen.update(ref.sources)
        return None

    # ---- owners, and whether a map may stand in for the statistic

    def _place(self, operation: Global) -> None:
        users = [self.calls[i] for i in operation._users]
        shared = ancestors(operation.path)
        for call in users:
            above = set(ancestors(call.path))
            shared = [path for path in shared if path in above]
        operation.owner = shared[0]
        operation.obstacle = self._obstacle(operation)

    def _obstacle(self, operation: Global) -> str | None:
        if operation.kind != "statistic" or operation._map is None:
            return "it is no statistic of a map"
        flat = self.traces[0].calls[operation.index].outputs
        if any(len(shape) != 4 or shape[-2:] != (1, 1) for shape in flat):
            return "its statistic is a vector, not a (b, c, 1, 1) map"
        returns = False
        for index in operation._users:
            call = self.calls[index]
            meets = bool(set().union(*(roles(dims) for dims in self.dims[index])))
            returns |= meets
            problem = self._refuses(operation, index, call, meets)
            if problem:
                return f"{problem} ({call.function}, {call.line})"
        return None if returns else "its statistic never meets a map again"

    def _refuses(self, operation: Global, index: int, call: Call, meets: bool) -> str | None:
        shapes = self.traces[0].calls[index].outputs
        if meets:
            if not (call.pointwise or call.name == "expand"):
                return "its statistic meets the map in an operation that takes no map there"
            same = all(
                len(dims) >= 2 and tuple(product(dim) for dim in dims[-2:]) == operation._map
                for dims in self.dims[index]
            )
            return None if same else "its statistic meets a map of another size"
        if any(len(shape) != 4 or shape[-2:] != (1, 1) for shape in shapes):
            return "its statistic is reshaped to a vector"
        arguments = call.arguments
        if call.name == "convolution":
            weight, source = arguments["weight"], arguments["input"]
            if weight.sources or weight.shape[2:] != (1, 1) or not source.sources:
                return "its statistic goes through a convolution that is not 1x1"
            if any(arguments["padding"]) or any(s != 1 for s in arguments["stride"]):
                return "its statistic goes through a padded or strided convolution"
            return None
        if call.pointwise or call.name in (
            "clone", "alias", "as_strided", "detach", "_to_copy",
            "_native_batch_norm_legit_no_training", "prelu", "_prelu_kernel", "expand",
        ):  # fmt: skip
            return None
        if call.name in ("cat", "split", "split_with_sizes", "slice", "mean", "sum", "amax"):
            dims = arguments.get("dim", 0)
            others = {
                self.found[i]._map
                for ref in call.refs()
                for s in ref.sources
                for i in self.carries[s]
            }
            if dims in (1, [1], -3, [-3]) and others == {operation._map}:
                return None
        if call.name == "native_batch_norm" and not arguments["training"]:
            return None
        return "its statistic goes through an operation that is not known to take a map"
