"""``glocal degrade``: make a paired data set from clean photographs."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from glocal.cli.progress import Bar, run_through
from glocal.cli.reporting import say_facts

__all__ = ["degrade"]

Kind = Literal["motion", "defocus", "noise", "poisson", "haze", "jpeg"]


def degrade(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="A clean photograph or a folder of them.", show_default=False
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET",
            help="Folder of the data set; writes to TARGET/degraded and TARGET/target.",
            show_default=False,
        ),
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            "-k",
            metavar="KIND",
            help="Kind of degradation: motion, defocus, noise, poisson, haze or jpeg.",
            show_default=False,
        ),
    ],
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Strength, with the default in brackets. motion: longest path in pixels (11); "
            "defocus: largest radius in pixels (5); noise: standard deviation in 1/255 (25); "
            "poisson: standard deviation of white in 1/255 (15); haze: scattering × depth (1.5); "
            "jpeg: quality (30).",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random generator.")] = 0,
    recursive: Annotated[
        bool, typer.Option(help="Include subfolders.", rich_help_panel="Files")
    ] = True,
    resume: Annotated[
        bool, typer.Option(help="Skip existing pairs.", rich_help_panel="Files")
    ] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace existing pairs.", rich_help_panel="Files"),
    ] = False,
) -> None:
    """Make a paired data set from clean photographs.

    Blur and haze vary over the image, as they do in real photographs. Images are written as PNG in
    the bit depth of the photographs; TARGET/degradation.json records the settings and the seed of
    each image. The same photograph, settings and seed give the same files, whatever else is in the
    folder.
    """
    from glocal.data.degrade import settings
    from glocal.data.paired_set import RECORD, make_paired_set, plan_paired_set

    chosen, used = settings(kind, strength)
    count = len(plan_paired_set(source, target, seed, recursive=recursive))
    options = {"recursive": recursive, "resume": resume, "overwrite": overwrite}
    results = make_paired_set(source, target, kind, used, seed, **options)
    started = time.perf_counter()
    say_facts(
        {
            "photographs": f"{count} in {source}" if source.is_dir() else str(source),
            "degradation": f"{kind}, strength {used:g} ({chosen.meaning}), seed {seed}",
        }
    )
    bar = Bar(str(source), files=count)
    done, failed = run_through(results, bar, ("made", "skipped", "failed"), count)
    say_facts(
        {
            "time": f"{time.perf_counter() - started:.1f} s",
            "result": f"{target} ({done}; settings in {RECORD})",
        }
    )
    if failed:
        raise typer.Exit(1)
