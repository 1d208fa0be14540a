"""Run a network at three input sizes and find its global operations.

The sizes are the training size, a larger height, and a larger width. Tensors have no values unless
the network needs them.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

from torch import nn

from glocal.errors import ArgumentError, GlocalError, ScanError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Analysis, Global, Traces
from glocal.scanning.aten import is_known, mixed_dims
from glocal.scanning.modules import ancestors
from glocal.scanning.other_sizes import OtherSizes, sizes_to_compare
from glocal.scanning.period import period_of
from glocal.scanning.sandbox import no_collection
from glocal.scanning.trace import RunMode, Trace, quiet, trace
from glocal.scanning.user_code import failure
from glocal.shortages import raise_shortage_of
from glocal.texts import size_text

__all__ = ["ExampleError", "MakeArgs", "Scan", "input_sizes", "scan_trace", "trace_at"]

MakeArgs = Callable[[Size, str | None], tuple[Any, ...]]


class ExampleError(Exception):
    """A user's function fails to make an example; it may succeed where tensors have values."""


"""Makes the arguments of forward for an input size and a device; None is the network's own."""

MAX_STEP = 512
"""An axis grows by the least common multiple of its length and 64 pixels, or by 64 beyond this."""


@dataclass(frozen=True)
class Scan:
    """The global operations of a network, and the three runs that show them.

    Attributes:
        operations: in the order in which they run.
        traces: the runs at the first size, higher, and wider.
        size: (height, width) of the input in the first run; `Global.feature` refers to it.
        make_args: made the arguments of the runs.
        other_paths: by path of a module whose own code runs other operations at another input
            size than in the runs, that size.
        period: of the network in pixels, see `period_of`; 0 if unknown.
    """

    operations: tuple[Global, ...]
    traces: Traces
    size: Size
    make_args: MakeArgs
    other_paths: dict[str, Size] = field(default_factory=dict)
    period: int = 0

    def other_path(self, path: str) -> Size | None:
        """Return an input size at which a module runs other operations, or None."""
        found = (size for each, size in self.other_paths.items() if path in ancestors(each))
        return next(found, None)


def input_sizes(train_size: Size) -> Iterator[tuple[Size, Size, Size]]:
    """Input sizes of the three runs, by preference.

    An axis grows by a multiple of 64 and, if possible, of its own length: the network pads and
    divides all three sizes in the same way. Where that would be long, it grows by 64 and, if the
    network refuses this, by its own length. Further choices avoid squares, which some networks
    treat specially, and the training size: they store an attention mask for it.

    >>> next(input_sizes((64, 96)))
    ((64, 96), (128, 96), (64, 288))
    """
    h, w = train_size
    down, along = (n if (n := math.lcm(side, 64)) <= MAX_STEP else 64 for side in (h, w))
    yield (h, w), (h + down, w), (h, w + along)
    if down % h or along % w:
        yield (h, w), (2 * h, w), (h, 3 * w)
    if h == w:
        yield (h, w + along), (h + 2 * down, w + along), (h, w + 2 * along)
    yield (h + down, w + along), (h + 2 * down, w + along), (h + down, w + 2 * along)


def scan_trace(model: nn.Module, make_args: MakeArgs, train_size: Size) -> Scan:
    """Find the global operations of `model`.

    Args:
        model: any network; a copy of it runs in eval mode.
        make_args: makes the positional arguments of forward for an input size and a device; a
            device of None is the network's own.
        train_size: (height, width) in pixels.

    Raises:
        ScanError: the network does not run, or runs other operations at other sizes.
    """
    problem: ScanError | None = None
    for sizes in input_sizes(train_size):
        try:
            found, mode = _scan_at(model, make_args, sizes)
        except ScanError as error:
            problem = problem or error
            continue
        return found if mode == "real" else _compared(found, model, make_args, mode)
    assert problem is not None
    raise problem


def trace_at(model: nn.Module, make_args: MakeArgs, size: Size) -> Trace | None:
    """The record of one run at a size; None if the network does not run at it."""
    for mode in get_args(RunMode):
        try:
            with quiet():
                return trace(model, partial(make_args, size), mode)
        except Exception:
            continue
    return None


