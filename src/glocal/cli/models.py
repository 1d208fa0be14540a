"""``glocal models``: what can be restored with."""

__all__ = ["models"]


def models() -> None:
    """List the embedded models and the architectures whose checkpoints are recognised."""
    from importlib.resources import files

    from rich.markup import escape
    from rich.table import Column, Table

    from glocal.cli.reporting import console
    from glocal.networks import DEFAULT_MODEL, embedded_models, load_checkpoint
    from glocal.networks.detect import ARCHITECTURES
    from glocal.texts import size_text

    name = Column("name", no_wrap=True, overflow="fold")  # it is there to be typed
    table = Table(name, "architecture", "task", "train size", box=None, header_style="bold")
    table.add_column("parameters", justify="right")
    table.add_column("file size", justify="right")
    for model, metadata in embedded_models().items():
        loaded = load_checkpoint(model)
        parameters = sum(p.numel() for p in loaded.network.parameters())
        file = files("glocal").joinpath("weights", f"{model}.safetensors")
        table.add_row(
            escape(model) + (" (default)" if model == DEFAULT_MODEL else ""),
            escape(loaded.architecture),
            escape(metadata.get("task", "-")),
            size_text(loaded.train_size) if loaded.train_size else "-",
            f"{parameters / 1e6:.2f} M",
            f"{len(file.read_bytes()) / 1e6:.1f} MB",
        )
    out = console()
    if table.row_count:
        out.print("Embedded models, for [bold]--model NAME[/bold]", end="\n\n")
        out.print(table, end="\n\n")
    else:
        out.print("No embedded models in this installation.", end="\n\n")
    names = ", ".join(architecture.name for architecture in ARCHITECTURES)
    out.print(f"Checkpoints are recognised of: {names}")
    out.print("Any other network: [bold]--model package.module:factory[/bold]")
