"""``glocal scan``: list the global operations of a network."""

from typing import Annotated

import typer

from glocal.cli.arguments import (
    Arch,
    Entry,
    KeepGlobal,
    Model,
    PrecisionOption,
    TrainSize,
    Verify,
    Window,
    load_model,
    train_size_of,
)
from glocal.cli.reporting import say
from glocal.cli.ways import Stride, check_options
from glocal.inference.ways import DEFAULT_WAY, Converting

__all__ = ["scan"]


def scan(
    model: Model,
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    way: Annotated[
        Converting,
        typer.Option(
            help="Where statistics come from: windows (TLC), crops, or auto, a mixture.",
            rich_help_panel="Local operations (TLC)",
        ),
    ] = DEFAULT_WAY,
    window: Window = None,
    stride: Stride = None,
    precision: PrecisionOption = "exact",
    keep_global: KeepGlobal = None,
    verify: Verify = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the global operations of a network and how each would be converted.

    Each line shows the module, the operation, its line in the source, the size of its map in
    training, its window or crops, and the rule that converts it or why it stays global.
    """
    from glocal.conversion.localize import plan_of
    from glocal.inference.settings import Settings
    from glocal.study.harm import norm_warning, padded_norms

    check_options(way, window=window, stride=stride, precision=precision)
    loaded = load_model(model, entry, arch)
    settings = Settings(
        way,
        train_size_of(loaded, train_size),
        window=window,
        stride=stride,
        keep_global=tuple(keep_global or ()),
        allow_global=True,
    )
    plan = plan_of(settings.network(loaded.network, precision=precision, verify=verify))
    norms = padded_norms(loaded.network, plan)
    warned = [] if norms is None else [norm_warning(*norms)]
    for text in warned if as_json else ():
        say(text, "yellow", "warning")
    # plain text: the table is wider than most terminals, and users pipe and compare it
    typer.echo(
        plan.to_json() if as_json else "\n".join([str(plan), *(f"warning: {t}" for t in warned)])
    )
