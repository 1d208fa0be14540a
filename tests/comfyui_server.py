"""ComfyUI in a process of its own, without a window and on the CPU, as its pages talk to it."""

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from glocal.images.image_files import read

ROOT = Path(__file__).parents[1]
PACK = ROOT / "integrations" / "comfyui"

# torchvision imports beside the very torch that it was built for alone, because this module of it
# registers what its compiled part defines; nothing in the tests uses that.
SITE = """
import sys, types
name = "torchvision._meta_registrations"
sys.modules[name] = types.ModuleType(name)
"""


class ComfyUI:
    """A server with the node pack, whose models, images and results lie in one folder."""

    def __init__(self, checkout: Path, python: str, folder: Path) -> None:
        for name in ("models/upscale_models", "input", "output", "user", "site"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(PACK, folder / "custom_nodes" / "glocal-tlc")
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.models, self.input = folder / "models" / "upscale_models", folder / "input"
        self._log = folder / "log.txt"
        paths = [folder / "site", ROOT / "src"]
        command = [python, "main.py", "--cpu", "--port", str(self.port), "--disable-api-nodes"]
        command += ["--base-directory", str(folder), "--database-url", "sqlite:///:memory:"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Wait until the server answers."""
        while True:
            try:
                self.ask("queue")
            except urllib.error.URLError:
                assert self._process.poll() is None, self._log.read_text()
                time.sleep(0.1)  # between two questions, not for a result
            else:
                return

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()

    def ask(self, path: str, data: object = None) -> Any:
        """Return the answer to a question, or to what is posted, from JSON."""
        body = None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", body, headers)
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def run(self, prompt: object) -> dict[str, Any]:
        """Return what the history says of a prompt when it has ended."""
        with Events(self.port) as events:
            posted = self.ask("prompt", {"prompt": prompt, "client_id": events.client})
            events.wait_for("execution_success", "execution_error")
        while not (found := self.ask(f"history/{posted['prompt_id']}")):
            time.sleep(0.05)  # the event comes just before the entry
        return found[posted["prompt_id"]]

    def pixels(self, done: dict[str, Any], node: str) -> np.ndarray:
        """Return the image that a node of a finished prompt shows."""
        assert done["status"]["status_str"] == "success", done["status"]["messages"]
        (image,) = done["outputs"][node]["images"]
        query = urllib.parse.urlencode(image)
        url = f"http://127.0.0.1:{self.port}/view?{query}"
        path, _ = urllib.request.urlretrieve(url, self.input / "shown.png")
        return read(path).pixels


class Events:
    """The events that ComfyUI sends to a page, by its WebSocket."""

    def __init__(self, port: int) -> None:
        self.client = secrets.token_hex(8)
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._stream = self._socket.makefile("rb")
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._socket.sendall(
            f"GET /ws?clientId={self.client} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while self._stream.readline().strip():  # headers end with an empty line
            pass

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *problem: object) -> None:
        self._stream.close()
        self._socket.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The events that are texts; others are pictures."""
        while len(head := self._stream.read(2)) == 2:
            length = head[1] & 0x7F
            if length > 125:
                length = int.from_bytes(self._stream.read(2 if length == 126 else 8))
            body = self._stream.read(length)
            if head[0] & 0x0F == 1:
                yield json.loads(body)

    def wait_for(self, *kinds: str) -> dict[str, Any]:
        """Return the next event of one of these kinds."""
        for event in self:
            if event["type"] in kinds:
                return event
        raise AssertionError(f"ComfyUI ended before an event of {kinds}")
