"""A real server: many uploads, workers that die or take too much, random requests."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from web_server import Server, allowed_networks

from glocal.images import image_files as images
from glocal.images.image_files import Image, decode

pytestmark = pytest.mark.slow

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return allowed_networks(tmp_path_factory.mktemp("allowed"))


@pytest.fixture
def start(tmp_path: Path, allowed: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def call(*words: str) -> Server:
        servers.append(Server(tmp_path / "jobs", allowed, *words))
        return servers[-1]

    yield call
    for server in servers:
        server.kill()


def send(server: Server, data: bytes, network: Path, **options: Any) -> dict[str, Any]:
    given = {"model": str(network), "way": "full", "check": False, **options}
    answer = httpx.post(
        f"{server.url}api/v1/jobs",
        files={"file": ("a.png", data)},
        data=given,
        timeout=60,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def png(seed: int, height: int = 24, width: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return images.encode(Image(pixels), ".png")[0]


def test_fifty_uploads_at_once_lose_nothing(start: Start, allowed: Path) -> None:
    server = start("--max-jobs-per-client", "50")
    photos = [png(seed) for seed in range(50)]
    network = allowed / "quick.safetensors"
    with ThreadPoolExecutor(50) as pool:
        jobs = list(pool.map(lambda data: send(server, data, network, way="degraded"), photos))
    for job, photo in zip(jobs, photos, strict=True):
        server.wait_for(job["id"], "done")
        result = httpx.get(f"{server.url}api/v1/jobs/{job['id']}/result").content
        np.testing.assert_array_equal(decode(result).pixels, decode(photo).pixels)


def test_a_worker_that_dies_fails_its_job_alone(start: Start, allowed: Path) -> None:
    server = start()
    killed = send(server, png(0, 300, 400), allowed / "slow.safetensors")
    waits = send(server, png(1), allowed / "quick.safetensors")
    server.wait_for(killed["id"], "running")
    os.kill(httpx.get(f"{server.url}healthz").json()["workers"][0]["pid"], signal.SIGKILL)
    failed = server.wait_for(killed["id"], "failed")
    assert failed["error"] == "the worker process died (killed by signal 9); the queue goes on"
    server.wait_for(waits["id"], "done")
    assert httpx.get(f"{server.url}healthz").json()["workers"][0]["restarts"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--max-seconds", "1"), "took longer than 1.0 s, which is the limit"),
        (("--max-memory", "100MB"), "needed more memory than 100 MB, which is the limit"),
    ],
)
def test_a_job_that_takes_too_much_is_ended(
    start: Start, allowed: Path, words: tuple[str, ...], says: str
) -> None:
    server = start(*words)
    job = send(server, png(0, 700, 900), allowed / "slow.safetensors", ensemble=8)
    assert server.wait_for(job["id"], "failed")["error"].startswith(says)


def test_random_requests_find_nothing(start: Start, tmp_path: Path) -> None:
    """Requests that schemathesis makes from the OpenAPI document."""
    pytest.importorskip("schemathesis")
    server = start("--max-jobs-per-client", "100000", "--max-queue", "100000")
    command = [
        sys.executable, "-m", "schemathesis.cli",
        "--config-file", str(Path(__file__).with_name("schemathesis.toml")),
        "run", f"{server.url}api/v1/openapi.json", "--url", server.url.rstrip("/"),
        "--max-examples", "25", "--seed", "1",
    ]  # fmt: skip
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
