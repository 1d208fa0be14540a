"""The Markdown report: the targets, then every section with its conditions and its command."""

import inspect
from collections.abc import Iterable, Mapping
from statistics import median
from types import ModuleType

from case import Record
from conditions import described
from store import Store
from targets import read_remarks, summary

HEAD = """# Benchmarks

Written by `python benchmarks/run.py`; figures in [results.json](results.json). What compares is a
ratio: variants of one row were measured in one run and took turns, and the ratio is that of their
medians. `clone` is a copy of the tensor into new memory. *exact* and *fast* are the precisions of
local operations; – stands for what this glocal does not have.

Random weights and noise serve for costs: neither changes them.

## Targets
"""


def report(store: Store, sections: Mapping[str, ModuleType]) -> str:
    """The whole document."""
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
    """Those that differ, in order."""
    found: list[dict[str, str]] = []
    for one in conditions:
        if one not in found:
            found.append(one)
    return found


def _spread(records: list[Record]) -> str:
    """How far the repeats of a variant lie apart: how far a ratio is to be trusted."""
    spreads = [
        (max(seconds) - min(seconds)) / median(seconds)
        for record in records
        for seconds in record.get("seconds", {}).values()
        if len(seconds) > 1
    ]
    if not spreads:
        return ""
    return (
        f"Slowest − fastest repeat, as a share of the median: {100 * median(spreads):.0f} % "
        f"half of the time, {100 * max(spreads):.0f} % at most."
    )
