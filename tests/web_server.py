"""Servers for tests: in this process without workers, and `glocal serve` in one of its own."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from glocal.images import image_files as images
from glocal.images.image_files import Image
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


def write_photo(path: Path, height: int = 40, width: int = 52) -> Path:
    """Write a photograph, half dark and half bright."""
    pixels = np.random.default_rng(0).integers(0, 100, (height, width, 3), np.uint8)
    pixels[:, width // 2 :] += 150
    images.write(path, Image(pixels))
    return path


def serving(folder: Path, access: object, limits: object) -> object:
    """A client of a server without workers, a context manager."""
    from fastapi.testclient import TestClient

    from glocal.web.app import make_app

    app = make_app(folder, access, limits, devices=())
    return TestClient(app, base_url="http://localhost:8000")


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

    def wait_for(self, id: str, *states: str) -> dict[str, Any]:
        """Return a job as soon as it is in one of these states."""
        while (job := self.ask(f"jobs/{id}"))["state"] not in states:
            assert job["state"] in ("queued", "running"), job
            time.sleep(0.05)  # between two questions, not for a result
        return job
