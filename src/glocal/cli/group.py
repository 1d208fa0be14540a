"""How a command ends: errors, warnings and log records in lines, and the exit code."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from glocal.cli.interruption import INTERRUPTED, TERMINATED, TerminatedError
from glocal.cli.reporting import Voice, say, set_voice, voice, wants_traceback
from glocal.errors import GlocalError, GlocalWarning
from glocal.shortages import is_out_of_memory, shortage_text
from glocal.texts import printable

__all__ = ["INTERNAL_ERROR", "TRACEBACK", "ReportingGroup"]

INTERNAL_ERROR = 70
"""Exit code for an error that glocal did not expect (EX_SOFTWARE of sysexits.h)."""

TRACEBACK = "--traceback"

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
        130 for Ctrl-C and 143 for SIGTERM.
        """
        wants_traceback.set(bool(ctx.params.get("traceback")))
        set_voice(Voice())
        with _short_warnings(), _logged():
            try:
                return super().invoke(ctx)
            except (_USAGE, typer.Exit, typer.Abort, BrokenPipeError):
                raise  # typer prints usage errors; a reader that has gone reads nothing
            except KeyboardInterrupt as interruption:
                sys.stdout.flush()
                said = str(interruption) or "nothing half-written was left behind"
                say(said, "bold red", "interrupted")
                error: BaseException = interruption
                is_end = isinstance(interruption, TerminatedError)
                code = TERMINATED if is_end else INTERRUPTED
            except (Exception, SystemExit) as raised:
                said, code = _described(raised)
                say(said, "bold red", "error")
                error = raised
        if wants_traceback.get():
            from glocal.scanning.user_code import full_traceback

            typer.echo(printable(full_traceback(error)), err=True)
        raise typer.Exit(code) from None


def _described(error: BaseException) -> tuple[str, int]:
    """Return what an error means, and the exit code."""
    if isinstance(error, GlocalError):
        return str(error), 1
    if short := shortage_text(error):
        advice = "; use --tile or a narrower --dtype" if is_out_of_memory(error) else ""
        return short + advice, 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1

    from glocal.scanning.user_code import failure, user_line

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


class _Lines(logging.Handler):
    """Prints the messages of the library: warnings, and with --verbose the others too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        if record.levelno >= logging.WARNING:
            say(record.getMessage(), "yellow", "warning")
        elif voice().verbose:
            say(record.getMessage(), "bold", "log")


@contextmanager
def _logged() -> Iterator[None]:
    """Print what the library logs in the block."""
    logger, lines = logging.getLogger("glocal"), _Lines()
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before)


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
