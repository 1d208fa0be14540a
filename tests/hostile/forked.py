"""Runs of the command line in processes that begin in milliseconds and may be killed."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SERVER = """
import json, os, sys
import torch
import glocal, glocal.cli, glocal.runs.folder, glocal.runs.streaming
import glocal.study.evaluation.comparison, glocal.study.report.files, glocal.study.tuning.search
from torch import nn

torch.set_num_threads(1)
glocal.runs.streaming.STREAMED_PIXELS = 100_000  # smaller ones are restored at once
# imports what a conversion needs
glocal.localize(nn.Sequential(nn.Conv2d(3, 3, 3), nn.InstanceNorm2d(3)).eval(), 8)
for line in sys.stdin:
    told = json.loads(line)
    pid = os.fork()  # no thread runs yet
    if pid == 0:
        os.chdir(told["cwd"])
        log = os.open(told["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.stdin.close()
        sys.argv = ["glocal", *told["arguments"]]
        try:
            glocal.cli.main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        finally:
            os._exit(99)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: signal), what it printed, and how long it took."""

    code: int
    printed: str
    elapsed_s: float


class Forks:
    """A process with glocal imported, which forks one for each run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / f"printed-{next(_NUMBERS)}.txt"
        # the command line sets the second one before it imports pyvips
        settings = {"XDG_CACHE_HOME": str(folder / "cache"), "VIPS_WARNING": "0"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=os.environ | settings,
        )  # fmt: skip

    def run(self, *arguments: Any, kill: tuple[float, signal.Signals] | None = None) -> Ended:
        """Run a command in the folder; kill it after some seconds unless it ended before."""
        told = {
            "arguments": [*map(str, arguments)], "cwd": str(self.folder), "log": str(self._log),
        }  # fmt: skip
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        begun = time.perf_counter()
        self._server.stdin.write(json.dumps(told) + "\n")
        self._server.stdin.flush()
        pid = int(self._server.stdout.readline())
        if kill is not None:
            after_s, number = kill
            self._kill_later(pid, begun + after_s, number)
        code = int(self._server.stdout.readline())
        printed = self._log.read_text(errors="replace") if self._log.exists() else ""
        return Ended(code, printed, time.perf_counter() - begun)

    @staticmethod
    def _kill_later(pid: int, when: float, number: signal.Signals) -> None:
        while (left := when - time.perf_counter()) > 0:
            if not _is_alive(pid):
                return
            time.sleep(min(left, 0.005))
        if _is_alive(pid):
            os.kill(pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.kill()
        self._server.communicate()


def _is_alive(pid: int) -> bool:
    """True if the process runs; one that has ended is reaped by its parent at once."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
