"""Run a network, with or without values, and record every tensor operation."""

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.scanning.hooks import HookWatch, isolated_global_hooks
from glocal.scanning.modules import ancestors
from glocal.scanning.recorder import Call, Recorder, Ref
from glocal.scanning.sandbox import isolated_copy, keep_random_state, track_modules

RunMode = Literal["meta", "fake", "real"]
"""Tensors of a run: on the meta device; fake, on the network's own device; real, with values."""

__all__ = [
    "Call",
    "Ref",
    "RunMode",
    "Spec",
    "Trace",
    "quiet",
    "running",
    "trace",
    "trace_graph",
]


@dataclass(frozen=True)
class Spec:
    """Shape and dtype of a tensor in the arguments of a module."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Trace:
    """The record of one run.

    Attributes:
        calls: the aten operations, in order.
        inputs: by module path, the (args, kwargs) of each call of the module, with `Spec`s for
            tensors.
        results: the tensors that the network returned.
        exits: calls that take values out of torch ("numpy", "tolist"), each with the number of
            calls before it.
        hooked: paths of the modules whose hooks change inputs or outputs.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)
    results: list[Ref] = field(default_factory=list)
    exits: list[tuple[int, Call]] = field(default_factory=list)
    hooked: frozenset[str] = frozenset()

    @cached_property
    def by_module(self) -> dict[str, list[int]]:
        """Return by module path the indices of the calls in the module."""
        found: dict[str, list[int]] = {}
        for index, call in enumerate(self.calls):
            for path in ancestors(call.path):
                found.setdefault(path, []).append(index)
        return found


def trace(
    model: nn.Module,
    make_args: Callable[[str | None], tuple[Any, ...]],
    mode: RunMode,
    *,
    lines: bool = True,
) -> Trace:
    """Run a copy of `model` in its mode and record it.

    The model and torch's random state stay as they were.

    Args:
        model: any network; copies of its forward hooks run.
        make_args: makes the positional arguments on a device; None is the network's own.
        mode: "meta" and "fake" compute no values and use no memory; "real" computes them.
        lines: whether to find the lines of the network's source.
    """
    watch = HookWatch()
    model = isolated_copy(model, watch)
    if mode == "meta":
        model = model.to("meta")
    recorder = Recorder(watch.running, lines=lines)
    inputs: dict[str, list[tuple[Any, Any]]] = {}

    def record_inputs(path: str, args: Any, kwargs: Any) -> None:
        if not kwargs and type(args) is tuple and all(type(a) is Tensor for a in args):
            specs: Any = (tuple(map(_spec, args)), {})
        else:
            specs = tree_map_only(Tensor, _spec, (args, kwargs))
        inputs.setdefault(path, []).append(specs)

    track_modules(model, recorder.paths, record_inputs)
    with running(model, watch, mode), ExitStack() as stack:
        args = make_args("meta" if mode == "meta" else None)
        stack.enter_context(recorder)
        stack.enter_context(recorder.names)
        results = model(*args)
    refs = [recorder.ref(t) for t in tree_leaves(results) if isinstance(t, Tensor)]
    exits = [(at, call) for at, call in recorder.exits if call.hook in (None, *watch.changed)]
    return Trace(recorder.calls, inputs, refs, exits, frozenset(watch.changed))


def _spec(tensor: Tensor) -> Spec:
    return Spec(tuple(tensor.shape), tensor.dtype)


@contextmanager
def running(model: nn.Module, watch: HookWatch, mode: RunMode) -> Iterator[None]:
    """Run an isolated copy of a network in a mode, without side effects."""
    with ExitStack() as stack:
        stack.enter_context(keep_random_state())
        stack.enter_context(torch.no_grad())
        stack.enter_context(_eager())
        stack.enter_context(isolated_global_hooks(model, watch))
        if mode == "fake":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def _eager() -> AbstractContextManager[Any]:
    """Run compiled modules as they were before torch.compile."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled; the import takes seconds
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def trace_graph(
    graph: fx.Graph, make: Callable[[fx.Node], tuple[tuple[int, ...], torch.dtype]]
) -> tuple[Trace, dict[fx.Node, Any]]:
    """Run a captured graph on fake tensors; a call's path is the name of its node.

    Args:
        graph: aten operations on tensors and sizes.
        make: returns shape and dtype of a placeholder.

    Returns:
        The trace, and the value of every node, with `Ref`s for tensors.
    """
    recorder = Recorder()
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
    return Trace(recorder.calls), made


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
