"""Options for who does the work of a run: this process, several, or a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from glocal.cli.arguments import device_named
from glocal.errors import ArgumentError

if TYPE_CHECKING:
    from glocal.runs.executors.work import Executor
    from glocal.runs.jobs import Job
    from glocal.runs.shards import Shard

__all__ = [
    "HERE",
    "Address",
    "EngineOption",
    "GpusPerWorker",
    "ShardOption",
    "Workers",
    "Workforce",
    "workforce",
]

Engine: TypeAlias = Literal["local", "ray"]
EngineOption = Annotated[
    Engine,
    typer.Option(
        "--engine",
        help="Who does the work: this machine, or a Ray cluster, which needs [bold]pip install "
        '"glocal\\[ray]"[/bold].',
        rich_help_panel="Several machines",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster to use.  [dim]\\[default: one that runs on this machine, or else a new "
        "one of this machine][/dim]",
        rich_help_panel="Several machines",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Largest number of Ray's actors, each with a copy of the network.  [dim]\\[default: "
        "as many as there is room for][/dim]",
        rich_help_panel="Several machines",
        show_default=False,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        metavar="X",
        help="GPUs that each actor takes, such as 0.5 for two on one.  [dim]\\[default: 1 if the "
        "cluster has any][/dim]",
        rich_help_panel="Several machines",
        show_default=False,
    ),
]
ShardOption = Annotated[
    Any,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do the I-th of N parts of the files alone, for arrays of batch jobs. A file belongs "
        "to a part by its name.",
        rich_help_panel="Several machines",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Workforce:
    """Who does the work of a command.

    Attributes:
        executor: None if this process does.
        device: where this process computes.
        where: the workers in words; empty if this process does the work.
        shard: the part of the files to do, or None for all.
    """

    executor: "Executor | None"
    device: str
    where: str = ""
    shard: "Shard | None" = None

    def own(self, jobs: "Sequence[Job]", folder: Path) -> "Sequence[Job]":
        """Return the jobs of the shard, by their names in the folder of results."""
        if self.shard is None:
            return jobs
        return [job for job in jobs if self.shard.has(job.destination.relative_to(folder))]

    @property
    def shard_text(self) -> str:
        """The shard in words; empty without one."""
        return "" if self.shard is None else f"shard {self.shard.number} of {self.shard.count}"


HERE = Workforce(None, "cpu")
"""This process, on the CPU."""


def workforce(
    device: str,
    *,
    engine: Engine,
    address: str | None,
    workers: int | None,
    gpus: float | None,
    shard: str | None,
    runtime: str,
    verbose: bool = False,
) -> Workforce:
    """Return who does the work, by the options of a command.

    Raises:
        ArgumentError: options contradict each other, or a device or a package is missing.
    """
    from glocal.runs.shards import Shard

    part = None if shard is None else Shard.named(shard)
    names = [name.strip() for name in device.split(",")]
    if engine == "local":
        given = {"--address": address, "--workers": workers, "--gpus-per-worker": gpus}
        for name, value in given.items():
            if value is not None:
                raise ArgumentError(f"{name} is for --engine ray")
    if len(names) == 1 and engine == "local":
        return Workforce(None, device_named(device), shard=part)
    if runtime != "torch":
        raise ArgumentError("several workers run networks in torch; leave out --runtime")
    if engine == "local":
        return _several(names, part)
    if len(names) > 1:
        raise ArgumentError("--engine ray chooses the devices of its actors; leave out --device")

    from glocal.runs.executors.cluster import RayExecutor
    from glocal.runs.executors.ray_session import check_ray

    check_ray()
    executor = RayExecutor(address, workers, gpus, names[0], verbose)
    where = f"a Ray cluster at {address}" if address else "a Ray cluster"
    return Workforce(executor, "cpu", where, part)


def _several(names: Sequence[str], part: "Shard | None") -> Workforce:
    from glocal.runs.executors.processes import ProcessesExecutor

    devices = [device_named(name) for name in names]
    return Workforce(ProcessesExecutor(tuple(devices)), devices[0], ", ".join(devices), part)
