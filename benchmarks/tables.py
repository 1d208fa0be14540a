"""Markdown tables and number formats."""

import math
import statistics
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every row has as many cells as the head."""
    lines = [head, ["---"] * len(head), *rows]
    assert all(len(line) == len(head) for line in lines), "a row of another length than its head"
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def times(value: float) -> str:
    """A ratio with two significant decimals.

    >>> times(1.234), times(0.0123), times(math.nan)
    ('1.23', '0.012', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def milliseconds(seconds: Sequence[float] | None) -> str:
    """The median of seconds as text."""
    return f"{1e3 * statistics.median(seconds):.3g}" if seconds else "–"


def errors(found: dict[str, float | None], variants: Sequence[str]) -> str:
    """Largest errors of several variants; None means not finite."""
    texts = {None: "not finite", math.nan: "–"}
    values = [found.get(name, math.nan) for name in variants]
    return " / ".join(texts.get(value) or f"{value:.0e}" for value in values)
