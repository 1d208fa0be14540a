"""Compare the operations of a network at other input sizes with those of a scan.

A network may take another path where the image is large, odd, or a square. The runs here record
names of operations alone, and run each block of one configuration and input shape once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from glocal.ops.aten import is_elementwise
from glocal.ops.windows import Size
from glocal.scanning.aten import FACTORIES, VIEWS
from glocal.scanning.hooks import HookWatch
from glocal.scanning.modules import ancestors
from glocal.scanning.recorder import Call, operation_name
from glocal.scanning.sandbox import isolated_copy, track_modules
from glocal.scanning.shapes import ShapeMemo
from glocal.scanning.trace import RunMode, quiet, running

__all__ = ["Difference", "OtherSizes", "sizes_to_compare"]

LARGE = 2112
"""Sides of the largest image that is compared, about, in pixels."""
MORE_CALLS = 4
"""A run stops after this many times the calls of the scan: it has taken another path by then."""

# Which of these run depends on how a tensor lies in memory.
_LAYOUT = VIEWS | frozenset("clone alias detach expand reshape contiguous empty_strided".split())

# Operations whose presence at another size adds nothing that mixes pixels.
_HARMLESS = FACTORIES | frozenset(
    "pointwise constant_pad_nd reflection_pad2d replication_pad2d slice narrow permute transpose t "
    "arange zeros ones full empty copy _to_copy fill zero".split()
)

Names = dict[str, list[str]]
"""By path of a module, the names of the operations that its own code runs, in order."""


def sizes_to_compare(first: Size) -> Iterator[Sequence[Size]]:
    """Return groups of input sizes; the first size that runs stands for its group.

    >>> [group[0] for group in sizes_to_compare((64, 64))]
    [(2125, 2311), (37, 23), (128, 128)]
    """
    h, w = first
    high, wide = (max(LARGE, -(-2 * side // 64) * 64) for side in first)
    wide += 192
    multiples = -(-high // h) * h, -(-wide // w) * w
    yield (high + 13, wide + 7), (high + 8, wide + 24), (high, wide), multiples
    low, narrow = max(1, h // 2), max(1, w // 2)
    yield (
        (low + 5, max(min(narrow, 8), narrow - 9)),
        (-(-low // 8) * 8, -(-narrow // 8) * 8),
        (low, narrow),
    )
    yield ((2 * h, 2 * h) if h == w else (max(h, w),) * 2,)


class Difference(NamedTuple):
    """What differs at another size.

    Attributes:
        modules: paths of the modules whose own code runs other operations.
        has_new: some of these may mix pixels, and run more often than in the scan.
    """

    modules: frozenset[str]
    has_new: bool


class OtherSizes:
    """Runs a network at other sizes than a scan.

    Args:
        model: the network.
        calls: of the scan.
        mode: of the runs.
    """

    def __init__(self, model: nn.Module, calls: Sequence[Call], mode: RunMode) -> None:
        self.model = model
        self.mode: RunMode = mode
        self.limit = MORE_CALLS * len(calls) + 1000
        self.known: Names = {}
        for call in calls:
            if call.name not in _LAYOUT:
                name = _name(call.name, call.arguments.get("pad"), call.pointwise)
                self.known.setdefault(call.path, []).append(name)
        self._copy: _Copy | None = None

    def difference(self, make_args: Callable[[str | None], tuple[Any, ...]]) -> Difference | None:
        """Return what differs at another size; None if the network does not run there."""
        if self._copy is not None:  # a network that stores values may run otherwise now
            found = self._difference(make_args, self._copy)
            if found is not None and not found.modules:
                return found
        for once in (True, False):  # a block may read what another block of its kind has stored
            self._copy = _Copy(self.model, self.mode, self.limit, once=once)
            found = self._difference(make_args, self._copy)
            if found is not None:
                return found
        return None

    def _difference(
        self, make_args: Callable[[str | None], tuple[Any, ...]], copy: "_Copy"
    ) -> Difference | None:
        try:
            with quiet():
                names = copy.run(make_args)
        except Exception:
            self._copy = None
            return None
        paths = {
            path for path in {*self.known, *names} if not copy.skipped.intersection(ancestors(path))
        }
        differing = frozenset(path for path in paths if self.known.get(path) != names.get(path))
        more = (
            Counter(names.get(path, ())) - Counter(self.known.get(path, ())) for path in differing
        )
        new = {name for each in more for name in each}
        return Difference(differing, any(name.split()[0] not in _HARMLESS for name in new))


class _TooManyError(Exception):
    """The run takes too long."""


class _Copy:
    """A copy of a network for runs that record names.

    Attributes:
        skipped: paths of the blocks that did not run, because one of their kind did.
    """

    def __init__(self, model: nn.Module, mode: RunMode, limit: int, *, once: bool) -> None:
        self.mode: RunMode = mode
        self.limit = limit
        self.skipped: set[str] = set()
        self._watch = HookWatch()
        self._results: dict[Any, Any] = {}
        self._model = isolated_copy(model, self._watch)
        if mode == "meta":
            self._model = self._model.to("meta")
        self._recorder = _NameRecorder()
        if once:
            _run_blocks_once(self._model, self._recorder, self._results, self.skipped)
        track_modules(self._model, self._recorder.paths)

    def run(self, make_args: Callable[[str | None], tuple[Any, ...]]) -> Names:
        """The names of the operations by module."""
        self._results.clear()
        self.skipped.clear()
        self._recorder.restart(self.limit)
        with running(self._model, self._watch, self.mode):
            args = make_args("meta" if self.mode == "meta" else None)
            with suppress(_TooManyError), self._recorder:
                self._model(*args)
        return self._recorder.names


class _NameRecorder(TorchDispatchMode):
    """Records the names of operations by module.

    Attributes:
        names: by module.
        paths: stack of the running modules.
        muted: nothing is recorded while it is True.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paths: list[str] = []
        self._shapes = ShapeMemo()
        self.restart(0)

    def restart(self, limit: int) -> None:
        """Forget what was recorded; stop after `limit` operations."""
        self.names: Names = {}
        self.paths.clear()
        self.muted = False
        self._left = limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = self._shapes.run(func, args, kwargs or {})
        name = operation_name(func)
        if not self.muted and name not in _LAYOUT and isinstance(out, Tensor | tuple | list):
            pad = args[1] if name == "constant_pad_nd" and len(args) > 1 else None
            path = self.paths[-1] if self.paths else ""
            self.names.setdefault(path, []).append(_name(name, pad, is_elementwise(func)))
            self._left -= 1
            if self._left < 0:
                raise _TooManyError
        return out


