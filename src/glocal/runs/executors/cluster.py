"""The executor of a Ray cluster: actors of Ray Data hold the network, paths are the data set.

Ray Data decides how much work is under way (back-pressure), starts actors anew that have died, and
gives units of lost nodes to others. A unit that is done again skips what its record says is done.

The work travels through Ray's object store as the command has it: a network is converted and proven
once, and each actor computes with the same tensors and programs. The other machines need no file of
the network; they need the code of its classes, which the work checks.
"""

import math
import pickle
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.runs.executors.environment import Environment, check_same, environment
from glocal.runs.executors.ray_session import connected, ray_module
from glocal.runs.executors.work import Work
from glocal.runs.executors.worker import (
    Done,
    Place,
    Worker,
    loaded,
    run_name,
    units,
    worker_name,
)
from glocal.runs.stages import Item, Outcome, Result, Usage

__all__ = ["RayExecutor"]

TRIES = 2
"""Times that an item which fails is done: what fails once may be a file system or a full memory."""

STARTS = 3
"""Times that a unit is begun, as its actor or node is lost, before it is given up. Ray itself would
begin without end what ends each actor, such as an image for which memory is short."""


@dataclass(frozen=True)
class RayExecutor:
    """Does the work of a run on a Ray cluster.

    Attributes:
        address: of the cluster; by default one that runs on this machine, or else a new one of
            this machine alone, for the run.
        workers: most actors at once; by default as many as the cluster has room for.
        gpus: that each actor takes, which may be a fraction; by default one if there are any.
        device: "auto", or where the actors' networks run: "cpu" or "cuda".
        verbose: print what Ray prints.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float | None = None
    device: str = "auto"
    verbose: bool = False

    def run(
        self, work: Work[Item, Result], items: Sequence[Item], usage: Usage | None = None
    ) -> Generator[Result, None, None]:
        """Do all items, see `Executor`; yields results as they come.

        Raises:
            GlocalError: there is no cluster, or a machine of it lacks something.
        """
        with connected(self.address, verbose=self.verbose) as ray:
            _check_nodes(ray)
            room = self._room(ray)
            run, waiting = run_name(), dict(enumerate(items))
            sent = [ray.put(pickle.dumps(work)), _counter(ray)]
            for tried in range(1, TRIES + 1):
                if not waiting:
                    break
                most = 1 if tried > 1 else work.unit  # one that ends its actor takes no other along
                for number, result in _done(ray, sent, run, list(waiting.items()), room, most):
                    is_final = tried == TRIES or not work.is_failed(result)
                    if is_final and number in waiting:
                        del waiting[number]
                        yield result
            for item in waiting.values():
                lost = GlocalError(
                    f"the process that did it died, {TRIES} times; the system may have ended it "
                    "for want of memory"
                )
                yield work.result(Outcome(item, error=lost))
            work.gather(run)

    def _room(self, ray: Any) -> "_Room":
        """What each actor takes, and how many there may be."""
        nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
        has_gpus = any(each.get("GPU") for each in nodes)
        if self.device != "auto" and not self.device.startswith("cuda"):
            gpus = 0.0
        elif self.gpus is not None:
            gpus = self.gpus
        else:
            gpus = 1.0 if has_gpus else 0.0
        if gpus and not has_gpus:
            raise ArgumentError("the cluster has no GPU; leave out --gpus-per-worker, or --device")
        threads = torch.get_num_threads()
        able = [each for each in nodes if each.get("CPU", 0) >= 1 and each.get("GPU", 0) >= gpus]
        if not able:
            raise GlocalError("no machine of the cluster has a processor for an actor")
        cpus = 1.0 if gpus else min(threads, *(each["CPU"] for each in able))
        each_has = (
            min(node["CPU"] // cpus, node.get("GPU", 0) / gpus if gpus else math.inf)
            for node in able
        )
        count = max(1, int(sum(map(int, each_has))))
        device = "cuda" if gpus else "cpu"
        return _Room(cpus, gpus, min(count, self.workers or count), threads, device)


@dataclass(frozen=True)
class _Room:
    """What each actor takes of the cluster.

    Attributes:
        cpus, gpus: that Ray reserves for it.
        count: of actors.
        threads: of torch in each.
        device: where its networks run.
    """

    cpus: float
    gpus: float
    count: int
    threads: int
    device: str


class _Starts:
    """Counts how often units were begun."""

    def __init__(self) -> None:
        self._counts = Counter[str]()

    def begun(self, unit: str) -> int:
        self._counts[unit] += 1
        return self._counts[unit]


def _counter(ray: Any) -> Any:
    """Start an actor that counts, on the machine of the command, which outlives the others."""
    here = ray.get_runtime_context().get_node_id()
    return ray.remote(num_cpus=0)(_Starts).options(scheduling_strategy=_on(here)).remote()


def _on(node: str) -> Any:
    """Ray's way to choose a node by its id."""
    strategies = ray_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node, soft=False)


class _Actor:
    """A worker in an actor of Ray Data."""

    def __init__(self, sent: Any, run: str, room: _Room, here: Environment, place: Place) -> None:
        ray = ray_module("ray")
        self._fatal: Exception | None = None
        place.take()
        try:
            check_same(here, "the machine of the command")  # a node may have come later
            self._ray, self._starts = ray, sent[1]
            work = loaded(ray.get(sent[0])).for_worker(worker_name(run), room.device)
            self._worker: Worker[Any, Any] = Worker(work, room.threads)
        except Exception as error:
            self._fatal = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._fatal is not None:
            done: Done[Any] = Done([], fatal=self._fatal)
        elif self._ray.get(self._starts.begun.remote(batch["name"][0])) > STARTS:
            done = Done([])
        else:
            done = self._worker.do(pickle.loads(batch["unit"][0]))
        return {"done": [pickle.dumps(done)]}


def _done(
    ray: Any, sent: Any, run: str, items: list[tuple[int, Any]], room: _Room, most: int
) -> Iterator[tuple[int, Any]]:
    """Do numbered items; yield the results of those that are not lost."""
    data = ray_module("ray.data")
    count = min(room.count, len(items))
    parts = units(items, count, most)
    rows = [{"unit": pickle.dumps(part), "name": f"{part[0][0]}, {len(part)}"} for part in parts]
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # their items are missed afterwards
    found = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        batch_size=1,
        batch_format="numpy",
        fn_constructor_args=(sent, run, room, environment(), Place.here()),
        compute=data.ActorPoolStrategy(min_size=1, max_size=count, initial_size=count),
        num_cpus=room.cpus,
        num_gpus=room.gpus or None,
    )
    for row in found.iter_rows():
        done: Done[Any] = pickle.loads(row["done"])
        for text in done.warnings:
            warnings.warn(text, GlocalWarning, stacklevel=2)
        yield from done.results
        if done.fatal is not None:
            raise done.fatal


def _check_nodes(ray: Any) -> None:
    """Check that each machine has the same environment.

    Raises:
        GlocalError: one has not.
    """
    ask = ray.remote(num_cpus=0, max_retries=1)(environment)
    asked = [
        (node["NodeManagerAddress"], ask.options(scheduling_strategy=_on(node["NodeID"])).remote())
        for node in ray.nodes()
        if node["Alive"]
    ]
    for address, answer in asked:
        try:
            there = ray.get(answer)
        except ray.exceptions.RayError as error:
            raise GlocalError(
                f"node {address} of the cluster does not run glocal ({_cause(error)}); install the "
                "same version on all machines"
            ) from None
        check_same(there, f"node {address} of the cluster")


def _cause(error: BaseException) -> str:
    """The last line of an error of Ray, which has the traceback of the other machine."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
