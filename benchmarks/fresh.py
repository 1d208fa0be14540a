"""A new process for what an old one would hide: memory kept for reuse, another allocator."""

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
"""For what differs from process to process by more than a bound is wide."""


@contextmanager
def fresh_process(threads: int, prepare: Callable[[], object] | None = None) -> Iterator[Call]:
    """A process that lasts as long as the `with`, and `call(function, *arguments)` to run in it.

    It is forked from a server that has imported torch and computed nothing: started in no time,
    with a heap that is as good as new. `prepare` is called in it first.
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
