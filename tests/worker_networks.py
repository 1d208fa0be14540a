"""Networks and work that processes of tests import by this name."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from glocal.runs.executors.work import Opened, Work
from glocal.runs.stages import Limits, Outcome, Stages


class Waiting(nn.Module):
    """Returns 1 - x once a file exists; each image adds a line to a second file before."""

    def __init__(self, gate: Path, log: Path) -> None:
        super().__init__()
        self.gate, self.log = gate, log

    def forward(self, x: Tensor) -> Tensor:
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        while not self.gate.exists():
            time.sleep(0.05)
        return 1 - x


class Deadly(nn.Module):
    """Returns 1 - x, but ends its process at images of 13 columns."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] == 13:
            os._exit(5)
        return 1 - x


class OnceRefused(Work[str, str]):
    """Returns texts in capitals; each fails until a file of its name exists, which it makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def opened(self) -> Iterator[Opened[str]]:
        def compute(texts: list[str]) -> list[str]:
            for text in texts:
                if not (self.folder / text).exists():
                    (self.folder / text).touch()
                    raise OSError("Stale file handle")
            return [text.upper() for text in texts]

        stages: Stages[str, Any, Any, Any] = Stages(
            read=lambda text: text, compute=compute, write=lambda text, loaded, found: found
        )
        yield Opened(stages, Limits(count=0))

    def result(self, outcome: Outcome[str, str]) -> str:
        return outcome.result or f"failed: {outcome.error}"

    def is_failed(self, result: str) -> bool:
        return result.startswith("failed")

    def for_worker(self, name: str, device: str | None) -> Self:
        return self
