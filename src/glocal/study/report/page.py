"""Format an evaluation as one HTML page that needs only the pictures beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glocal.study.evaluation.pictures import TARGET
from glocal.study.evaluation.records import DEGRADED, Evaluation, Protocol
from glocal.study.report.crops import Box
from glocal.study.report.render import render
from glocal.study.report.tables import comparison_table, image_table, number, summary_table

__all__ = ["Crop", "Shown", "page"]


@dataclass(frozen=True)
class Crop:
    """A part of an image where the methods differ.

    Attributes:
        box: its place.
        pictures: file of each method, of the degraded image and the target, relative to the page.
        psnr: of each method and of the degraded image, in dB; empty without a target.
    """

    box: Box
    pictures: Mapping[str, str]
    psnr: Mapping[str, float]

    @property
    def best(self) -> float | None:
        """The highest PSNR, that of the degraded image included; None without a target."""
        return max(self.psnr.values(), default=None)


@dataclass(frozen=True)
class Shown:
    """An image that the page shows.

    Attributes:
        image: its name in the data set.
        size: (height, width) of the restored image.
        pictures: file of each method, of the degraded image and the target, relative to the page.
        crops: the parts where the methods differ most.
    """

    image: str
    size: tuple[int, int]
    pictures: Mapping[str, str]
    crops: Sequence[Crop]

    def right(self, protocol: Protocol) -> str:
        """Return the method on the right of the slider at first: the first local one."""
        methods = [name for name in self.pictures if name not in (DEGRADED, TARGET)]
        return next((name for name in methods if name in protocol.plans), methods[-1])


def page(evaluation: Evaluation, shown: Sequence[Shown] = ()) -> str:
    """Return the report as HTML.

    It has the tables with their protocol, and a slider and crops for each image.

    All text is escaped. The page loads nothing from the network and works from a file.

    Raises:
        ArgumentError: Jinja2 is not installed.
    """
    metric = next(iter(evaluation.metrics), None)
    values: dict[str, dict[str, float | None]] = {each.image: {} for each in shown}
    for record in evaluation.records:
        if metric and record.image in values:
            values[record.image][record.method] = record.metrics.get(metric)
    tables = [summary_table(evaluation), comparison_table(evaluation)]
    return render(
        "page.html",
        protocol=evaluation.protocol,
        sentences=evaluation.sentences(),
        tables=[table for table in tables if table is not None],
        images=image_table(evaluation),
        failures=evaluation.failures,
        shown=shown,
        metric=metric,
        values=values,
        number=number,
        degraded=DEGRADED,
    )
