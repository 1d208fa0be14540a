"""Fixtures of runs: a server of S3."""

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A server of moto, with a bucket; keys and address are in the environment."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        found = fsspec.filesystem("s3")
        found.mkdir("bucket")
        yield found
    server.stop()
