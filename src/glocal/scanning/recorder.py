"""Record the aten operations of a run, with function, module and source line."""

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glocal.ops.aten import is_elementwise
from glocal.scanning.shapes import ShapeMemo

__all__ = ["Call", "Recorder", "Ref", "operation_name", "source_line"]

_TORCH = str(Path(torch.__file__).parent)
_WATCHING = (__file__, str(Path(__file__).with_name("hooks.py")))
_PACKAGE = Path(__file__).parents[1]
_NETWORKS = _PACKAGE / "networks"


@dataclass(frozen=True)
class Ref:
    """A tensor that a call reads: its shape and the calls that made it.

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
        within: paths of all running modules, outermost first.
        hook: path of the module whose forward hook makes the call; None outside hooks.
    """

    name: str
    pointwise: bool
    function: str
    path: str
    line: str
    arguments: dict[str, Any]
    outputs: tuple[tuple[int, ...], ...]
    within: tuple[str, ...] = ()
    hook: str | None = None

    def refs(self) -> list[Ref]:
        """All tensors that it reads, in the order of its arguments."""
        return self._refs

    @functools.cached_property
    def _refs(self) -> list[Ref]:
        return [leaf for leaf in _leaves(self.arguments.values()) if isinstance(leaf, Ref)]


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """The leaves of the arguments or results of an aten operation."""
    for value in values:
        if type(value) in (list, tuple):
            yield from _leaves(value)
        else:
            yield value


# Functions that give the values of a tensor to code outside torch.
_EXITS = frozenset(["numpy", "array", "tolist", "dlpack"])


class _FunctionNames(TorchFunctionMode):
    """Tracks the outermost torch function, which the network's source calls."""

    def __init__(self, leaves_torch: Callable[[str, Any], None] = lambda name, args: None) -> None:
        super().__init__()
        self.function = ""
        self.leaves_torch = leaves_torch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer = self.function
        if not outer:
            self.function = _name(func)
            if self.function in _EXITS:
                self.leaves_torch(self.function, args)
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.function = outer


class Recorder(TorchDispatchMode):
    """Records every aten operation while it is entered.

    Attributes:
        calls: the operations, in order.
        exits: the calls that take values out of torch, each with the number of calls before it.
        names: the mode that knows which torch function runs.
        paths: stack of the running modules, see `track_modules`.
        origin: by id of a tensor, the call that returned it and its position in the outputs.
        written: by memory of a tensor, the last call that wrote to it in place.
    """

    def __init__(self, hooks: Sequence[str] = (), *, lines: bool = True) -> None:
        """Make a recorder.

        Args:
            hooks: the paths of the modules whose hooks run at any time.
            lines: whether to find the lines of the network's source.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.exits: list[tuple[int, Call]] = []
        self.names = _FunctionNames(self._leaves_torch)
        self.paths: list[str] = []
        self.hooks = hooks
        self._lines = lines
        self._shapes = ShapeMemo()
        self.origin: dict[int, tuple[int, int]] = {}
        self.written: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id is unique while its tensor lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        name = operation_name(func)
        named = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        arguments = {name: self._seen(value) for name, value in named.items()}
        out = self._shapes.run(func, args, kwargs)
        index = len(self.calls)
        tensors = [leaf for leaf in _leaves((out,)) if isinstance(leaf, Tensor)]
        if not tensors:
            return out
        self.calls.append(
            Call(
                name,
                is_elementwise(func),
                self.names.function or name,
                self.paths[-1] if self.paths else "",
                source_line() if self._lines else "",
                arguments,
                tuple(tuple(t.shape) for t in tensors),
                tuple(self.paths),
                self.hooks[-1] if self.hooks else None,
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

    def _seen(self, value: Any) -> Any:
        """An argument with `Ref`s for tensors."""
        if isinstance(value, Tensor):
            return self.ref(value)
        return type(value)(map(self._seen, value)) if type(value) in (list, tuple) else value

    def _leaves_torch(self, function: str, args: Any) -> None:
        """Record that code outside torch reads a tensor."""
        given = [self.ref(leaf) for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        call = Call(
            function, False, function, self.paths[-1] if self.paths else "", source_line(),
            {"self": given}, (), tuple(self.paths), self.hooks[-1] if self.hooks else None,
        )  # fmt: skip
        self.exits.append((len(self.calls), call))

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
    """Return the aten name of an operator, without overload and in-place underscore.

    >>> operation_name(torch.ops.aten.relu_.default)
    'relu'
    """
    name: str = function._schema.name
    return name.split("::")[-1].rstrip("_")


def source_line() -> str:
    """Return the line of the network's source that calls the operation, "file.py:12".

    Call it in the `__torch_dispatch__` of a mode. The result is empty if only modules of torch
    call the operation.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        whose = _whose(frame.f_code.co_filename)
        if whose == "glocal":  # code that runs the network
            return ""
        if whose == "network":
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@functools.cache
def _whose(filename: str) -> str:
    """Whether a file of source is "torch"'s, the "network"'s or "glocal"'s."""
    if filename.startswith((_TORCH, "<")) or filename in _WATCHING:
        return "torch"
    above = Path(filename).parents
    return "glocal" if _PACKAGE in above and _NETWORKS not in above else "network"
