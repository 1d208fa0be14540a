"""Rewrite a captured block: statistics become maps, regions that mix pixels run on windows.

Every node of the block's graph is visited once, in order. What does not feel a statistic is
emitted as it is. A reduction over the map is emitted as its local form; what follows it runs on
all windows' statistics at once, stacked on the batch dim, with every size in it replaced by that
size inside a window, until it meets pixels and becomes a map. Arithmetic of a map and a statistic
is held back, so that a further reduction of it (a hand-written variance, a softmax) can be made
from window statistics of the map: mean((x - m)²) = var(x) + (mean(x) - m)².
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from glocal import lifting
from glocal.aten import SELECTING
from glocal.capture import Block, TooSmallError
from glocal.dims import product, role
from glocal.errors import ConversionError
from glocal.program import DEVICE, Get, Operator, Program, Step, names_in, prune
from glocal.regions import (
    NORMS,
    REDUCTIONS,
    Region,
    dims_argument,
    is_pointwise,
    is_view,
    operation,
    pools_by_matmul,
    regions,
    tensors,
    whole,
)
from glocal.windows import Size

__all__ = ["rewrite"]


@dataclass(frozen=True)
class _Mode:
    """What sizes become where windows are stacked on the batch dim."""

    count: Get
    window: Size
    feature: Size


@dataclass
class _Statistic:
    """A value per image that has become a value per window.

    Attributes:
        grid: a map (n, ?, gh, gw) of the windows it is of.
        stacked: (gh · gw · n, *tail), or None while nobody has asked for it.
        hosted: (n, c, gh, gw), where the original is (n, c, 1, 1).
        over: the map-sized node that the source has broadcast it to, if any.
    """

    grid: Get
    mode: _Mode
    tail: tuple[int, ...]
    stacked: Get | None = None
    hosted: Get | None = None


@dataclass(frozen=True)
class _Chain:
    """Arithmetic of a map and statistics, held back.

    Attributes:
        root: the map that the first of the steps reads.
        at: a node with the layout of `value`.
        value: the map, or exp(map - shift) from an exponential on, times what other maps it was
            multiplied by.
        steps: what is done to it, one after the other.
        square: whether one of them squares.
        shift: see `value`.
    """

    root: fx.Node
    at: fx.Node
    value: Get
    steps: tuple[fx.Node, ...] = ()
    square: bool = False
    shift: Get | None = None


@dataclass
class _Weights:
    """A softmax over the map: `powers` ÷ their sum over the window."""

    values: Get
    powers: Get
    at: fx.Node
    powers_at: fx.Node


def rewrite(
    block: Block, window_of: Callable[[Size], Size], train_window_of: Callable[[Size], Size]
) -> Program:
    """The local form of a block.

    Args:
        block: from `capture`.
        window_of: (height, width) of the window, from that of a map at the training size.
        train_window_of: the same for operations that mix the cells of a grid.

    Raises:
        ConversionError: it has none that is known; the message says why.
    """
    return _Rewriter(block, window_of, train_window_of).run()


# What is a view of the original's memory need not be one of a window's.
_RESHAPES = dict.fromkeys(
    ("aten.view.default", "aten._unsafe_view.default"), Operator("aten.reshape.default")
)
_LINEAR = frozenset("add sub mul div neg rsub".split())
_HOSTED = frozenset("cat split split_with_sizes chunk getitem clone _to_copy softmax".split())
_RESIZES = frozenset(
    "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d _upsample_nearest_exact2d".split()
)


class _Rewriter:
    def __init__(
        self,
        block: Block,
        window_of: Callable[[Size], Size],
        train_window_of: Callable[[Size], Size],
    ) -> None:
        self.block = block
        self.window_of = window_of
        self.steps: list[Step] = []
        self.values: dict[fx.Node, Get] = {}  # as in the original
        self.states: dict[fx.Node, _Statistic | _Chain | _Weights] = {}
        self.halves: dict[fx.Node, tuple[fx.Node, str, list[int], bool]] = {}
        self.touched: set[fx.Node] = set()  # maps that hold a statistic, and no weights since
        self.sizes: dict[Any, Get] = {}
        self.tiled: dict[tuple[int, fx.Node], Get] = {}
        self.region_of: dict[fx.Node, Region] = {}
        self.modes: dict[int, _Mode] = {}
        self.train_window_of = train_window_of

    def run(self) -> Program:
        block = self.block
        for node, item in block.globals.items():
            if item.kind in ("axis", "selection", "fourier", "unknown") and node not in self.halves:
                raise ConversionError(item.reason)
        for region in regions(block):
            self.region_of.update(dict.fromkeys(region.nodes, region))
        for node in block.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = Get(node.name)
            elif node.op == "call_function" and isinstance(
                node.meta.get("val"), torch.Tensor | list | tuple
            ):
                if node in self.region_of:
                    self._tile(node)
                else:
                    self._visit(node)
        outputs = tuple(self.plain(v) if isinstance(v, fx.Node) else v for v in block.outputs)
        written = tuple((place, self.plain(node)) for place, node in block.written)
        steps = prune(self.steps, [outputs, [value for _, value in written]])
        read = set(names_in([[s.args, s.kwargs] for s in steps])) | set(names_in(outputs))
        return Program(
            tuple(i if i.name in read or i.name is None else i for i in block.inputs),
            block.call,
            {k: v for k, v in block.parameters.items() if k in read},
            {k: v for k, v in block.constants.items() if k in read},
            steps,
            outputs,
            block.returns,
            written,
        )

    # ---- emission

    def emit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Get:
        name = f"v{len(self.steps)}"
        if isinstance(function, torch._ops.OpOverload):
            function = _RESHAPES.get(str(function)) or Operator(str(function))
        if "device" in kwargs:  # the module may move after it was captured
            kwargs["device"] = DEVICE
        self.steps.append(Step(name, function, args, kwargs))
        return Get(name)

    def call(self, node: fx.Node, value: Callable[[fx.Node], Any]) -> Get:
        """Emit a node's own operation on other values."""
        args = fx.node.map_arg(node.args, value)
        kwargs = fx.node.map_arg(dict(node.kwargs), value)
        return self.emit(node.target, *args, **kwargs)  # type: ignore[arg-type]

    def plain(self, node: fx.Node) -> Get:
        """The value that stands for a node's in code that knows nothing of windows."""
        if node not in self.values:
            if not isinstance(node.meta.get("val"), torch.Tensor | list | tuple):
                self.values[node] = self.scalar(node, None)
            elif node in self.region_of:
                self.values[node] = self._fold(node)
            else:
                self.values[node] = self._collapse(node)
        return self.values[node]

    def scalar(self, node: fx.Node, mode: _Mode | None) -> Get:
        """A size, or what is computed of sizes; inside the windows of `mode`."""
        key = (node, mode)
        if key not in self.sizes:
            if operation(node) == "sym_size":
                self.sizes[key] = self._inside(node, mode)
            else:
                self.sizes[key] = self.call(node, lambda n: self.scalar(n, mode))
        return self.sizes[key]

    def _inside(self, node: fx.Node, mode: _Mode | None) -> Get:
        source, dim = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(dim, int)
        if mode is None:
            return self.emit(node.target, self.plain(source), dim)  # type: ignore[arg-type]
        sizes = product(self.block.dims[source][dim])
        if dim == 0 and self.block.depends_on_batch(source):
            return self.emit(operator.mul, self.scalar(node, None), mode.count)
        follows = role(sizes)
        if follows == "":
            return self.scalar(node, None)
        if follows == "HW":
            height, width = (self._size(atom.sizes, mode) for atom in self.block.dims[source][dim])
            return self.emit(operator.mul, height, width)
        return self._size(sizes, mode)

    def _size(self, sizes: Any, mode: _Mode | None) -> Get:
        """The run-time number of a height or a width; inside the windows of `mode`."""
        key = (sizes, mode)
        if key in self.sizes:
            return self.sizes[key]
        if mode is not None:
            axis = "HW".index(role(sizes))
            window = max(1, sizes[0] * mode.window[axis] // mode.feature[axis])
            self.sizes[key] = self.emit(lifting.within, self._size(sizes, None), window)
            return self.sizes[key]
        placeholders = [n for n in self.block.dims if n.op == "placeholder"]
        for node in [*placeholders, *self.values]:
            for place, dim in enumerate(self.block.dims.get(node, ())):
                if product(dim) == sizes:
                    size = Operator("aten.sym_size.int")
                    self.sizes[key] = self.emit(size, self.plain(node), place)
                    return self.sizes[key]
        raise TooSmallError("the size of its map cannot be told from its arguments")

    def _sizes(self, node: fx.Node, mode: _Mode | None = None) -> tuple[Get, Get]:
        """Height and width of the map of a tensor."""
        atoms = [a for d in self.block.dims[node] for a in d]
        height = next(a.sizes for a in atoms if role(a.sizes) == "H")
        width = next(a.sizes for a in atoms if role(a.sizes) == "W")
        return self._size(height, mode), self._size(width, mode)

    def _flat_size(self, node: fx.Node, mode: _Mode | None = None) -> tuple[Get, Get] | None:
        """Height and width, where the layout does not tell them."""
        layout = self._layout(node)
        return self._sizes(node, mode) if layout[0] == layout[1] else None

    def _layout(self, node: fx.Node) -> tuple[int, int, int]:
        layout = self.block.layout(node)
        if layout is None:
            raise ConversionError(f"its pixels lie in an unknown layout ({operation(node)})")
        return tuple(layout)

    # ---- regions that run on windows

    def _tile(self, node: fx.Node) -> None:
        region = self.region_of[node]
        for operand in tensors(self.block, node):
            if operand not in region.nodes and self._needs_windows(operand):
                self._tiled(region, operand)
        mode = self.modes.get(id(region))
        if mode is None:
            raise ConversionError("it reads no map")

        def value(n: fx.Node) -> Any:
            if n in region.nodes:
                return self.tiled[id(region), n]
            if not isinstance(n.meta.get("val"), torch.Tensor | list | tuple):
                return self.scalar(n, mode)
            return self._tiled(region, n)

        self.tiled[id(region), node] = self.call(node, value)

    def _needs_windows(self, node: fx.Node) -> bool:
        return node in self.block.shapes and self.block.spatial(node)

    def _tiled(self, region: Region, node: fx.Node) -> Get:
        key = (id(region), node)
        if key in self.tiled:
            return self.tiled[key]
        value = self.plain(node)
        if self._needs_windows(node):
            if self.block.size(node) != region.feature:
                raise ConversionError("it mixes maps of several sizes")
            of = self.train_window_of if region.grid else self.window_of
            window = of(region.feature)
            made = self.emit(
                lifting.tiles, value, window, self._layout(node), self._flat_size(node)
            )
            if id(region) not in self.modes:
                size = Operator("aten.sym_size.int")
                count = self.emit(
                    operator.floordiv, self.emit(size, made, 0), self.emit(size, value, 0)
                )
                self.modes[id(region)] = _Mode(count, window, region.feature)
        elif node in self.block.shapes and self.block.depends_on_batch(node):
            if not self.block.batched(node):
                raise ConversionError("the images of a batch do not lie along its first dim")
            made = self.emit(lifting.repeated, value, self.modes[id(region)].count)
        else:
            made = value
        self.tiled[key] = made
        return made

    def _fold(self, node: fx.Node) -> Get:
        region = self.region_of[node]
        if not whole(self.block, node):
            raise TooSmallError("what it makes of a window leaves the block")
        if self.block.size(node) != region.feature:
            raise ConversionError("it makes a map of another size")
        mode = self.modes[id(region)]
        return self.emit(
            lifting.untiled,
            self.tiled[id(region), node],
            self._layout(node),
            self._flat_size(node, mode),
            self._sizes(node),
        )

    # ---- statistics

    def _visit(self, node: fx.Node) -> None:
        if node in self.states:  # one of several results of a reduction
            return
        name = operation(node)
        item = self.block.globals.get(node)
        operands = tensors(self.block, node)
        if name == "getitem" and node.args[0] in self.halves:
            self.halves[node] = self.halves[node.args[0]]  # type: ignore[index]
        elif item and name in NORMS:
            self._norm(node)
        elif item and name in ("softmax", "_softmax"):
            self._softmax(node)
        elif name in REDUCTIONS and (item or (operands and operands[0] in self.halves)):
            self._reduce(node)
        elif pools_by_matmul(self.block, node) and item:
            self._pool(node)
        elif any(n in self.halves for n in operands):
            raise ConversionError("it mixes one axis only")
        elif item:
            raise ConversionError(item.reason)
        elif any(isinstance(self.states.get(n), _Weights) for n in operands):
            self._weigh(node, operands)
        elif is_pointwise(node):
            self._pointwise(node, operands)
        elif any(self._is_vector(n) for n in operands) or name in ("expand", "repeat"):
            self._follow(node, operands) if any(isinstance(self.states.get(n), _Statistic) for n in operands) else self._ordinary(node, operands)
        else:
            self._ordinary(node, operands)

    def _is_vector(self, node: fx.Node) -> bool:
        """Whether a value is a statistic that was not broadcast over the map."""
        if not isinstance(self.states.get(node), _Statistic):
            return False
        return node not in self.block.shapes or not self.block.spatial(node)

    def _ordinary(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """A node that feels no statistic: as in the original."""
        mode = None
        if is_pointwise(node) and whole(self.block, node):
            # A size that a map is divided by is the size of what is averaged over: the window's.
            feature = self.block.size(node)
            mode = _Mode(Get(""), self.window_of(feature), feature)

        def value(n: fx.Node) -> Any:
            if isinstance(n.meta.get("val"), torch.Tensor | list | tuple):
                return self.plain(n)
            return self.scalar(n, mode)

        self.values[node] = self.call(node, value)
        held = any(n in self.touched or isinstance(self.states.get(n), _Chain | _Weights) for n in operands)
        if held and (is_pointwise(node) or is_view(node)):
            self.touched.add(node)

    def _pointwise(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        states = [self.states.get(n) for n in operands]
        pixels = [n for n in operands if not isinstance(self.states.get(n), _Statistic)
                  and n in self.block.shapes and self.block.spatial(n)]  # fmt: skip
        statistics = any(isinstance(s, _Statistic) for s in states)
        if statistics and not pixels:
            self._follow(node, operands)
        elif (statistics or any(isinstance(s, _Chain) for s in states) or self._reads_sizes(node)) and pixels:
            chain = self._chain(node, pixels)
            if chain is not None:
                self.states[node] = chain
            else:
                self.values[node] = self._collapse(node)
                self.touched.add(node)
        else:
            self._ordinary(node, operands)

    def _reads_sizes(self, node: fx.Node) -> bool:
        """Whether a number among the operands follows the size of the image."""
        return any(
            not isinstance(n.meta.get("val"), torch.Tensor | list | tuple)
            for n in node.all_input_nodes
        )

    def _chain(self, node: fx.Node, pixels: list[fx.Node]) -> _Chain | None:
        name = operation(node)
        carriers = list(dict.fromkeys(pixels))
        first = self.states.get(carriers[0])
        if len(carriers) == 2:
            held = [self.states.get(n) for n in carriers]
            chains = [c for c in held if isinstance(c, _Chain)]
            if name != "mul" or len(chains) != 1 or chains[0].square:
                return None
            linear = chains[0].shift is None
            if linear and any(operation(s) not in ("mul", "div") for s in chains[0].steps):
                return None
            other = carriers[0] if held[1] is chains[0] else carriers[1]
            if self.block.layout(node) != self.block.layout(chains[0].at):
                return None
            value = self.emit(operator.mul, chains[0].value, self.plain(other))
            return replace(chains[0], at=node, value=value)
        if len(carriers) != 1 or not whole(self.block, carriers[0]) or not whole(self.block, node):
            return None
        if self.block.size(node) != self.block.size(carriers[0]) or isinstance(first, _Weights):
            return None
        if isinstance(first, _Chain):
            chain = first
        else:
            chain = _Chain(carriers[0], carriers[0], self.plain(carriers[0]))
        if _squares(node):
            if chain.square or chain.shift is not None:
                return None
            return replace(chain, steps=(*chain.steps, node), square=True)
        if name == "exp":
            before = (chain.root, *chain.steps)
            if chain.square or any(
                operation(step) not in ("add", "sub") or step.args[0] is not at
                for step, at in zip(chain.steps, before, strict=False)
            ):
                return None
            pair = self.emit(lifting.raised, chain.value)
            shift, powers = (self.emit(operator.getitem, pair, i) for i in (0, 1))
            return replace(chain, value=powers, steps=(*chain.steps, node), shift=shift)
        if chain.shift is not None and name not in ("mul", "div"):
            return None
        if name not in _LINEAR or node.kwargs.get("alpha", 1) != 1 or len(node.args) > 2:
            return None
        if name == "div" and node.args[0] is not carriers[0]:
            return None
        others = [self.states.get(n) for n in tensors(self.block, node) if n is not carriers[0]]
        if any(isinstance(s, _Statistic) and len(s.tail) != len(self.block.tail(node)) for s in others):
            return None
        return replace(chain, steps=(*chain.steps, node))

    def _collapse(self, node: fx.Node) -> Get:
        """What arithmetic of maps and statistics, held back until now, makes of each pixel."""
        state = self.states.get(node)
        if isinstance(state, _Statistic):
            if not self.block.spatial(node):
                raise TooSmallError("its statistic leaves the block, or is used as weights")
            return self.emit(lifting.broadcast, self._spread(state, node, ones=True), self._layout(node), self._sizes(node))
        if isinstance(state, _Weights):
            sums = self._statistic(state.powers, state.powers_at, "sum")
            ratio = self.emit(operator.truediv, state.values, self._spread(sums, state.powers_at))
            return self.emit(lifting.as_type, ratio, self._example())
        feature = self.block.size(node) if whole(self.block, node) else None
        if feature is None:
            raise ConversionError(f"its statistic meets pixels in an unknown layout ({operation(node)})")
        mode = _Mode(Get(""), self.window_of(feature), feature)

        def value(n: fx.Node) -> Any:
            if not isinstance(n.meta.get("val"), torch.Tensor | list | tuple):
                return self.scalar(n, mode)
            state = self.states.get(n)
            if isinstance(state, _Statistic):
                return self._spread(state, node)
            return self.plain(n)

        return self.call(node, value)

    def _example(self) -> Get:
        """Any map among the inputs, of whose type results are."""
        node = next(n for n in self.block.dims if n.op == "placeholder" and self.block.spatial(n))
        return self.values[node]

    def _follow(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """A node behind a statistic: it runs on all windows' statistics."""
        held = [s for n in operands if isinstance(s := self.states.get(n), _Statistic)]
        lead = held[0]
        name = operation(node)
        if name in SELECTING:
            raise ConversionError(f"it selects by the rank of a statistic ({name})")
        if any(s.mode.feature != lead.mode.feature for s in held):
            raise ConversionError("statistics of maps of several sizes meet")
        single = node in self.block.shapes
        if single and self.block.spatial(node):
            tail = self._reduced(node)
            if name in ("expand", "repeat", *_RESIZES) and tail == lead.tail:
                self.states[node] = lead
                return
            if is_pointwise(node):  # of statistics that were broadcast before
                made = self.call(node, self._on_windows(lead))
                self.states[node] = _Statistic(lead.grid, lead.mode, tail, stacked=made)
                return
            raise ConversionError(f"its statistic meets the map in an operation that takes no map there ({name})")
        strangers = [n for n in operands if n not in self.states]
        if any(n in self.block.shapes and self.block.spatial(n) for n in strangers):
            raise ConversionError(f"its statistic meets the map in an operation that takes no map there ({name})")
        if single and not self.block.batched(node):
            raise ConversionError("the images of a batch do not lie along its first dim")
        tail = self.block.tail(node) if single else ()
        if self._takes_maps(node, held, strangers):
            made = self.call(node, lambda n: s.hosted if isinstance(s := self.states.get(n), _Statistic) else self.plain(n))
            self.states[node] = _Statistic(lead.grid, lead.mode, tail, hosted=made)
            return

        made = self.call(node, self._on_windows(lead))
        self.states[node] = _Statistic(lead.grid, lead.mode, tail, stacked=made)

    def _on_windows(self, lead: _Statistic) -> Callable[[fx.Node], Any]:
        """What a value is where the statistics of all windows are stacked."""

        def value(n: fx.Node) -> Any:
            state = self.states.get(n)
            if isinstance(state, _Statistic):
                return self._stacked(state)
            if not isinstance(n.meta.get("val"), torch.Tensor | list | tuple):
                return self.scalar(n, lead.mode)
            if n in self.block.shapes and self.block.depends_on_batch(n):
                return self.emit(lifting.repeated, self.plain(n), lead.mode.count)
            return self.plain(n)

        return value

    def _takes_maps(self, node: fx.Node, held: list[_Statistic], strangers: list[fx.Node]) -> bool:
        """Whether a node that maps (n, c, 1, 1) would do the same to (n, c, gh, gw)."""
        if any(s.hosted is None for s in held) or self._reads_sizes(node):
            return False
        if node in self.block.shapes:
            tail = self.block.tail(node)
            if len(tail) != 3 or tail[1:] != (1, 1):
                return False
        elif operation(node) not in _HOSTED:
            return False
        if any(n in self.block.shapes and self.block.depends_on_batch(n) for n in strangers):
            return False
        name = operation(node)
        if is_pointwise(node):
            return True
        if name == "conv2d":
            weight = node.args[1]
            padding = node.args[4] if len(node.args) > 4 else 0
            assert isinstance(weight, fx.Node)
            return weight in strangers and self.block.shapes[weight][0][2:] == (1, 1) and padding in (0, [0, 0])
        if name in ("mean", "sum", "amax"):
            return dims_argument(node) in ([1], 1)
        if name == "getitem":
            return True
        return name in _HOSTED and (name in ("clone", "_to_copy") or dims_argument(node) in (1, -3))

    def _stacked(self, state: _Statistic) -> Get:
        if state.stacked is None:
            assert state.hosted is not None
            state.stacked = self.emit(lifting.stack, state.hosted, state.tail)
        return state.stacked

    def _spread(self, state: _Statistic, node: fx.Node, ones: bool = False) -> Get:
        """A statistic as a map that broadcasts against a node's value."""
        layout = self._layout(node)
        rows, columns, _ = layout
        elsewhere = self.block.size(node) != state.mode.feature
        if state.hosted is not None and layout == (2, 3, 1) and not elsewhere:
            return state.hosted
        rank = len(self.block.tail(node))
        if len(state.tail) != rank or state.tail[rows - 1] != 1 or state.tail[columns - 1] != 1:
            raise ConversionError("its statistic is not broadcast over the map")
        size = self._sizes(node) if elsewhere or rows == columns else None
        return self.emit(lifting.spread, self._stacked(state), state.grid, layout, size, elsewhere)

    def _reduced(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of a map, less its first dim, with 1 for height and width."""
        layout = self.block.layout(node)
        return tuple(
            1
            if role(product(dim)) or (layout and place in layout[:2])
            else self.block.shapes[node][0][place]
            for place, dim in enumerate(self.block.dims[node])
        )[1:]

    # ---- reductions

    def _statistic(
        self,
        value: Get,
        at: fx.Node,
        kind: str,
        dims: Sequence[int] | None = None,
        keepdim: bool = True,
        **options: Any,
    ) -> _Statistic:
        """A statistic of a value that has the shape of the value of the node `at`."""
        layout = self._layout(at)
        rows, columns, channels = layout
        rank = len(self.block.tail(at)) + 1
        dims = [rows, columns] if dims is None else [d % rank for d in dims]
        if 0 in dims:
            raise ConversionError("it mixes the images of a batch")
        if rows not in dims or columns not in dims:
            raise ConversionError("it mixes one axis only")
        # What is left of the dims in the map (n, ..., h, w), and which of them are mixed too.
        left = [d for d in range(1, rank) if d not in (rows, columns) or (d == rows and channels > 1)]
        over = [1 + place for place, d in enumerate(left) if d in dims]
        if (rows, columns) != (rank - 2, rank - 1):
            value = self.emit(lifting.as_map, value, layout, self._flat_size(at))
        feature = self.block.size(at)
        window = self.window_of(feature)
        grid = self.emit(lifting.statistic, value, kind, window, over, **options)
        tail = tuple(
            1 if d in dims else n
            for d, n in enumerate(self.block.shapes[at][0])
            if d and (keepdim or d not in dims)
        )
        mode = _Mode(self.emit(lifting.count, grid), window, feature)
        made = _Statistic(grid, mode, tail)
        if len(tail) == 3 and tail[1:] == (1, 1):
            made.hosted = grid
        else:
            made.stacked = self.emit(lifting.stack, grid, tail)
        return made

    def _reduce(self, node: fx.Node) -> None:
        kind, dims, keepdim, options = _reduction(self.block, node)
        source = tensors(self.block, node)[0]
        if source in self.halves:
            origin, before, first, kept = self.halves[source]
            if before != kind:
                raise ConversionError("it mixes one axis by another operation than the other")
            rank = len(self.block.shapes[origin][0])
            left = [d for d in range(rank) if kept or d not in first]
            dims = sorted({*first, *(left[d] for d in dims)})
            source = origin
            if keepdim != kept:
                raise ConversionError("it mixes one axis only")
        elif node in self.block.globals and whole(self.block, source):
            if not set(self._layout(source)[:2]) <= set(dims):
                self.halves[node] = (source, kind, list(dims), keepdim)
                return
        state = self.states.get(source)
        if isinstance(state, _Weights):
            made = self._reduce_weights(state, kind, dims, keepdim)
        elif isinstance(state, _Chain) and self._belongs(state, source, kind):
            made = self._reduce_chain(state, source, kind, dims, keepdim, options)
        else:
            if source in self.touched and not self._shows(source):
                raise ConversionError("it is a statistic of pixels and statistics that cannot be told apart")
            made = self._statistic(self.plain(source), source, kind, dims, keepdim, **options)
        if not (node in self.block.shapes):  # (values, indices) or (variance, mean)
            self.states[node] = made
            for user in node.users:
                self.states[user] = self._pick(node, user, made, source, dims, keepdim)
        else:
            self.states[node] = made

    def _pick(self, node: fx.Node, user: fx.Node, made: _Statistic, source: fx.Node, dims: Any, keepdim: bool) -> _Statistic:
        if user.args[1] == 0:
            return made
        if operation(node) in ("std_mean", "var_mean"):
            return self._statistic(self.plain(source), source, "mean", dims, keepdim)
        raise ConversionError("it looks for the place of a maximum")

    def _shows(self, node: fx.Node) -> bool:
        """Whether a map is used for anything but statistics."""
        for user in node.users:
            if operation(user) in REDUCTIONS:
                continue
            if not (is_pointwise(user) or is_view(user)) or self._shows(user):
                return True
        return False

    def _belongs(self, chain: _Chain, node: fx.Node, kind: str) -> bool:
        """Whether the arithmetic before a reduction is a part of the statistic.

        A centred square is, always: it is a variance. Else it is if nothing but statistics see
        it; a map that is used as a map is one, and its statistic is the local one of that map.
        """
        centred = any(operation(step) in ("add", "sub", "rsub") for step in chain.steps)
        return (chain.square and centred) or chain.shift is not None or not self._shows(node)

    def _reduce_chain(
        self, chain: _Chain, source: fx.Node, kind: str, dims: Sequence[int], keepdim: bool, options: Any
    ) -> _Statistic:
        if kind not in ("mean", "sum"):
            raise ConversionError(f"{kind} of a map and a statistic has no local form")
        mean = self._statistic(chain.value, chain.at, "mean")
        result, offset, deviation = self._stacked(mean), chain.shift, None
        if chain.square:
            spread = self._statistic(chain.value, chain.at, "std", correction=0)
            deviation = self._stacked(spread)
        previous = chain.root
        for step in chain.steps:
            if _squares(step):
                assert deviation is not None
                result = self.emit(lifting.sum_of_squares, result, deviation)
                deviation = None
            elif operation(step) == "exp":
                assert offset is not None
                result = self.emit(operator.mul, result, self.emit(torch.exp, offset))
                offset = None
            elif offset is not None:
                offset = self._apply(step, previous, offset, mean)
            else:
                result = self._apply(step, previous, result, mean)
                if deviation is not None and operation(step) in ("mul", "div"):
                    deviation = self._apply(step, previous, deviation, mean)
            previous = step
        if kind == "sum":
            like = self.emit(
                lifting.as_map, chain.value, self._layout(chain.at), self._flat_size(chain.at)
            )
            result = self.emit(operator.mul, result, self.emit(lifting.pixels, like, mean.mode.window))
        rank = len(self.block.shapes[source][0])
        spatial = self._layout(chain.at)[:2]
        over = [d % rank for d in dims if d % rank not in spatial]
        if over:
            reduce = torch.mean if kind == "mean" else torch.sum
            result = self.emit(reduce, result, dim=over, keepdim=True)
        result = self.emit(lifting.as_type, result, self._example())
        tail = tuple(
            1 if d in {e % rank for e in dims} else n
            for d, n in enumerate(self.block.shapes[source][0])
            if d and (keepdim or d not in {e % rank for e in dims})
        )
        result = self.emit(lifting.reshaped, result, tail)
        return _Statistic(mean.grid, mean.mode, tail, stacked=result)

    def _apply(self, step: fx.Node, previous: fx.Node, value: Get, lead: _Statistic) -> Get:
        def pick(n: fx.Node) -> Any:
            if n is previous:
                return value
            if not isinstance(n.meta.get("val"), torch.Tensor | list | tuple):
                return self.scalar(n, lead.mode)
            state = self.states.get(n)
            return self._stacked(state) if isinstance(state, _Statistic) else self.plain(n)

        return self.call(step, pick)

    def _norm(self, node: fx.Node) -> None:
        name = operation(node)
        source = node.args[0]
        assert isinstance(source, fx.Node)
        channels = self.block.shapes[source][0][1]
        if name == "instance_norm":
            weight, bias, groups = node.args[1], node.args[2], channels
        elif name == "group_norm":
            groups, weight, bias = node.args[1], *_pad(node.args[2:4], 2)  # type: ignore[assignment]
        else:
            weight, bias, groups = *_pad(node.args[2:4], 2), 1  # type: ignore[assignment]
            if len(node.args[1]) != len(self.block.tail(source)) or weight is not None:  # type: ignore[arg-type]
                raise ConversionError("its layer norm has weights for every pixel, or leaves out the channels")
        eps = dims_argument(node, "eps")
        self.values[node] = self.emit(
            lifting.group_norm,
            self.plain(source),
            self._layout(source),
            self._flat_size(source),
            groups,
            self.window_of(self.block.size(source)),
            *(None if w is None else self.plain(w) for w in (weight, bias)),  # type: ignore[arg-type]
            eps,
        )

    # ---- softmax over the map

    def _softmax(self, node: fx.Node) -> None:
        source, dim = tensors(self.block, node)[0], node.args[1]
        layout = self._layout(node)
        assert isinstance(dim, int)
        if layout != (dim % len(self.block.shapes[node][0]),) * 2 + (1,):
            raise ConversionError("its softmax does not run over the pixels alone")
        powers = self.emit(operator.getitem, self.emit(lifting.raised, self.plain(source)), 1)
        self.states[node] = _Weights(powers, powers, node, node)

    def _weigh(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """What is done to the weights of a softmax over the map, before they weigh."""
        state = next(s for n in operands if isinstance(s := self.states.get(n), _Weights))
        others = [n for n in operands if self.states.get(n) is not state]
        if is_view(node) and not others and state.at is state.powers_at and whole(self.block, node):
            powers = self.call(node, lambda n: state.powers if self.states.get(n) is state else self.plain(n))
            self.states[node] = _Weights(powers, powers, node, node)
        elif (
            operation(node) == "mul"
            and len(others) == 1
            and others[0] not in self.states
            and self.block.layout(node) == self.block.layout(state.powers_at)
        ):
            values = self.emit(operator.mul, state.values, self.plain(others[0]))
            self.states[node] = _Weights(values, state.powers, node, state.powers_at)
        else:
            self._ordinary(node, operands)

    def _reduce_weights(
        self, state: _Weights, kind: str, dims: Sequence[int], keepdim: bool
    ) -> _Statistic:
        if kind not in ("mean", "sum"):
            raise ConversionError(f"{kind} of a softmax over the map has no local form")
        above = self._statistic(state.values, state.at, kind, dims, keepdim)
        below = self._statistic(state.powers, state.powers_at, "sum", dims, keepdim)
        ratio = self.emit(operator.truediv, self._stacked(above), self._stacked(below))
        ratio = self.emit(lifting.as_type, ratio, self._example())
        return _Statistic(above.grid, above.mode, above.tail, stacked=ratio)

    def _pool(self, node: fx.Node) -> None:
        """A product of matrices that sums over pixels, weighted by one map."""
        a, b = node.args[:2]
        assert isinstance(a, fx.Node)
        assert isinstance(b, fx.Node)
        right = self.block.tail(b)[-1] == 1
        vector, matrix = (b, a) if right else (a, b)
        rank = len(self.block.shapes[node][0])
        place = rank - 1 if right else rank - 2
        if self._layout(matrix) != (place, place, 1):
            raise ConversionError("its pixels lie in an unknown layout (matmul)")
        weights = self.states.get(vector)
        weigh = isinstance(weights, _Weights) and weights.at is weights.powers_at
        turned = Operator("aten.transpose.int")
        value = self.emit(turned, weights.powers if weigh else self.plain(vector), -1, -2)  # type: ignore[union-attr]
        total = self.emit(operator.mul, self.plain(matrix), value)
        above = self._statistic(total, matrix, "sum", [place])
        result = self._stacked(above)
        if weigh:
            ones = tuple(
                1 if d == place else n
                for d, n in enumerate(_turned(self.block.shapes[vector][0]))
            )[1:]
            sums = self._statistic(weights.powers, vector, "sum")  # type: ignore[union-attr]
            result = self.emit(operator.truediv, result, self.emit(lifting.reshaped, self._stacked(sums), ones))
            result = self.emit(lifting.as_type, result, self._example())
        self.states[node] = _Statistic(above.grid, above.mode, self.block.tail(node), stacked=result)


def _squares(node: fx.Node) -> bool:
    name = operation(node)
    if name == "mul":
        return node.args[0] is node.args[1]
    return name == "square" or (name == "pow" and node.args[1] == 2)


def _turned(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def _pad(values: Sequence[Any], length: int) -> list[Any]:
    return [*values, *[None] * (length - len(values))]


def _reduction(block: Block, node: fx.Node) -> tuple[str, list[int], bool, dict[str, Any]]:
    """Kind, dims, keepdim and options of a node that reduces."""
    name = operation(node)
    source = tensors(block, node)[0]
    rank = len(block.shapes[source][0])
    if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        return ("mean" if "avg" in name else "amax"), [rank - 2, rank - 1], True, {}
    dims = dims_argument(node)
    dims = list(range(rank)) if dims in (None, []) else [dims] if isinstance(dims, int) else list(dims)
    keepdim = bool(dims_argument(node, "keepdim"))
    options: dict[str, Any] = {}
    kind = {"max": "amax", "min": "amin", "std_mean": "std", "var_mean": "var"}.get(name, name)
    if kind in ("std", "var"):
        correction = dims_argument(node, "correction")
        if correction is None:
            unbiased = dims_argument(node, "unbiased")
            correction = 1 if unbiased is None else int(unbiased)
        options["correction"] = correction
    if name in ("linalg_vector_norm", "norm"):
        order = dims_argument(node, "ord" if name == "linalg_vector_norm" else "p")
        if order not in (None, 1, 2):
            raise ConversionError(f"a norm of order {order} over the map has no local form")
        kind, options["order"] = "norm", order or 2
    return kind, [d % rank for d in dims], keepdim, options
