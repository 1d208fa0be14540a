"""At which image sizes the windows of a conversion cover all their maps."""

from glocal.conversion.proof_runs import Converted
from glocal.ops.windows import Size, covers, scale_window
from glocal.scanning.analysis import Global
from glocal.scanning.discover import trace_at
from glocal.scanning.trace import Trace

__all__ = ["covers_maps"]


def covers_maps(converted: Converted, size: Size) -> bool:
    """True if every window is known to cover its map on an image of this size.

    Maps are read from a run at this size. Where the network runs other operations than in the
    scan, windows of twice the image cover, whatever it pads.
    """
    if all(2 * n <= w for n, w in zip(size, converted.window, strict=True)):
        return True
    run = trace_at(converted.model, converted.scan.make_args, size)
    names = [c.name for c in converted.scan.traces[0].calls]
    if run is None or [c.name for c in run.calls] != names:
        return False
    return all(
        (found := _map_of(converted, operation, run)) is not None
        and covers(scale_window(found[0], converted.window, converted.scan.size), found[1])
        for inside in converted.blocks.values()
        for operation in inside
    )


def _map_of(converted: Converted, operation: Global, run: Trace) -> tuple[Size, Size] | None:
    """(height, width) of the map of an operation in the scan and in another run."""
    runs = [t.calls[operation.index].refs() for t in (*converted.scan.traces, run)]
    for first, higher, wider, other in zip(*runs, strict=True):
        changes = list(zip(first.shape, higher.shape, wider.shape, strict=True))
        rows = [d for d, (a, b, c) in enumerate(changes) if b != a == c]
        columns = [d for d, (a, b, c) in enumerate(changes) if b == a != c]
        if rows and columns:
            at = rows[0], columns[0]
            return (
                (first.shape[at[0]], first.shape[at[1]]),
                (other.shape[at[0]], other.shape[at[1]]),
            )
    return None