def _scan_at(
    model: nn.Module, make_args: MakeArgs, sizes: tuple[Size, Size, Size]
) -> tuple[Scan, RunMode]:
    traces, mode = _run(model, make_args, sizes)
    names = [[(c.name, c.path) for c in t.calls] for t in traces]
    for other, size in zip(names[1:], sizes[1:], strict=True):
        if other != names[0]:
            at = next(
                (i for i, (a, b) in enumerate(zip(names[0], other, strict=False)) if a != b),
                min(len(names[0]), len(other)) - 1,
            )
            call = traces[0].calls[at]
            module = f" in module '{call.path}'" if call.path else ""
            raise ScanError(
                f"the network runs other operations at {size_text(size)} than at "
                f"{size_text(sizes[0])}, starting at {call.line or call.function}{module}: "
                "a scan needs the same operations at every size"
            )
    analysis = Analysis(traces)
    with no_collection():
        operations = tuple(analysis.run())
    steps = sizes[1][0] - sizes[0][0], sizes[2][1] - sizes[0][1]
    period = period_of(itertools.chain.from_iterable(analysis.dims), steps)
    return Scan(operations, traces, sizes[0], make_args, period=period), mode


def _compared(found: Scan, model: nn.Module, make_args: MakeArgs, mode: RunMode) -> Scan:
    """The scan with what the network does at other sizes."""
    others: dict[str, Size] = {}
    late: list[Global] = []
    compared = OtherSizes(model, found.traces[0].calls, mode)
    for group in sizes_to_compare(found.size):
        for size in group:
            difference = compared.difference(partial(make_args, size))
            if difference is None:
                continue
            if difference.has_new:
                late += _only_at(size, found, model, make_args, mode)
            others |= dict.fromkeys(sorted(difference.modules - others.keys()), size)
            break
    start = len(found.traces[0].calls) + len(found.traces[0].exits)
    known = dict.fromkeys((o.path, o.function, o.line) for o in found.operations)
    new = {key: o for o in late if (key := (o.path, o.function, o.line)) not in known}
    listed = tuple(replace(o, index=start + n) for n, o in enumerate(new.values()))
    return replace(found, operations=found.operations + listed, other_paths=others)


def _only_at(
    size: Size, found: Scan, model: nn.Module, make_args: MakeArgs, mode: RunMode
) -> list[Global]:
    """The global operations at a size at which the network takes another path."""
    why = f"it runs at {size_text(size)}, but not at the size of the scan {size_text(found.size)}"
    near = (size, (size[0] + 64, size[1]), (size[0], size[1] + 64))
    try:
        with quiet():
            first, *_ = traces = tuple(trace(model, partial(make_args, s), mode) for s in near)
    except Exception:
        return []
    calls = [[(c.name, c.path) for c in t.calls] for t in traces]
    if calls[0] == calls[1] == calls[2]:
        operations = Analysis((traces[0], traces[1], traces[2])).run()
        return [replace(o, refusal=o.refusal or why, feature=None) for o in operations]
    # It takes this path at no size near: what its calls mix cannot be seen from shapes.
    seen = {(c.path, c.function, c.line) for c in found.traces[0].calls}
    return [
        Global(i, c.path, c.function, c.line, "unknown", None, c.path, why, "HW", why, c.within)
        for i, c in enumerate(first.calls)
        if (c.path, c.function, c.line) not in seen
        and ((mixed_dims(c) and "convolution" not in c.name) or not is_known(c))
    ]


def _run(model: nn.Module, make_args: MakeArgs, sizes: Sequence[Size]) -> tuple[Traces, RunMode]:
    def run(mode: RunMode) -> Traces:
        a, b, c = (
            trace(model, partial(make_args, size), mode, lines=size is sizes[0]) for size in sizes
        )
        return a, b, c

    # Code that creates tensors on a fixed device needs fake tensors. Code that reads values needs
    # real ones, which are slow.
    without_values: tuple[RunMode, ...] = ("meta", "fake")
    for mode in without_values:
        try:
            with quiet(), no_collection():  # there are no values that need memory
                return run(mode), mode
        except GlocalError:
            raise
        except Exception:
            continue
    made: list[Trace] = []
    for size in sizes:
        try:
            made.append(trace(model, partial(make_args, size), "real"))
        except ExampleError as error:
            raise ArgumentError(str(error)) from error.__cause__
        except GlocalError:
            raise
        except Exception as error:
            raise_shortage_of(error)
            why = failure(error)
            at = f"the network does not run at {size_text(size)}"
            if made:
                raise ScanError(
                    f"{at}, only at {size_text(sizes[0])}: {why} "
                    "(a network with a fixed input size cannot have local windows)"
                ) from error
            hint = "pass example= with inputs that it accepts"
            if "when training" in why:
                hint = "the network is in training mode; call model.eval() first"
            raise ScanError(f"{at}: {why} ({hint})") from error
    return (made[0], made[1], made[2]), "real"
