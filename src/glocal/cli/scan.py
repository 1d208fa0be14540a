"""``glocal scan``: what is global in a network."""

from typing import Annotated

import typer

from glocal.cli.arguments import Model, TrainSize, Window, load_model, train_size_of

__all__ = ["scan"]


def scan(
    model: Model,
    train_size: TrainSize = None,
    window: Window = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the global operations of a network and what would become of each.

    Each line names the module, the operation, its line in the source, the size of the map it
    runs over in training, the window it would run over, and the rule, or why it stays global.
    """
    from glocal.conversion.localize import scan as scan_network

    loaded = load_model(model)
    plan = scan_network(loaded.network, train_size_of(loaded, train_size), window=window)
    # plain: the table is wider than most terminals, and is piped and compared
    typer.echo(plan.to_json() if as_json else str(plan))
