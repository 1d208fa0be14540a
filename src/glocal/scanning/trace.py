"""Run a network, with or without values, and record every tensor operation."""

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
from glocal.scanning.sandbox import isolated_copy, keep_random_state, track_modules

RunMode = Literal["meta", "fake", "real"]
"""Tensors of a run: on the meta device; fake, on the network's own device; real, with values."""

__all__ = [
    "Call",
    "Ref",
    "RunMode",
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
_NETWORKS = _PACKAGE / "networks"


@dataclass(frozen=True)
class Ref:
    """A reference to a tensor that a call reads: its shape, and the calls that made it.

    Attributes:
        shape: its shape.
        sources: indices of the calls that made it: the call that returned it, then the last call
            that wrote to its memory in place, if any. Empty for inputs and parameters.
        output: its position among the outputs of the first source.
    """

    shape: tuple[int, ...]
    sources: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Call:
    """One recorded call of an aten operation.

    Attributes:
        name: aten name without overload ("native_batch_norm").
        pointwise: torch tags the operation as element by element.
        function: the torch function that the network's source calls ("instance_norm").
        path: path of the innermost running module.
        line: line of the network's source ("file.py:12"); empty if only modules of torch call it.
        arguments: by name in the schema, with `Ref`s for tensors.
        outputs: shapes of the tensors that it returns.
    """

    name: str
    pointwise: bool
    function: str
    path: str
    line: str
    arguments: dict[str, Any]
    outputs: tuple[tuple[int, ...], ...]

    def refs(self) -> list[Ref]:
        """All tensors that it reads, in the order of its arguments."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Ref)]


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a tensor in the arguments of a module."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass
class Trace:
    """The record of one run.

    Attributes:
        calls: the aten operations, in order.
        inputs: by module path, the (args, kwargs) of each call of the module, with `Spec`s for
            tensors.
        results: the tensors that the network returned.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    results: list[Ref] = field(default_factory=list)


def trace(
    model: nn.Module, make_args: Callable[[str | None], tuple[Any, ...]], mode: RunMode
) -> Trace:
    """Run a copy of `model` in eval mode and record it.

    The model and torch's random state stay as they were.

    Args:
        model: any network; its forward hooks do not run.
        make_args: makes the positional arguments on a device; None is the network's own.
        mode: "meta" and "fake" compute no values and use no memory; "real" computes them.
    """
    model = drop_hooks(clone(model)).eval().to("meta") if mode == "meta" else isolated_copy(model)
    record = Trace()
    recorder = _Recorder(record)

    def record_inputs(path: str, args: Any, kwargs: Any) -> None:
        specs = tree_map_only(Tensor, lambda t: Spec(tuple(t.shape), t.dtype), (args, kwargs))
        record.inputs.setdefault(path, []).append(specs)

    track_modules(model, recorder.paths, record_inputs)
    with ExitStack() as stack:
        stack.enter_context(keep_random_state())
        stack.enter_context(torch.no_grad())
        if mode == "fake":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        args = make_args("meta" if mode == "meta" else None)
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
        make: returns shape and dtype of a placeholder.

    Returns:
        The trace, and the value of every node, with `Ref`s for tensors.
    """
    record = Trace()
    recorder = _Recorder(record)
    values: dict[fx.Node, Any] = {}
    made: dict[fx.Node, Any] = {}
    with torch.no_grad(), FakeTensorMode(), keep_random_state():
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
    """Suppress warnings, logs and prints of torch.

    For attempts that may fail: the user sees the outcome, not torch's messages about the attempt.
    """
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    output = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(output), redirect_stderr(output):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _FunctionNames(TorchFunctionMode):
    """Tracks the outermost torch function that runs: the one that the network's source calls."""

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
    """Appends every aten operation to a trace.

    Attributes:
        names: the mode that knows which torch function runs.
        paths: stack of the running modules, see `track_modules`.
        origin: by id of a tensor, the call that returned it and its position in the outputs.
        written: by memory of a tensor, the last call that wrote to it in place.
    """

    def __init__(self, record: Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record
        self.names = _FunctionNames()
        self.paths: list[str] = []
        self.origin: dict[int, tuple[int, int]] = {}
        self.written: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is unique while its tensor lives

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
            self._alive.append(tensor)
        if schema.is_mutable:
            for argument in schema.arguments:
                target = named.get(argument.name)
                if argument.alias_info and argument.alias_info.is_write:
                    for leaf in tree_leaves(target):
                        if isinstance(leaf, Tensor):
                            self._alive.append(leaf)
                            self.written[leaf.untyped_storage()._cdata] = index
        return out

    def ref(self, tensor: Tensor) -> Ref:
        """A reference to a tensor as it is now."""
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
    """The aten name of an operator overload, without the overload and the in-place underscore.

    >>> operation_name(torch.ops.aten.relu_.default)
    'relu'
    """
    name: str = function._schema.name
    return name.split("::")[-1].rstrip("_")


def source_line() -> str:
    """The line of the network's source that calls the current operation, as "file.py:12".

    Call it in the `__torch_dispatch__` of a mode. The result is empty if only modules of torch
    call the operation.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if not (name.startswith((_TORCH, "<")) or name == _HERE):
            above = Path(name).parents
            if _PACKAGE in above and _NETWORKS not in above:  # glocal's code that runs the network
                return ""
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
