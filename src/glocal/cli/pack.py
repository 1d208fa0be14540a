"""``glocal models pack``: write a model as a folder that is ready for the Hugging Face Hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glocal.cli.arguments import (
    Arch,
    Entry,
    Model,
    TrainSize,
    Window,
    load_model,
    train_size_of,
)
from glocal.cli.reporting import say_facts
from glocal.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from glocal.networks import LoadedNetwork
    from glocal.study.evaluation.records import Evaluation

__all__ = ["pack"]


def pack(
    model: Model,
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A new folder, or an empty one.", show_default=False),
    ],
    entry: Entry = None,
    arch: Arch = None,
    train_size: TrainSize = None,
    window: Window = None,
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Licence of the weights, such as MIT or CC-BY-NC-4.0.  "
            "[dim]\\[default: as the model states][/dim]",
            rich_help_panel="Card",
            show_default=False,
        ),
    ] = None,
    licence_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Its whole text, which becomes LICENSE.",
            rich_help_panel="Card",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Name of the model.  [dim]\\[default: as the model states][/dim]",
            rich_help_panel="Card",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What it was trained for, such as deblurring.  "
            "[dim]\\[default: as the model states][/dim]",
            rich_help_panel="Card",
            show_default=False,
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Results of glocal evaluate for the card: the folder of --out, or a file of what "
            "--json printed; may be repeated.",
            rich_help_panel="Card",
            show_default=False,
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16, at half the size.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files in FOLDER.")
    ] = False,
) -> None:
    """Write a model as a folder that is ready for the Hugging Face Hub.

    The folder has model.safetensors, which states network, training size, window and licence, and
    README.md, the model card with the fields that the Hub reads. Before it is written, the network
    is loaded back and compared. Add to the card what only you know: training data, intended use,
    limits.
    """
    from glocal.images.files import make_folder, write_whole
    from glocal.networks.checkpoints.files import WEIGHTS_FILE
    from glocal.networks.packing import packed
    from glocal.study.report.card import CARD, LICENCE, model_card

    if folder.is_file():
        raise ArgumentError(f"{folder} is a file; choose a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ArgumentError(f"{folder} is not empty; choose another folder or pass --overwrite")
    text = None if licence_file is None else _text(licence_file)
    loaded = load_model(model, entry, arch)
    evaluations = [_evaluation(path, loaded) for path in results or ()]
    found = packed(
        loaded,
        train_size=train_size_of(loaded, train_size),
        window=window,
        licence=licence,
        licence_text=text,
        name=name,
        task=task,
        arch=arch,
        half=half,
    )
    card = model_card(found.metadata, found.parameters, evaluations, factory=found.factory)
    text = found.metadata.get("licence_text")
    files: dict[str, bytes | str] = {WEIGHTS_FILE: found.content}
    files |= ({LICENCE: text} if text else {}) | {CARD: card}
    make_folder(folder, CheckpointError)
    for file, content in files.items():
        write_whole(folder / file, content, CheckpointError)
    say_facts(
        {
            "network": f"{found.metadata['name']} ({found.metadata['architecture']}), "
            f"{found.parameters / 1e6:.2f} M weights in {'float16' if half else 'float32'}",
            "states": f"training size {found.metadata['train_size']}, window "
            f"{found.metadata['window']}, licence {found.metadata['licence']}",
            "checked": "loads back to the same weights",
            "written": f"{folder}: {', '.join(files)}",
            "next": f"hf upload OWNER/NAME {folder}",
        }
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text in UTF-8"
        raise ArgumentError(f"{path}: cannot be read ({reason})") from None


def _evaluation(path: Path, loaded: "LoadedNetwork") -> "Evaluation":
    """Return the results in a file.

    Raises:
        ArgumentError: it cannot be read, or has results of other weights.
    """
    from glocal.provenance import weights_sha256
    from glocal.study.evaluation.stored import read_evaluation

    evaluation = read_evaluation(path)
    measured = evaluation.protocol.weights_sha256
    if measured != weights_sha256(loaded.network):
        raise ArgumentError(
            f"{path}: has results of other weights ({evaluation.protocol.network}, "
            f"{measured[:12]}) than those of {loaded.name}"
        )
    if len(evaluation.images) < evaluation.protocol.image_count:
        raise ArgumentError(
            f"{path}: has {len(evaluation.images)} of {evaluation.protocol.image_count} images; "
            "run glocal evaluate to its end"
        )
    return evaluation
