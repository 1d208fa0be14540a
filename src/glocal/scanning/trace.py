"""Run a network without computing anything, and record every tensor operation it makes."""

import functools
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.scanning.modules import clone, drop_hooks
from glocal.scanning.sandbox import follow, same_random_state, stand_in

How = Literal["meta", "fake", "real"]

__all__ = [
    "Call",
    "How",
    "Ref",
    "Spec",
    "Trace",
    "operation_name",
    "quiet",
    "source_line",
    "trace",
    "trace_graph",
]

_TORCH = str(Path(torch.__file__).parent)
_HERE = __file__
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ref:
    """A tensor that a call reads.

    Attributes:
        shape: its shape.
        sources: indices of the calls that made it: the last that wrote it, and the last that
            wrote its memory; empty for inputs and parameters.
        output: which output of the first source it is.
    """

    shape: tuple[int, ...]
    sources: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Call:
    """One aten operation.

    Attributes:
        name: aten name without overload ("native_batch_norm").
        pointwise: whether torch tags it as element by element.
        function: the torch function that the network's source calls ("instance_norm").
        path: path of the innermost module that runs.
        line: "file.py:12" of the network's source.
        arguments: by schema name; tensors are `Ref`s.
        outputs: shapes.
    """

    name: str
    pointwise: bool
    function: str
    path: str
    line: str
    arguments: dict[str, Any]
    outputs: tuple[tuple[int, ...], ...]

    def refs(self) -> list[Ref]:
        """All tensors it reads."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Ref)]


@dataclass(frozen=True)
class Spec:
    """Shape and type of a tensor that a module was called with."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class Trace:
    """What one run did.

    Attributes:
        calls: in order.
        inputs: for each module path, the (args, kwargs) of each of its calls, tensors as `Spec`s.
        results: the tensors that the network returned.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    results: list[Ref] = field(default_factory=list)


def trace(model: nn.Module, make_args: Callable[[str | None], tuple[Any, ...]], how: How) -> Trace:
    """Run a copy of `model` and record it; the caller's random state is left as it was.

    Args:
        model: stays as it is; its forward hooks do not run.
        make_args: its positional arguments, with the tensors on the device that is named, or
            on the network's own where that is None.
        how: "meta": on the meta device; "fake": as if on its own device. Both compute nothing
            and use no memory. "real": with values.
    """
    model = drop_hooks(clone(model)).eval().to("meta") if how == "meta" else stand_in(model)
    record = Trace()
    recorder = _Recorder(record)

    def called(path: str, args: Any, kwargs: Any) -> None:
        specs = tree_map_only(Tensor, lambda t: Spec(tuple(t.shape), t.dtype), (args, kwargs))
        record.inputs.setdefault(path, []).append(specs)

    follow(model, recorder.paths, called)
    with ExitStack() as stack:
        stack.enter_context(same_random_state())
        stack.enter_context(torch.no_grad())
        if how == "fake":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        args = make_args("meta" if how == "meta" else None)
        stack.enter_context(recorder)
        stack.enter_context(recorder.names)
        results = model(*args)
    record.results = [recorder.ref(t) for t in tree_leaves(results) if isinstance(t, Tensor)]
    return record


def trace_graph(
    graph: fx.Graph, make: Callable[[fx.Node], tuple[tuple[int, ...], torch.dtype]]
) -> tuple[Trace, dict[fx.Node, Any]]:
    """Run a captured graph on fake tensors; the path of a call is the name of its node.

    Args:
        graph: aten operations on tensors and sizes.
        make: shape and type of a placeholder.

    Returns:
        the trace, and what every node made, with `Ref`s for tensors.
    """
    record = Trace()
    recorder = _Recorder(record)
    values: dict[fx.Node, Any] = {}
    made: dict[fx.Node, Any] = {}
    with torch.no_grad(), FakeTensorMode(), same_random_state():
        for node in graph.nodes:
            if node.op == "placeholder":
                shape, dtype = make(node)
                values[node] = torch.zeros(shape, dtype=dtype)
            elif node.op == "call_function":
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                recorder.paths = [node.name]
                with recorder:
                    values[node] = node.target(*args, **kwargs)
            else:
                continue
            made[node] = tree_map_only(Tensor, recorder.ref, values[node])
    return record, made


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch says of attempts that may fail from the user, who is told the outcome."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    spoken = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(spoken), redirect_stderr(spoken):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Names(TorchFunctionMode):
    """Remembers which torch function the network's own source is inside of."""

    def __init__(self) -> None:
        super().__init__()
        self.function = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer = self.function
        if not outer:
            self.function = _name(func)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.function = outer


class _Recorder(TorchDispatchMode):
    def __init__(self, record: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record
        self.names = _Names()
        self.paths: list[str] = []
        self.origin: dict[int, tuple[int, int]] = {}
        self.written: dict[int, int] = {}
        self.alive: list[Tensor] = []  # ids stay unique while their tensors live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        name = operation_name(func)
        named = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        arguments = {
            name: self.ref(value)
            if isinstance(value, Tensor)
            else tree_map_only(Tensor, self.ref, value)
            if isinstance(value, list | tuple)
            else value
            for name, value in named.items()
        }
        out = func(*args, **kwargs)
        index = len(self.record.calls)
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not tensors:
            return out
        self.record.calls.append(
            Call(
                name,
                torch.Tag.pointwise in func.tags,
                self.names.function or name,
                self.paths[-1] if self.paths else "",
                source_line(),
                arguments,
                tuple(tuple(t.shape) for t in tensors),
            )
        )
        for position, tensor in enumerate(tensors):
            self.origin[id(tensor)] = (index, position)
            self.alive.append(tensor)
        if schema.is_mutable:
            for argument in schema.arguments:
                target = named.get(argument.name)
                if argument.alias_info and argument.alias_info.is_write:
                    for leaf in tree_leaves(target):
                        if isinstance(leaf, Tensor):
                            self.alive.append(leaf)
                            self.written[leaf.untyped_storage()._cdata] = index
        return out

    def ref(self, tensor: Tensor) -> Ref:
        made = self.origin.get(id(tensor))
        sources = [] if made is None else [made[0]]
        if tensor.layout == torch.strided:
            late = self.written.get(tensor.untyped_storage()._cdata)
            if late is not None and late not in sources:
                sources.append(late)
        return Ref(tuple(tensor.shape), tuple(sources), made[1] if made else 0)


@functools.cache
def _name(function: Any) -> str:
    name: str = resolve_name(function) or getattr(function, "__name__", str(function))
    return name.rsplit(".", 1)[-1].strip("_")


def operation_name(function: Any) -> str:
    """The aten name of an operation without overload and in-place mark."""
    name: str = function._schema.name
    return name.split("::")[-1].rstrip("_")


def source_line() -> str:
    """ "file.py:12" of the network's source that calls the operation a dispatch mode handles.

    Empty where no source of the network's own does, as in a network of torch's modules alone.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not (name.startswith((_TORCH, "<")) or name == _HERE):
            above = Path(name).parents
            if _PACKAGE in above and _PACKAGE / "networks" not in above:  # who runs the network
                return ""
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
