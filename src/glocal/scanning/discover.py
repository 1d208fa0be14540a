"""Run a network at three input sizes and find its global operations.

The sizes are the training size, a larger height, and a larger width. Tensors have no values unless
the network needs them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from torch import nn

from glocal.errors import GlocalError, ScanError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Analysis, Global, Traces
from glocal.scanning.trace import RunMode, Trace, quiet, trace
from glocal.texts import size_text

__all__ = ["MakeArgs", "Scan", "input_sizes", "scan_trace", "trace_at"]

MakeArgs = Callable[[Size, str | None], tuple[Any, ...]]
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
    """

    operations: tuple[Global, ...]
    traces: Traces
    size: Size
    make_args: MakeArgs


def input_sizes(train_size: Size) -> Iterator[tuple[Size, Size, Size]]:
    """Input sizes of the three runs, by preference.

    An axis grows by a multiple of 64 and, if possible, of its own length: the network pads and
    divides all three sizes in the same way. The second choice avoids the training size, which
    some networks treat specially: they store an attention mask for it.

    >>> next(input_sizes((64, 96)))
    ((64, 96), (128, 96), (64, 288))
    """
    h, w = train_size
    down, along = (n if (n := math.lcm(side, 64)) <= MAX_STEP else 64 for side in (h, w))
    yield (h, w), (h + down, w), (h, w + along)
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
            return _scan_at(model, make_args, sizes)
        except ScanError as error:
            problem = problem or error
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


def _scan_at(model: nn.Module, make_args: MakeArgs, sizes: tuple[Size, Size, Size]) -> Scan:
    traces = _run(model, make_args, sizes)
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
    return Scan(tuple(Analysis(traces).run()), traces, sizes[0], make_args)


def _run(model: nn.Module, make_args: MakeArgs, sizes: Sequence[Size]) -> Traces:
    def run(mode: RunMode) -> Traces:
        a, b, c = (trace(model, partial(make_args, size), mode) for size in sizes)
        return a, b, c

    # Code that creates tensors on a fixed device needs fake tensors. Code that reads values needs
    # real ones, which are slow.
    without_values: tuple[RunMode, ...] = ("meta", "fake")
    for mode in without_values:
        try:
            with quiet():
                return run(mode)
        except GlocalError:
            raise
        except Exception:
            continue
    made: list[Trace] = []
    for size in sizes:
        try:
            made.append(trace(model, partial(make_args, size), "real"))
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            at = f"the network does not run at {size_text(size)}"
            if made:
                raise ScanError(
                    f"{at}, only at {size_text(sizes[0])}: {why} "
                    "(a network with a fixed input size cannot have local windows)"
                ) from error
            raise ScanError(f"{at}: {why} (pass example= with inputs that it accepts)") from error
    return made[0], made[1], made[2]
