"""The option for what computes a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glocal.cli.reporting import console
from glocal.engines.runtimes import Runtime, check_installed
from glocal.errors import ImageError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RuntimeOption", "prepared_runtime"]

RuntimeOption = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="What computes the network: torch, onnxruntime, openvino, or auto for the fastest, "
        "which is measured once. Engines run the exported network on the CPU, openvino in bfloat16 "
        'too; they need [bold]pip install "glocal\\[openvino]"[/bold].',
        rich_help_panel="Running",
    ),
]


def prepared_runtime(
    network: "nn.Module", source: Path, runtime: Runtime, **options: Any
) -> dict[str, str]:
    """Export and measure a network before the run; return a line for the summary.

    Args:
        network: that will run.
        source: the first photograph.
        runtime: from the command line.
        options: dtype, device and output, as for `glocal.restore`.

    Raises:
        ArgumentError: the runtime is not installed.
    """
    if runtime == "torch":
        return {}
    check_installed(runtime)

    from glocal.images.sample_files import read_header
    from glocal.inference.runtime import described_runtime

    try:
        header = read_header(source)
    except ImageError:  # the run reports it
        return {}
    with console(stderr=True).status("Preparing the runtime …") as status:
        described = described_runtime(
            network,
            header.channels,
            header.size,
            runtime=runtime,
            report=lambda line: status.update(f"{line[0].upper()}{line[1:]} …"),
            **options,
        )
    return {"runtime": described}
