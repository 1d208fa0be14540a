"""Print errors, warnings, notes and results."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from glocal.errors import GlocalError, GlocalWarning

__all__ = ["ReportingGroup", "console", "say", "say_facts", "say_failure"]


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: no colours of its own, no emoji, no wrapping."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def say(text: str, style: str, label: str) -> None:
    """Print a labelled line to stderr."""
    console(stderr=True).print(f"[{style}]{label}:[/{style}] {escape(text)}")


def say_failure(what: object, text: str, trace: str) -> None:
    """Print what failed, why, and the traceback if the user asked for one."""
    say(f"{what}: {text}", "bold red", "failed")
    if trace and _wants_traceback.get():
        typer.echo(trace, err=True)


def say_facts(facts: dict[str, str]) -> None:
    """Print names and values in two columns to stdout."""
    width = max(len("photographs"), *map(len, facts))  # the same in every part of a report
    out = console()
    for name, value in facts.items():
        out.print(f"[bold]{name:<{width}}[/bold]  {escape(value)}")


INTERNAL_ERROR = 70
"""Exit code for an error that glocal did not expect (EX_SOFTWARE of sysexits.h)."""

TRACEBACK = "--traceback"
_wants_traceback = ContextVar("wants_traceback", default=False)

# Some versions of typer have a copy of click's exceptions.
_USAGE: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class ReportingGroup(TyperGroup):
    """Prints errors and warnings in a line or two; a traceback only if it is asked for."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Accept `TRACEBACK` behind a command too."""
        end = args.index("--") if "--" in args else len(args)
        others = [each for each in args[:end] if each != TRACEBACK]
        given = [TRACEBACK] if len(others) < end else []
        return super().parse_args(ctx, [*given, *others, *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command.

        Exits with 1 for an error that the user can mend, 70 for one that glocal did not expect,
        and 130 for Ctrl-C.
        """
        _wants_traceback.set(bool(ctx.params.get("traceback")))
        with _short_warnings():
            try:
                return super().invoke(ctx)
            except (_USAGE, typer.Exit, typer.Abort, BrokenPipeError):
                raise  # typer prints usage errors; a reader that has gone reads nothing
            except KeyboardInterrupt as interruption:
                sys.stdout.flush()
                said = str(interruption) or "nothing half-written was left behind"
                say(said, "bold red", "interrupted")
                error: BaseException = interruption
                code = 130
            except (Exception, SystemExit) as raised:
                said, code = _described(raised)
                say(said, "bold red", "error")
                error = raised
        if _wants_traceback.get():
            from glocal.scanning.user_code import full_traceback

            typer.echo(full_traceback(error), err=True)
        raise typer.Exit(code) from None


def _described(error: BaseException) -> tuple[str, int]:
    """Return what an error means, and the exit code."""
    if isinstance(error, GlocalError):
        return str(error), 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1

    from glocal.inference.runner import is_out_of_memory
    from glocal.scanning.user_code import failure, user_line

    if is_out_of_memory(error):
        return f"not enough memory ({failure(error)}); use --tile or a narrower --dtype", 1
    line = user_line(error)
    if isinstance(error, SystemExit):
        return f"the network's code ended the program{f' ({line})' if line else ''}", 1
    if line:
        return f"{failure(error)}; run again with {TRACEBACK} to see the calls", 1
    return (
        f"unexpected {failure(error)}\nThis is a fault of glocal: please report it with what "
        f"{TRACEBACK} prints.",
        INTERNAL_ERROR,
    )


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Print glocal's warnings without the line of source in the block."""
    with warnings.catch_warnings():
        ordinary = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, GlocalWarning):
                say(str(message), "yellow", "warning")
            else:
                ordinary(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
