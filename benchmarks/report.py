"""The Markdown report: targets, then every section with its conditions and command."""

import inspect
from collections.abc import Iterable, Mapping
from statistics import median
from types import ModuleType

from case import Record
from conditions import described
from store import Store
from targets import read_remarks, summary

HEAD = """# Benchmarks

Written by `python benchmarks/run.py`; figures in [results.json](results.json). Compare ratios: the
variants of one row alternated in one run, and a ratio is that of their medians. `clone` is a copy
of the tensor into new memory. *exact* and *fast* are the precisions of local operations; – means
that there is no such form.

Networks have random weights and inputs are noise; neither changes the cost.

## Targets
"""


def report(store: Store, sections: Mapping[str, ModuleType]) -> str:
    """The report as Markdown text."""
    parts = [HEAD + "\n" + summary(store, read_remarks())]
    for name, section in sections.items():
        parts.append(f"## {name.capitalize()}\n\n{inspect.getdoc(section)}")
        devices = [d for d in ("cpu", "cuda") if store.records(name, d)]
        for device in devices:
            records = store.records(name, device)
            parts.append(_provenance(store, name, device, list(records.values())))
            parts.append(section.tables(records))
        if not devices:
            parts.append(f"Not measured yet: `python benchmarks/run.py --only {name}`.")
    return "\n\n".join(parts) + "\n"


def _provenance(store: Store, section: str, device: str, records: list[Record]) -> str:
    lines = [f"**{device.upper()}**"]
    for found in unique(store.conditions_of(record) for record in records):
        options = f"--device {device} --threads {found['threads']} --repeats {found['repeats']}"
        lines.append(f"`python benchmarks/run.py --only {section} {options}`: {described(found)}")
    lines.append(_spread(records))
    return "\n".join(f"> {line}  " for line in lines if line)


def unique(conditions: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The distinct conditions, in order."""
    found: list[dict[str, str]] = []
    for one in conditions:
        if one not in found:
            found.append(one)
    return found


def _spread(records: list[Record]) -> str:
    """Variation between repeats, which limits the precision of a ratio."""
    spreads = [
        (max(seconds) - min(seconds)) / median(seconds)
        for record in records
        for seconds in record.get("seconds", {}).values()
        if len(seconds) > 1
    ]
    if not spreads:
        return ""
    return (
        f"Slowest − fastest repeat as a share of the median: {100 * median(spreads):.0f} % "
        f"(median over cases), {100 * max(spreads):.0f} % at most."
    )
