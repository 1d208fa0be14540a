"""Define the statistic of each global operation by the calls of a scan."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from glocal.devices import has_float64
from glocal.scanning.analysis import Global, Traces
from glocal.scanning.discover import Scan
from glocal.scanning.trace import Call, Trace

__all__ = ["CHANNELS", "Key", "OperationStatistic", "canonical", "statistics_of"]

CHANNELS = 256
"""Largest number of channels of a statistic; of more, this many are used, evenly spaced."""

Key = tuple[str, str, int]
"""Identifies a call in a run: module path, canonical aten name, index among such calls."""

_SUMS = frozenset("sum nansum".split())
_NORMS = {"linalg_vector_norm": "ord", "norm": "p"}
_SOFTMAX = frozenset("_softmax _safe_softmax".split())
_PARTS = {
    "native_batch_norm": "mean, inverse deviation",
    "native_group_norm": "mean, inverse deviation",
    "native_layer_norm": "mean, inverse deviation",
    "bmm": "product over the pixels",
    "var_mean": "variance, mean",
    "std_mean": "deviation, mean",
}
_SAME = dict.fromkeys(
    "_native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
    "miopen_batch_norm _batch_norm_with_update".split(),
    "native_batch_norm",
)


def canonical(name: str) -> str:
    """Return one name for an operation that has different names on other devices."""
    return _SAME.get(name, name)


@dataclass(frozen=True)
class OperationStatistic:
    """The measured statistic of one global operation.

    The statistic consists of the outputs whose size does not depend on height and width. An
    operation without such outputs (a softmax over the pixels, mixing over a grid) is described by
    the mean and deviation of its output over the map. Sums and norms are divided by their value
    for a map of ones, so that they do not grow with the map: networks that sum divide by the area,
    or normalise, later.

    Attributes:
        operation: as the scan found it.
        name: what is measured, such as "mean, inverse deviation".
        opens: the call that reads the map.
        closes: the call that returns the statistic; a later one in `x.mean(3).mean(2)`.
        outputs: indices of the outputs that form the statistic; empty if it consists of moments
            of the first output.
        along: dims of the first output over which moments are taken.
        order: of the norm, 1 for a sum; None for other operations.
    """

    operation: Global
    name: str
    opens: Key
    closes: Key
    outputs: tuple[int, ...]
    along: tuple[int, ...]
    order: float | None

    def of(self, outputs: list[Tensor], pixels: int) -> Tensor:
        """Return the statistic of one image, (channels,) float64.

        Args:
            outputs: of the call `closes`.
            pixels: number of map values that each value of the statistic summarises.
        """
        if self.outputs:
            parts = [outputs[i] for i in self.outputs]
            exact = [t for t in parts if t.is_floating_point() or t.is_complex()]
            parts = [_real(t).flatten() for t in exact or parts]
            if self.order is not None:
                parts = [t / pixels ** (1 / self.order) for t in parts]
        else:
            moments = torch.var_mean(_real(outputs[0]), self.along, correction=0)
            variance, mean = (t.flatten() for t in moments)
            deviation = variance.sqrt()
            # the mean of a softmax is 1 ÷ the number of pixels for every image
            parts = [deviation / mean] if self.closes[1] in _SOFTMAX else [mean, deviation]
        return _few(torch.cat(parts).cpu())


def _real(t: Tensor) -> Tensor:
    t = t.detach().abs() if t.is_complex() else t.detach()
    return (t if has_float64(t.device) else t.cpu()).double()


def _few(values: Tensor) -> Tensor:
    if len(values) <= CHANNELS:
        return values
    return values[torch.linspace(0, len(values) - 1, CHANNELS, dtype=torch.float64).round().long()]


def statistics_of(scan: Scan) -> tuple[OperationStatistic, ...]:
    """Return what to measure of each global operation of a scan, in order.

    Those that run at other sizes alone, or outside torch, have none.
    """
    keys: list[Key] = []
    count: Counter[tuple[str, str]] = Counter()
    for call in scan.traces[0].calls:
        place = call.path, canonical(call.name)
        keys.append((*place, count[place]))
        count[place] += 1
    measured = (o for o in scan.operations if o.index < len(keys))
    return tuple(_statistic(scan.traces, keys, operation) for operation in measured)


def _statistic(traces: Traces, keys: list[Key], operation: Global) -> OperationStatistic:
    def constant(index: int) -> tuple[int, ...]:
        """Return the outputs of a call whose shape is equal in the three runs."""
        shapes = zip(*(t.calls[index].outputs for t in traces), strict=True)
        return tuple(place for place, (a, b, c) in enumerate(shapes) if a == b == c)

    first = operation.index
    last = first
    if operation.kind == "statistic" and not constant(first):
        last = next((i for i in _after(traces[0], first) if constant(i)), first)
    call = traces[0].calls[last]
    name = keys[last][1]
    if outputs := constant(last):
        order = _order(call) if name == keys[first][1] else None
        measured = _PARTS.get(name, name)
        if order is not None:
            measured += " ÷ pixels" if order == 1 else f" ÷ pixels^(1/{order:g})"
        return OperationStatistic(operation, measured, keys[first], keys[last], outputs, (), order)
    shapes = [t.calls[last].outputs[0] for t in traces]
    along = tuple(d for d, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1)
    moments = "deviation ÷ mean" if name in _SOFTMAX else "mean, deviation"
    measured = f"{moments} of the output"
    return OperationStatistic(operation, measured, keys[first], keys[last], (), along, None)


def _after(trace: Trace, index: int) -> Iterator[int]:
    """Yield the calls that use the result of a call, directly or through others."""
    reached = {index}
    for later in range(index + 1, len(trace.calls)):
        if any(reached.intersection(ref.sources) for ref in trace.calls[later].refs()):
            reached.add(later)
            yield later


def _order(call: Call) -> float | None:
    if call.name in _SUMS:
        return 1.0
    order = call.arguments.get(_NORMS[call.name]) if call.name in _NORMS else 0
    order = 2.0 if order is None else float(order)
    return order if order > 0 else None
