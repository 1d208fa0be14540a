"""``glocal scan``: list the global operations of a network."""

from typing import Annotated

import typer

from glocal.cli.arguments import (
    KeepGlobal,
    Model,
    PrecisionOption,
    TrainSize,
    Verify,
    Window,
    load_model,
    train_size_of,
)

__all__ = ["scan"]


def scan(
    model: Model,
    train_size: TrainSize = None,
    window: Window = None,
    precision: PrecisionOption = "exact",
    keep_global: KeepGlobal = None,
    verify: Verify = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the global operations of a network and how each would be converted.

    Each line shows the module, the operation, its line in the source, the size of its map in
    training, its window, and the rule that converts it or why it stays global.
    """
    from glocal.conversion.localize import scan as scan_network

    loaded = load_model(model)
    plan = scan_network(
        loaded.network,
        train_size_of(loaded, train_size),
        window=window,
        precision=precision,
        keep_global=keep_global or (),
        verify=verify,
    )
    # plain text: the table is wider than most terminals, and users pipe and compare it
    typer.echo(plan.to_json() if as_json else str(plan))
