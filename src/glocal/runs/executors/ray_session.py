"""The connection to a Ray cluster, in which Ray prints nothing and takes no signals.

Whoever needs a module of Ray gets it here by its name: it is an optional package.
"""

import importlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from glocal.errors import ArgumentError, GlocalError
from glocal.texts import one_line

__all__ = ["check_ray", "connected", "ray_module"]

CONNECT_S = 10.0
"""Seconds in which the head of a cluster must answer."""


def check_ray() -> None:
    """Check that Ray Data is installed.

    Raises:
        ArgumentError: it is not.
    """
    missing = [name for name in ("ray", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        raise ArgumentError(
            f'--engine ray needs {" and ".join(missing)}: pip install "glocal[ray]"'
        )


def ray_module(name: str) -> Any:
    """Return a module of Ray, such as "ray.data"."""
    return importlib.import_module(name)


@contextmanager
def connected(address: str | None, *, verbose: bool) -> Iterator[Any]:
    """Yield the package ray, connected to a cluster.

    Args:
        address: as of `RayExecutor`.
        verbose: print what Ray prints.

    Raises:
        ArgumentError: Ray is not installed.
        GlocalError: there is no cluster.
    """
    check_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning
    if not verbose:  # Ray reads these when it is imported
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # of messages of other nodes
    ray = ray_module("ray")
    if ray.is_initialized():
        yield ray
        return
    given: dict[str, Any] = {"logging_level": logging.INFO if verbose else logging.ERROR}
    chosen = {name: each for name, each in os.environ.items() if name.startswith("GLOCAL_")}
    if chosen:
        given["runtime_env"] = {"env_vars": chosen}
    with ExitStack() as stack:
        stack.enter_context(_quiet(verbose))
        try:
            _check_address(address)
            with _kept_signals(), _silent(verbose):
                ray.init(address, log_to_driver=verbose, **given)
        except (OSError, RuntimeError, ValueError) as error:
            where = f" at {address}" if address else ""
            raise GlocalError(
                f"no connection to a Ray cluster{where} ({one_line(error)[:200]}); ray status "
                "tells whether one runs"
            ) from None
        stack.callback(ray.shutdown)
        yield ray


def _check_address(address: str | None) -> None:
    """Check that something listens at HOST:PORT; Ray itself tries for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _silent(verbose: bool) -> Iterator[None]:
    """Drop what code in C++ prints to stderr in the block, such as that it prints nothing."""
    if verbose:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Let Ray's loggers print nothing in the block."""
    ray_module("ray.data")  # sets levels
    names = () if verbose else ("ray", "ray.data")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
