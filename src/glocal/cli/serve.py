"""``glocal serve``: a web page and an API on this machine."""

from pathlib import Path
from typing import Annotated, Any

import typer

from glocal.cli.arguments import device_named
from glocal.cli.reporting import say_facts
from glocal.cli.tiling import parse_memory
from glocal.errors import ArgumentError

__all__ = ["serve"]


def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Others can reach 0.0.0.0, for which --token is needed.",
            rich_help_panel="Access",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes a free one.", rich_help_panel="Access")
    ] = 8000,
    token: Annotated[
        str,
        typer.Option(
            envvar="GLOCAL_TOKEN",
            help="Secret that every request must carry.  [dim]\\[default: none][/dim]",
            rich_help_panel="Access",
            show_default=False,
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name of this server, as browsers use it; may be repeated.",
            rich_help_panel="Access",
        ),
    ] = None,
    allow_folder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder whose photographs and .safetensors files may be named by path; may be "
            "repeated.  [dim]\\[default: none][/dim]",
            rich_help_panel="Access",
            show_default=False,
        ),
    ] = None,
    jobs_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the queue and the results, which a restart finds again.  "
            "[dim]\\[default: in your cache folder][/dim]",
            rich_help_panel="Jobs",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help="Device of torch with a worker of its own; may be repeated.  [dim]\\[default: the "
            "first GPU, or the CPU][/dim]",
            rich_help_panel="Jobs",
            show_default=False,
        ),
    ] = None,
    max_bytes: Annotated[
        Any,
        typer.Option(
            "--max-bytes",
            parser=parse_memory,
            metavar="SIZE",
            help="Size of a photograph's file at most.",
            rich_help_panel="Limits",
        ),
    ] = "200MB",
    max_megapixels: Annotated[
        float,
        typer.Option(
            min=0.001, metavar="N", help="Size of a photograph at most.", rich_help_panel="Limits"
        ),
    ] = 64.0,
    max_queue: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Jobs that wait or run at most.", rich_help_panel="Limits"
        ),
    ] = 100,
    max_jobs_per_client: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Jobs of one network address that wait or run at most.",
            rich_help_panel="Limits",
        ),
    ] = 20,
    max_seconds: Annotated[
        float,
        typer.Option(min=1, metavar="N", help="Time of a job at most.", rich_help_panel="Limits"),
    ] = 3600.0,
    max_memory: Annotated[
        Any,
        typer.Option(
            "--max-memory",
            parser=parse_memory,
            metavar="SIZE",
            help="Memory of a worker at most; it is replaced if it takes more (Linux).  "
            "[dim]\\[default: no limit][/dim]",
            rich_help_panel="Limits",
            show_default=False,
        ),
    ] = None,
    keep_hours: Annotated[
        float,
        typer.Option(
            min=0.01,
            metavar="N",
            help="Finished jobs are deleted after so many hours.",
            rich_help_panel="Limits",
        ),
    ] = 168.0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a web page to restore photographs, and its API, on this machine.

    The page and the documentation of the API (/docs) work without internet. Jobs and results stay
    in a folder, so that a restart continues where it stopped. Needs [bold]pip install
    "glocal\\[web]"[/bold].
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ArgumentError(
            f'the page needs the package {error.name}, which is missing: pip install "glocal[web]"'
        ) from None
    from glocal.images.files import cache_folder
    from glocal.web.access import Access
    from glocal.web.app import make_app
    from glocal.web.limits import Limits
    from glocal.web.listening import listen, run

    access = Access(host, token, tuple(allow_host or ()), tuple(allow_folder or ()))
    limits = Limits(
        nbytes=max_bytes,
        pixels=int(max_megapixels * 1e6),
        queue=max_queue,
        jobs_per_client=max_jobs_per_client,
        seconds=max_seconds,
        memory=max_memory,
        keep_s=3600 * keep_hours,
    )
    devices = [device_named(each) for each in device or ["auto"]]
    folder = (jobs_folder or cache_folder("serve")).expanduser().absolute()
    app = make_app(folder, access, limits, devices)
    with listen(host, port) as (opened, address):
        say_facts(
            {
                "page": address,
                "API": f"{address}docs",
                "jobs": str(folder),
                "devices": ", ".join(devices),
            }
        )
        if open_page:
            typer.launch(address)
        try:
            run(app, opened)
        except KeyboardInterrupt as end:  # of Ctrl-C, or of SIGTERM
            raise type(end)("unfinished jobs wait for the next glocal serve") from None
