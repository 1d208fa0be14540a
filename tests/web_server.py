"""`glocal serve` in a process of its own, for tests that need a real one."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from glocal.networks import NAFNet


def allowed_networks(folder: Path) -> Path:
    """Write a quick network and a slow one into a folder, and return it."""
    torch.manual_seed(0)
    for name, blocks in (("quick", 1), ("slow", 60)):
        network = NAFNet(3, 8, blocks, [1], [1])
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_file(network.state_dict(), folder / f"{name}.safetensors", {"train_size": "32"})
    return folder


class Server:
    """`glocal serve` in a process."""

    def __init__(self, folder: Path, allowed: Path, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self._words = ["--port", str(port), "--jobs-folder", str(folder), "--device", "cpu"]
        self._words += ["--allow-folder", str(allowed), *words]
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        command = [sys.executable, "-m", "glocal", "serve", *self._words]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.url}healthz"):
                    return
            except OSError:
                assert self._process.poll() is None
                time.sleep(0.1)  # between two questions, not for a result
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """Kill the process, as a power cut would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def ask(self, path: str) -> Any:
        """The JSON at a path of the API."""
        with urllib.request.urlopen(f"{self.url}api/v1/{path}") as answer:
            return json.load(answer)