def _name(name: str, pad: Sequence[int] | None, pointwise: bool) -> str:
    """The name of an operation; padding by nothing is another one than padding."""
    if pad is not None and not any(pad):
        return f"{name} 0"
    return f"pointwise {name}" if pointwise else name


def _run_blocks_once(
    model: nn.Module, recorder: _NameRecorder, results: dict[Any, Any], skipped: set[str]
) -> None:
    """Let blocks reuse results of blocks of the same configuration and input shapes."""
    kinds = _kinds(model)
    for path, module in model.named_modules():
        if not path or not module._modules or isinstance(module, torch.jit.ScriptModule):
            continue
        if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
            continue
        kind = kinds[id(module)]
        vars(module)["forward"] = _Once(path, module.forward, kind, recorder, results, skipped)


class _Once:
    """Runs a forward, or returns tensors like its result for inputs of these shapes."""

    def __init__(
        self,
        path: str,
        forward: Callable[..., Any],
        kind: int,
        recorder: _NameRecorder,
        results: dict[Any, Any],
        skipped: set[str],
    ) -> None:
        self.path, self.forward, self.kind = path, forward, kind
        self.recorder, self.results, self.skipped = recorder, results, skipped

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree_flatten((args, kwargs))
        key = (self.kind, str(structure), tuple(map(_spec, leaves)))
        path, result = self.results.get(key, (self.path, None))
        if path != self.path:
            self.skipped.add(self.path)
            self.recorder.muted = True
            try:
                return tree_map_only(Tensor, torch.empty_like, result)
            finally:
                self.recorder.muted = False
        result = self.forward(*args, **kwargs)
        self.results[key] = (self.path, result)
        return result


def _spec(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return (tuple(leaf.shape), leaf.stride(), leaf.dtype)
    return repr(leaf)


def _kinds(model: nn.Module) -> dict[int, int]:
    """Return a number for each module, shared by equal code and plain attributes."""
    numbers: dict[Any, int] = {}
    made: dict[int, int] = {}

    def number(module: nn.Module) -> int:
        if id(module) not in made:
            made[id(module)] = -1  # for a module that is inside itself
            key = (
                type(module),
                tuple((name, repr(v)) for name, v in vars(module).items() if _is_plain(v)),
                tuple(tuple(p.shape) for p in module._parameters.values() if p is not None),
                tuple((name, c if c is None else number(c)) for name, c in module._modules.items()),
            )
            made[id(module)] = numbers.setdefault(key, len(numbers))
        return made[id(module)]

    number(model)
    return made


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float | str)
