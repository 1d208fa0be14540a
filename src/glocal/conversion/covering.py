"""At which image sizes the windows of a conversion cover all their maps."""

from collections.abc import Sequence

from torch.utils._pytree import tree_leaves

from glocal.conversion.proof_runs import Converted
from glocal.ops.windows import Size, covers, scale_window
from glocal.scanning.analysis import Global
from glocal.scanning.discover import trace_at
from glocal.scanning.trace import Spec, Trace

__all__ = ["covers_maps"]


def covers_maps(converted: Converted, size: Size) -> bool:
    """True if every window is known to cover its map on an image of this size.

    Maps are read from a run at this size. If the network runs other operations there than in the
    scan, the inputs of the converted modules are compared with the windows instead. Windows of
    twice the image always cover, whatever the network pads.
    """
    operations = [o for inside in converted.blocks.values() for o in inside]
    window = _window_of(converted, operations)
    if all(2 * n <= w for n, w in zip(size, window, strict=True)):
        return True
    run = trace_at(converted.model, converted.scan.make_args, size)
    if run is None:
        return False
    names = [c.name for c in converted.scan.traces[0].calls]
    if [c.name for c in run.calls] != names:
        return all(_input_is_covered(converted, path, run) for path in converted.blocks)
    return all(
        (found := _map_of(converted, operation, run)) is not None
        and covers(
            scale_window(found[0], _window_of(converted, [operation]), converted.scan.size),
            found[1],
        )
        for operation in operations
        if operation.index < len(names)  # others run at other sizes only
    )


def _window_of(converted: Converted, operations: Sequence[Global]) -> Size:
    """Return the smallest window of some operations, in input pixels."""
    if not any(operation.kind in ("grid", "fourier") for operation in operations):
        return converted.window
    height, width = map(min, converted.window, converted.train_size)
    return height, width


def _map_of(converted: Converted, operation: Global, run: Trace) -> tuple[Size, Size] | None:
    """(height, width) of the map of an operation in the scan and in another run."""
    runs = [t.calls[operation.index].refs() for t in (*converted.scan.traces, run)]
    return _map_among([[ref.shape for ref in refs] for refs in runs])


def _input_is_covered(converted: Converted, path: str, run: Trace) -> bool:
    """True if the window covers the input of a module, or the module is not called."""
    if path not in run.inputs:
        return True
    calls = [t.inputs[path][0] for t in (*converted.scan.traces, run)]
    leaves = [[v.shape for v in tree_leaves(call) if isinstance(v, Spec)] for call in calls]
    found = _map_among(leaves)
    window = _window_of(converted, converted.blocks[path])
    return found is not None and covers(
        scale_window(found[0], window, converted.scan.size), found[1]
    )


def _map_among(runs: Sequence[Sequence[tuple[int, ...]]]) -> tuple[Size, Size] | None:
    """Return the size of the first map in the first and the last of four runs."""
    for first, higher, wider, other in zip(*runs, strict=False):
        if len(first) != len(other):
            continue
        changes = list(zip(first, higher, wider, strict=True))
        rows = [d for d, (a, b, c) in enumerate(changes) if b != a == c]
        columns = [d for d, (a, b, c) in enumerate(changes) if b == a != c]
        if rows and columns:
            at = rows[0], columns[0]
            return (first[at[0]], first[at[1]]), (other[at[0]], other[at[1]])
    return None
