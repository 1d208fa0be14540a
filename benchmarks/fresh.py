"""Fresh processes, so that retained memory or another allocator cannot hide a cost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch
from case import NotMeasuredError

Call = Callable[..., Any]

PROCESSES = 5
"""Processes per case where results vary between processes by more than the bound."""


@contextmanager
def fresh_process(threads: int, prepare: Callable[[], object] | None = None) -> Iterator[Call]:
    """A process that lives as long as the `with`; yields `call(function, *arguments)`.

    It is forked from a server that has imported torch and computed nothing, so it starts quickly
    with a clean heap. It calls `prepare` first.
    """
    server = get_context("forkserver")
    server.set_forkserver_preload(["torch", "glocal.networks"])
    pool = ProcessPoolExecutor(1, server, _begin, (threads, prepare))

    def call(function: Call, *arguments: object) -> Any:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise NotMeasuredError(
                "its process was killed, as happens when memory runs out"
            ) from None

    with pool:
        yield call


def _begin(threads: int, prepare: Callable[[], object] | None) -> None:
    torch.set_num_threads(threads)
    if prepare is not None:
        prepare()
