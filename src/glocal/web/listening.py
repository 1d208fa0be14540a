"""Open the port, and run the server until it is told to end."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from glocal.errors import ArgumentError

__all__ = ["listen", "run"]

_END_S = 3
"""Seconds that open connections have when the server ends."""


@contextmanager
def listen(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that listens, and the address of the page.

    Raises:
        ArgumentError: the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ArgumentError(f"--host {host}: {error.strerror}") from None
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(where)
            opened.listen(1024)
        except OSError as error:
            raise ArgumentError(
                f"cannot listen on {host}, port {port} ({error.strerror}); choose another --port"
            ) from None
        taken = opened.getsockname()[1]
        shown = "localhost" if host in ("127.0.0.1", "localhost") else host
        yield opened, f"http://{f'[{shown}]' if ':' in shown else shown}:{taken}/"


def run(app: Any, opened: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=_END_S, server_header=False
    )
    uvicorn.Server(config).run(sockets=[opened])
