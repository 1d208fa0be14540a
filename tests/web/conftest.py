"""A server without workers, whose jobs a test does itself, and a tiny network."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from web_server import serving, write_photo

from glocal.networks import NAFNet

MISSING = [
    name
    for name in ("fastapi", "uvicorn", "python_multipart", "httpx")
    if importlib.util.find_spec(name) is None
]
if MISSING:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the server allows, with a tiny network and a photograph."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    torch.manual_seed(0)
    network = NAFNet(3, 4, 1, [1], [1])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_file(network.state_dict(), allowed / "tiny.safetensors", {"train_size": "16"})
    write_photo(allowed / "photo.png")
    return allowed


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> "Iterator[object]":
    """A client of a server without workers."""
    from glocal.web.access import Access
    from glocal.web.limits import Limits

    with serving(tmp_path / "jobs", Access(folders=(folder,)), Limits()) as client:
        yield client
