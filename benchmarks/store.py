"""results.json: all records with their conditions, saved after each case."""

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from case import Record
from conditions import same

from glocal import GlocalError
from glocal.images.files import write_whole


class Store:
    """Records by section, device and case, each with its conditions."""

    def __init__(self, path: Path) -> None:
        """Read the existing file."""
        self.path = path
        held = json.loads(path.read_text()) if path.exists() else {}
        self._conditions: list[dict[str, str]] = held.get("conditions", [])
        self._cases: dict[str, Record] = held.get("cases", {})

    def records(self, section: str, device: str) -> dict[str, Record]:
        """The records of a section by case name."""
        prefix = f"{section}/{device}/"
        return {
            key.removeprefix(prefix): record
            for key, record in self._cases.items()
            if key.startswith(prefix)
        }

    def conditions_of(self, record: Record) -> dict[str, str]:
        """The conditions of a record."""
        return self._conditions[record["conditions"]]

    def is_measured(self, section: str, device: str, name: str) -> bool:
        """True if a case was measured under any conditions."""
        return "skipped" not in self.records(section, device).get(name, {"skipped": ""})

    def is_finished(self, section: str, device: str, name: str, now: dict[str, str]) -> bool:
        """True if a case was measured under these conditions."""
        return self.is_measured(section, device, name) and same(
            self.conditions_of(self.records(section, device)[name]), now
        )

    def put(
        self, section: str, device: str, name: str, record: Record, now: dict[str, str]
    ) -> None:
        """Add a record and save the file."""
        if now not in self._conditions:
            self._conditions.append(now)
        record["conditions"] = self._conditions.index(now)
        self._cases[f"{section}/{device}/{name}"] = record
        self._write()

    def drop_others(self, section: str, device: str, names: Collection[str]) -> None:
        """Remove cases that the section no longer has."""
        prefix = f"{section}/{device}/"
        kept = {f"{prefix}{name}" for name in names}
        self._cases = {
            key: record
            for key, record in self._cases.items()
            if key in kept or not key.startswith(prefix)
        }

    def _write(self) -> None:
        used = sorted({record["conditions"] for record in self._cases.values()})
        renumbered = {old: new for new, old in enumerate(used)}
        self._conditions = [self._conditions[old] for old in used]
        for record in self._cases.values():
            record["conditions"] = renumbered[record["conditions"]]
        data = {"conditions": self._conditions, "cases": self._cases}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json_by_line(data), GlocalError)


def json_by_line(data: dict[str, Any]) -> str:
    """JSON with one line per case, for readable diffs."""
    line = partial(json.dumps, ensure_ascii=False, allow_nan=False)
    cases = ",\n".join(f"{line(key)}: {line(record)}" for key, record in data["cases"].items())
    conditions = ",\n".join(map(line, data["conditions"]))
    return f'{{"conditions": [\n{conditions}\n],\n"cases": {{\n{cases}\n}}}}\n'
