"""Format an evaluation as Markdown."""

from glocal.study.evaluation.records import Evaluation
from glocal.study.report.render import render
from glocal.study.report.tables import comparison_table, image_table, summary_table

__all__ = ["markdown"]


def markdown(evaluation: Evaluation) -> str:
    """Return the report in GitHub's Markdown: all tables, each with its protocol.

    Raises:
        ArgumentError: Jinja2 is not installed.
    """
    tables = [summary_table(evaluation), comparison_table(evaluation), image_table(evaluation)]
    return render(
        "report.md",
        protocol=evaluation.protocol,
        sentences=evaluation.sentences(),
        tables=[table for table in tables if table is not None],
        failures=evaluation.failures,
    )
