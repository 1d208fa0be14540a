"""Rewrite a captured block: statistics become maps, regions that mix pixels run on windows.

Every node of the block's graph is visited once, in order. What does not feel a statistic is
emitted as it is. A reduction over the map is emitted as its local form; what follows it runs on
all windows' statistics at once, stacked on the batch dim, with every size in it replaced by that
size inside a window, until it meets pixels and becomes a map. Arithmetic of a map and statistics
is held back, so that a further reduction of it (a hand-written variance, a softmax) can be made
of window statistics. Regions that mix pixels (attention, grids) run on overlapping windows.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from glocal.conversion.rewrite import lifting
from glocal.conversion.rewrite.capture import Block
from glocal.conversion.rewrite.held import Chain, Weights
from glocal.conversion.rewrite.nodes import (
    NORMS,
    REDUCTIONS,
    SOFTMAX,
    argument,
    is_pointwise,
    is_size,
    is_view,
    keeps_to_its_pixel,
    operation,
    squares,
    tensors,
)
from glocal.conversion.rewrite.program import PRECISION, Get, Program, Step, names_in, prune
from glocal.conversion.rewrite.reductions import Reduction, Reductions
from glocal.conversion.rewrite.regions import pools_by_matmul
from glocal.conversion.rewrite.statistics import Statistic
from glocal.errors import ConversionError
from glocal.ops.windows import LEAST, Overlap, Size

__all__ = ["rewrite"]

_STEPS = frozenset("add sub mul div neg rsub".split())
"""Operations that a statistic may be moved through."""


def rewrite(
    block: Block,
    window_of: Callable[[Size], Size],
    train_window_of: Callable[[Size], Size],
    overlap: Overlap = LEAST,
) -> Program:
    """The local form of a block.

    Args:
        block: from `capture`.
        window_of: (height, width) of the window on a map, from the map's size in the first run
            of the scan.
        train_window_of: the same for operations that mix the cells of a grid.
        overlap: of the windows of regions that mix pixels.

    Raises:
        ConversionError: it has none that is known; the message says why.
    """
    return _Rewriter(block, window_of, train_window_of, overlap).run()


class _Rewriter(Reductions):
    def __init__(
        self,
        block: Block,
        window_of: Callable[[Size], Size],
        train_window_of: Callable[[Size], Size],
        overlap: Overlap,
    ) -> None:
        for item in block.globals.values():
            if item.kind in ("axis", "selection", "fourier", "unknown"):
                raise ConversionError(item.reason)
        super().__init__(block, window_of, train_window_of, overlap)
        self.held: dict[fx.Node, Statistic | Chain | Weights] = {}
        self.halves: dict[fx.Node, tuple[fx.Node, Reduction]] = {}
        self.mixed: set[fx.Node] = set()  # maps made of statistics, with no weights since
        self.late_maps: set[fx.Node] = set()  # all maps made of statistics
        self.one_statistic = not self.region_of

    def run(self) -> Program:
        block = self.block
        for node in block.graph.nodes:
            if node.op == "placeholder":
                self.define(node, Get(node.name))
            elif node.op == "call_function" and not is_size(node):
                if node in self.region_of:
                    self.visit_tiled(node)
                elif node not in self.held:  # one of several results of a reduction
                    self._visit(node)
        outputs = tuple(self.plain(v) if isinstance(v, fx.Node) else v for v in block.outputs)
        written = tuple((place, self.plain(node)) for place, node in block.written)
        steps = _one_grid(prune(self.steps, [outputs, [value for _, value in written]]))
        read = set(names_in([[s.args, s.kwargs] for s in steps])) | set(names_in(outputs))
        return Program(
            block.inputs,
            block.call,
            {name: path for name, path in block.parameters.items() if name in read},
            {name: tensor for name, tensor in block.constants.items() if name in read},
            steps,
            outputs,
            block.returns,
            written,
            self.one_statistic,
        )

    def statistic(self, node: fx.Node) -> Statistic | None:
        held = self.held.get(node)
        return held if isinstance(held, Statistic) else None

    # ---- visits

    def _visit(self, node: fx.Node) -> None:
        name, operands = operation(node), tensors(node)
        item = self.block.globals.get(node)
        self.one_statistic &= keeps_to_its_pixel(node)
        if name == "getitem" and operands[0] in self.halves:
            self.halves[node] = self.halves[operands[0]]
        elif item and name in NORMS:
            self.define(node, self._norm(node))
            self.one_statistic &= operands[0] not in self.late_maps
            self.late_maps.add(node)
        elif item and name in SOFTMAX:
            self.held[node] = self._softmax(node)
        elif name in REDUCTIONS and (item or operands[0] in self.halves):
            self._reduce(node, operands[0])
        elif item and pools_by_matmul(self.block, node):
            weights = next(
                (w for n in operands if isinstance(w := self.held.get(n), Weights)), None
            )
            self.held[node] = self.pool(node, weights)
        elif any(n in self.halves for n in operands):
            raise ConversionError("it mixes one axis only")
        elif item:
            raise ConversionError(item.reason)
        elif any(isinstance(self.held.get(n), Weights) for n in operands):
            self._weigh(node, operands)
        elif is_pointwise(node):
            self._pointwise(node, operands)
        elif any(self.is_vector(n) for n in operands):
            self.held[node] = self.follow(node)
        else:
            self._ordinary(node, operands)

    def _ordinary(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """A node that feels no statistic, or sees maps made of them: as in the original."""
        self.define(node, self.call(node, self.plain))
        if any(n in self.late_maps or n in self.held for n in operands):
            self.late_maps.add(node)
        if (is_pointwise(node) or is_view(node)) and any(
            n in self.mixed or n in self.held for n in operands
        ):
            self.mixed.add(node)

    def _pointwise(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        maps = [n for n in operands if self.block.spatial(n) and self.statistic(n) is None]
        statistics = any(self.statistic(n) for n in operands)
        sized = any(is_size(n) for n in node.all_input_nodes)
        if statistics and not maps:
            self.held[node] = self.follow(node)
        elif maps and (statistics or sized or any(n in self.held for n in maps)):
            chain = self._chain(node, list(dict.fromkeys(maps)))
            if chain is not None:
                self.held[node] = chain
            else:
                self.define(node, self._meet(node))
                self.mixed.add(node)
                self.late_maps.add(node)
        else:
            self._ordinary(node, operands)

    def _chain(self, node: fx.Node, maps: list[fx.Node]) -> Chain | None:
        """Pointwise arithmetic of maps and statistics as a chain; None if it cannot be held."""
        name = operation(node)
        if any(isinstance(self.held.get(n), Weights) for n in maps):
            return None
        if not all(self.block.is_map(n) for n in (node, *maps)):
            return None
        if len(maps) == 2:
            chains = [c for n in maps if isinstance(c := self.held.get(n), Chain)]
            if name != "mul" or len(chains) != 1 or not chains[0].only_scales:
                return None
            if self.block.layout(node) != self.block.layout(chains[0].at):
                return None
            other = next(n for n in maps if self.held.get(n) is not chains[0])
            value = self.emit(operator.mul, chains[0].value, self.plain(other))
            return replace(chains[0], at=node, value=value)
        if len(maps) != 1 or self.block.size(node) != self.block.size(maps[0]):
            return None
        held = self.held.get(maps[0])
        chain = held if isinstance(held, Chain) else Chain.of(maps[0], self.plain(maps[0]))
        if squares(node):
            return None if chain.square or chain.shift else chain.then(node, square=True)
        if name == "exp":
            if not chain.only_shifts or chain.shift:
                return None
            pair = self.emit(lifting.raised, chain.value)
            shift, powers = (self.emit(operator.getitem, pair, place) for place in (0, 1))
            return replace(chain.then(node), value=powers, shift=shift)
        if name not in _STEPS or len(node.args) > 2 or node.kwargs.get("alpha", 1) != 1:
            return None
        if chain.shift and name not in ("mul", "div"):
            return None
        if name == "div" and node.args[0] is not maps[0]:
            return None
        others = [s for n in tensors(node) if (s := self.statistic(n))]
        if any(len(s.tail) != self.block.rank(node) - 1 for s in others):
            return None
        return chain.then(node)

    # ---- what is asked for after all

    def late(self, node: fx.Node) -> Get:
        if node in self.region_of:
            return self.fold(node)
        held = self.held.get(node)
        if isinstance(held, Statistic):
            return self.broadcast(held, node)
        if isinstance(held, Weights):
            sums = self.over(held.powers, held.powers_at, "sum")
            ratio = self.emit(operator.truediv, held.values, self.spread(sums, held.powers_at))
            return self.emit(lifting.as_type, ratio, self.example())
        return self._meet(node)

    def _meet(self, node: fx.Node) -> Get:
        """What a pointwise node makes of every pixel and the statistics of its window."""
        if not self.block.is_map(node):
            name = operation(node)
            raise ConversionError(f"its statistic meets pixels in an unknown layout ({name})")
        mode = self.local_mode(node)

        def value(n: fx.Node) -> Any:
            if is_size(n):
                return self.number(n, mode)
            held = self.statistic(n)
            return self.plain(n) if held is None else self.spread(held, node)

        return self.call(node, value)

    # ---- reductions

    def _reduce(self, node: fx.Node, source: fx.Node) -> None:
        how = Reduction.of(self.block, node)
        if source in self.halves:
            source, how = self._second_half(*self.halves[source], how)
        elif self.block.is_map(source) and not set(self.layout(source)[:2]) <= set(how.dims):
            self.halves[node] = (source, how)
            return
        made = self._statistic_of(source, how)
        self.held[node] = made
        if node not in self.block.shapes:  # (values, places), or (deviation, mean)
            for user in node.users:
                if user.args[1] == 0:
                    self.held[user] = made
                elif operation(node) in ("std_mean", "var_mean"):
                    self.held[user] = self._statistic_of(
                        source, replace(how, kind="mean", options={})
                    )
                else:
                    raise ConversionError("it looks for the place of a maximum")

    def _statistic_of(self, source: fx.Node, how: Reduction) -> Statistic:
        held = self.held.get(source)
        if isinstance(held, Weights):
            return self.over_weights(held, how)
        if isinstance(held, Chain) and self.belongs(held, source):
            return self.over_chain(held, source, how)
        if source in self.mixed and not self.is_shown(source):
            raise ConversionError(
                "it is a statistic of pixels and statistics that do not come apart"
            )
        self.one_statistic &= held is None and source not in self.late_maps
        return self.over(self.plain(source), source, how)

    def _second_half(
        self, source: fx.Node, first: Reduction, second: Reduction
    ) -> tuple[fx.Node, Reduction]:
        """mean(3).mean(2) is mean((2, 3))."""
        if first.kind != second.kind or first.keepdim != second.keepdim:
            raise ConversionError("it mixes one axis in another way than the other")
        left = [d for d in range(self.block.rank(source)) if first.keepdim or d not in first.dims]
        dims = sorted({*first.dims, *(left[d] for d in second.dims)})
        return source, replace(first, dims=tuple(dims))

    def _norm(self, node: fx.Node) -> Get:
        name, source = operation(node), node.args[0]
        assert isinstance(source, fx.Node)
        weight, bias = argument(node, "weight"), argument(node, "bias")
        if name == "instance_norm":
            groups = self.block.tail(source)[0]
        elif name == "group_norm":
            groups = argument(node, "num_groups")
        else:
            groups = 1
            whole = len(argument(node, "normalized_shape")) == self.block.rank(source) - 1
            if not whole or weight is not None:
                raise ConversionError("its layer norm has weights by pixel, or leaves out channels")
        return self.emit(
            lifting.group_norm,
            self.plain(source),
            self.layout(source),
            self.flat_sizes(source),
            groups,
            self.local_mode(source).window,
            None if weight is None else self.plain(weight),
            None if bias is None else self.plain(bias),
            argument(node, "eps"),
            PRECISION,
        )

    # ---- softmax over the map

    def _softmax(self, node: fx.Node) -> Weights:
        place = argument(node, "dim") % self.block.rank(node)
        if self.layout(node) != (place, place, 1) or operation(node) == "log_softmax":
            raise ConversionError("its softmax does not run over the pixels alone")
        pair = self.emit(lifting.raised, self.plain(tensors(node)[0]))
        powers = self.emit(operator.getitem, pair, 1)
        return Weights(powers, node, powers, node)

    def _weigh(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """What is done to the weights of a softmax over the map, before they weigh."""
        weights = next(w for n in operands if isinstance(w := self.held.get(n), Weights))
        others = [n for n in operands if self.held.get(n) is not weights]
        moved = is_view(node) and not others and weights.values == weights.powers
        if moved and self.block.is_map(node):
            powers = self.call(node, lambda n: self.plain(n) if is_size(n) else weights.powers)
            self.held[node] = Weights(powers, node, powers, node)
        elif (
            operation(node) == "mul"
            and len(others) == 1
            and others[0] not in self.held
            and self.block.layout(node) == self.block.layout(weights.powers_at)
        ):
            values = self.emit(operator.mul, weights.values, self.plain(others[0]))
            self.held[node] = replace(weights, values=values, at=node)
        else:
            self._ordinary(node, operands)


def _one_grid(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """All statistics exact where there are maxima, which always are: else they could not meet."""
    maxima = any(s.function is lifting.statistic and s.args[1] in ("amax", "amin") for s in steps)
    exact = {"precision": "exact"}
    return tuple(
        replace(s, kwargs=s.kwargs | exact) if maxima and "precision" in s.kwargs else s
        for s in steps
    )
