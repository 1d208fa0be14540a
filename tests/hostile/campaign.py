"""Runs damaged files through children, and counts what becomes of them."""

import json
import os
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HANG_S = 30.0
"""Longest time of a file."""

KEPT = Path(__file__).parents[2] / ".cache" / "hostile"
"""Folder of the files that failed."""


class Child:
    """A process of `child.py`, started anew after it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *request: str, limit: float = HANG_S) -> dict[str, Any]:
        """The answer of the child; `status` is "dead" or "hang" without one."""
        if self._process is None:
            program = str(Path(__file__).with_name("child.py"))
            environment = os.environ | {"OMP_NUM_THREADS": "1", "VIPS_CONCURRENCY": "1"}
            self._process = subprocess.Popen(
                [sys.executable, program], text=True, env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            limit += 60  # imports
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], limit)[0]:
                self.close()
                return {"status": "hang", "bytes": 0}
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = process.wait()
            self.close()
            return {"status": "dead", "message": f"the process ended with {code}", "bytes": 0}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Campaign:
    """Counts of outcomes, and the files that failed."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, outcome: str) -> None:
        self.counts[outcome] += 1

    def fail(self, name: str, file: Path, why: str) -> None:
        """Keep a file that is read wrongly; `name` and its number make it again."""
        self.counts["failed"] += 1
        KEPT.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, KEPT / f"{name}{file.suffix}")
        self.failures.append(f"{name}: {why}")

    def check(self, name: str, file: Path, found: dict[str, Any], most_bytes: int) -> bool:
        """Note a refusal or a failure; True for an accepted file."""
        message = found.get("message", "")
        if found["status"] in ("dead", "hang", "crash"):
            self.fail(name, file, f"{found['status']} {message}")
        elif found["bytes"] > most_bytes:
            self.fail(name, file, f"takes {found['bytes']} bytes")
        elif found["status"] == "refused":
            self.note("refused")
            if len(message.splitlines()) > 2 or len(message) > 2000:
                self.fail(name, file, f"a message of {len(message)} characters: {message[:300]}")
        else:
            return True
        return False

    def report(self) -> str:
        total = sum(self.counts.values())
        listed = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return "\n".join([f"{total} damaged files: {listed}", *self.failures[:20]])


def numbered(seeds: Iterable[str], count: int) -> list[tuple[str, int]]:
    """`count` pairs of a seed and a number, seeds in turn."""
    names = sorted(seeds)
    return [(names[i % len(names)], i // len(names)) for i in range(count)]
