"""Run a network at three sizes, without computing anything, and find what is global in it.

The network runs on fake tensors at the training size, at another height, and at another width.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from glocal.errors import GlocalError, ScanError
from glocal.ops.windows import Size
from glocal.scanning.analysis import Analysis, Global, Traces
from glocal.scanning.trace import How, Trace, quiet, trace

__all__ = ["Scan", "scan_trace"]

MakeArgs = Callable[[Size, str | None], tuple[Any, ...]]


@dataclass(frozen=True)
class Scan:
    """The global operations of a network, and what each of its modules was called with.

    Attributes:
        operations: in the order in which they run.
        traces: the three runs.
        size: (height, width) of the input in the first run, in which features are measured.
    """

    operations: tuple[Global, ...]
    traces: Traces
    size: Size


def _plans(train_size: Size) -> Iterator[tuple[Size, Size, Size]]:
    """Input sizes of the three runs; first those to try first.

    An axis grows by a multiple of 64 and, if possible, of itself, so that what the network pads
    or divides stays alike. The training size is left out where a network treats it apart, as
    those do that keep an attention mask of that size.
    """
    h, w = train_size
    down, along = (n if (n := math.lcm(side, 64)) <= 512 else 64 for side in (h, w))
    yield (h, w), (h + down, w), (h, w + along)
    yield (h + down, w + along), (h + 2 * down, w + along), (h + down, w + 2 * along)


def scan_trace(model: nn.Module, make_args: MakeArgs, train_size: Size) -> Scan:
    """Find the global operations of `model`.

    Args:
        model: any network; a copy of it is run, in eval mode.
        make_args: the positional arguments of its forward, for an input size and a device
            (None is the network's own).
        train_size: (height, width).

    Raises:
        ScanError: the network cannot be run, or takes other paths at other sizes.
    """
    problem: ScanError | None = None
    for sizes in _plans(train_size):
        try:
            return _scan_at(model, make_args, sizes)
        except ScanError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _scan_at(model: nn.Module, make_args: MakeArgs, sizes: tuple[Size, Size, Size]) -> Scan:
    traces = _run(model, make_args, sizes)
    names = [[(c.name, c.path) for c in t.calls] for t in traces]
    for other, size in zip(names[1:], sizes[1:], strict=True):
        if other != names[0]:
            at = next(
                (i for i, (a, b) in enumerate(zip(names[0], other, strict=False)) if a != b),
                min(len(names[0]), len(other)) - 1,
            )
            raise ScanError(
                f"the network takes another path at {size[0]}x{size[1]} than at "
                f"{sizes[0][0]}x{sizes[0][1]}, from {traces[0].calls[at].line} in module "
                f"'{traces[0].calls[at].path}' on: its global operations cannot be told from shapes"
            )
    return Scan(tuple(Analysis(traces).run()), traces, sizes[0])


def _run(model: nn.Module, make_args: MakeArgs, sizes: Sequence[Size]) -> Traces:
    def run(how: How) -> Traces:
        a, b, c = (trace(model, partial(make_args, size), how) for size in sizes)
        return a, b, c

    # Code that makes tensors on a device of its own needs fakes; code that looks at values needs
    # real ones, which takes longer.
    quick: tuple[How, ...] = ("meta", "fake")
    for how in quick:
        try:
            with quiet():
                return run(how)
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
            at = f"the network does not run at {size[0]}x{size[1]}"
            if made:
                first = f"at {sizes[0][0]}x{sizes[0][1]} alone it does"
                raise ScanError(
                    f"{at}, {first}: {why} (windows mean nothing to a network of one input size)"
                ) from error
            raise ScanError(f"{at}: {why} (pass example= with inputs that it takes)") from error
    return made[0], made[1], made[2]
