"""``glocal models``: list embedded models and supported architectures."""

__all__ = ["models"]


def models() -> None:
    """List the embedded models and the architectures of supported checkpoints."""
    from importlib.resources import files

    from rich.markup import escape
    from rich.table import Table

    from glocal.cli.reporting import console
    from glocal.networks import DEFAULT_MODEL, embedded_models, load_checkpoint
    from glocal.networks.detect import ARCHITECTURES
    from glocal.texts import size_text

    # on narrow terminals only the task is wrapped: names and numbers must stay readable
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("name", "architecture", "task", "train size", "parameters", "file size"):
        table.add_column(head, no_wrap=head != "task")
    for counts in table.columns[-2:]:
        counts.justify = "right"
    for model, metadata in embedded_models().items():
        loaded = load_checkpoint(model)
        parameters = sum(p.numel() for p in loaded.network.parameters())
        file = files("glocal").joinpath("weights", f"{model}.safetensors")
        table.add_row(
            escape(model),
            escape(loaded.architecture),
            escape(metadata.get("task", "-")),
            size_text(loaded.train_size) if loaded.train_size else "-",
            f"{parameters / 1e6:.2f} M",
            f"{len(file.read_bytes()) / 1e6:.1f} MB",
        )
    out = console()
    if table.row_count:
        out.print("Embedded models, for [bold]--model NAME[/bold]")
        out.print(f"(default: {escape(DEFAULT_MODEL)})", end="\n\n")
        out.print(table)
        out.print()
    else:
        out.print("No embedded models in this installation.", end="\n\n")
    names = ", ".join(architecture.name for architecture in ARCHITECTURES)
    out.print(f"Architectures of supported checkpoints: {names}")
    out.print(
        "Any other network: [bold]--arch package.module:factory[/bold] with its checkpoint, or"
    )
    out.print("[bold]--model package.module:factory[/bold] with the weights that the factory loads")
