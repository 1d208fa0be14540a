"""Networks that processes of tests import by this name."""

import os
import time
from pathlib import Path

from torch import Tensor, nn


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


class Refusing(nn.Module):
    """Fails at images of 13 columns, until a file exists."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] == 13 and not self.file.exists():
            self.file.touch()
            raise OSError("Stale file handle")
        return 1 - x
