"""An evaluation as Markdown."""

import re

from glocal.study.evaluation.records import Evaluation
from glocal.study.report.tables import Table, comparison_table, image_table, summary_table

__all__ = ["markdown"]


def markdown(evaluation: Evaluation) -> str:
    """The report as GitHub's Markdown: all tables, each with the protocol used."""
    tables = [summary_table(evaluation), comparison_table(evaluation), image_table(evaluation)]
    parts = [f"# Evaluation of {escaped(evaluation.protocol.network)}"]
    parts += [_section(table, evaluation) for table in tables if table is not None]
    if evaluation.failures:
        lines = [
            f"- {escaped(each.image)}{', ' if each.way else ''}{escaped(each.way)}: "
            f"{escaped(each.error)}"
            for each in evaluation.failures
        ]
        parts.append("## Failed\n\n" + "\n".join(lines))
    plans = [
        f"{escaped(way)}:\n\n{_fenced(plan)}" for way, plan in evaluation.protocol.plans.items()
    ]
    parts.append("## Global operations\n\n" + "\n\n".join(plans))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text that means nothing to Markdown.

    >>> escaped("a_b|c <i>")
    'a\\\\_b\\\\|c \\\\<i\\\\>'
    """
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _section(table: Table, evaluation: Evaluation) -> str:
    marks = ["---" if index < table.texts else "---:" for index in range(len(table.columns))]
    lines = [_line(table.columns), "|" + "|".join(marks) + "|", *map(_line, table.rows)]
    protocol = [f"- {escaped(sentence)}" for sentence in evaluation.protocol.sentences()]
    return f"## {table.title}\n\n" + "\n".join(lines) + "\n\n" + "\n".join(protocol)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(escaped, cells)) + " |"


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
