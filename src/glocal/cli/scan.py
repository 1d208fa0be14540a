"""``glocal scan``: list the global operations of a network."""

from typing import TYPE_CHECKING, Annotated

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
from glocal.cli.reporting import console, print_text, print_words, say
from glocal.cli.tables import FittedTable
from glocal.cli.ways import Stride, check_options
from glocal.inference.ways import DEFAULT_WAY, Converting
from glocal.texts import printable

if TYPE_CHECKING:
    from glocal.scanning.plan import Plan

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
    if as_json:
        print_text(plan.to_json())
        return
    out = console()
    if out.is_terminal:
        print_words(plan.heading())
        if plan.rows:
            out.print(_table(plan), soft_wrap=False)
        print_words("\n".join(plan.closing()))
    else:  # other programs read and compare it: as wide as it is
        print_text(printable(str(plan)))
    for text in warned:
        print_words(f"warning: {text}")


def _table(plan: "Plan") -> FittedTable:
    rows = [(f"{path}\n  {operation}", *rest) for path, operation, *rest in plan.table_rows()]
    return FittedTable(("module and operation", *plan.columns[2:]), rows, texts=5)
