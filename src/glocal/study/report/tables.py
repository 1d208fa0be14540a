"""The tables of an evaluation, as text in cells; the command line and both reports print them."""

import math
from dataclasses import dataclass

from glocal.study.evaluation.records import DEGRADED, Evaluation, Record
from glocal.study.evaluation.ways import FULL_IMAGE
from glocal.study.intervals import Interval

__all__ = ["Table", "comparison_table", "image_table", "number", "summary_table"]

NOTHING = "–"
"""What stands where there is no value."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        columns: their heads.
        rows: a cell a column.
        texts: how many columns, from the left, hold names; the others hold numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1


def summary_table(evaluation: Evaluation) -> Table:
    """A row a way: mean of each metric, difference to the full image, seconds, memory."""
    heads = [head for metric in evaluation.metrics for head in (metric, f"Δ {FULL_IMAGE}")]
    rows = []
    for way in evaluation.ways:
        cells = []
        for metric in evaluation.metrics:
            mean, gain = evaluation.mean(way, metric), evaluation.paired(way, metric)
            cells.append(number(metric, None if mean is None else mean.mean))
            cells.append(NOTHING if way == FULL_IMAGE else difference(metric, gain))
        seconds, memory = evaluation.seconds(way), evaluation.peak_memory_mib(way)
        rows.append((way, *cells, seconds_text(seconds), memory_text(memory)))
    count = len(evaluation.images)
    title = f"Mean of {count} images" if count != 1 else "1 image"
    return Table(title, ("way", *heads, "seconds", "memory, MiB"), tuple(rows))


def comparison_table(evaluation: Evaluation) -> Table | None:
    """A row for TLC against each of the other ways; None where there is nothing to compare."""
    converted = [way for way in evaluation.ways if way in evaluation.protocol.plans]
    others = [way for way in evaluation.ways if way not in (DEGRADED, *converted)]
    if not converted or not others or not evaluation.metrics:
        return None
    heads = [head for metric in evaluation.metrics for head in (f"Δ {metric}", "better on")]
    rows = []
    for way in converted:
        for other in others:
            cells = []
            for metric in evaluation.metrics:
                better, count = evaluation.better(way, metric, other)
                cells.append(difference(metric, evaluation.paired(way, metric, other)))
                cells.append(f"{better} of {count}")
            ours, theirs = evaluation.seconds(way), evaluation.seconds(other)
            ratio = f"{ours / theirs:.2f}" if ours and theirs else NOTHING
            rows.append((f"{way} − {other}", *cells, ratio))
    return Table("TLC against the other ways", ("ways", *heads, "time ÷"), tuple(rows))


def image_table(evaluation: Evaluation) -> Table:
    """A row an image and way."""
    rows = []
    for record in evaluation.records:
        values = [number(metric, record.metrics.get(metric)) for metric in evaluation.metrics]
        cells = (seconds_text(record.seconds), memory_text(record.peak_memory_mib))
        rows.append((record.image, size_text(record), record.way, *values, *cells))
    heads = ("image", "height × width", "way", *evaluation.metrics, "seconds", "memory, MiB")
    return Table("Every image", heads, tuple(rows), texts=3)


def number(metric: str, value: float | None) -> str:
    """A value of a metric: decibels to two places, the others to four.

    >>> number("psnr", 31.4159), number("ssim", 0.9), number("psnr", None)
    ('31.42', '0.9000', '–')
    """
    return NOTHING if value is None else f"{value:.{2 if _is_decibel(metric) else 4}f}"


def difference(metric: str, interval: Interval | None) -> str:
    """A paired difference with its interval, where there is one."""
    if interval is None or math.isnan(interval.mean):
        return NOTHING
    return interval.text(3 if _is_decibel(metric) else 4)


def seconds_text(value: float | None) -> str:
    """Seconds to three figures.

    >>> seconds_text(0.01234), seconds_text(12.345), seconds_text(321.0)
    ('0.0123', '12.3', '321')
    """
    if value is None or value <= 0:
        return NOTHING
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def memory_text(value: float | None) -> str:
    """MiB without a fraction."""
    return NOTHING if value is None else f"{value:.0f}"


def size_text(record: Record) -> str:
    """Height and width of an image."""
    return f"{record.size[0]} × {record.size[1]}"


def _is_decibel(metric: str) -> bool:
    return metric.startswith("psnr")
