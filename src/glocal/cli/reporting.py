"""Print errors, warnings, notes and results."""

import json
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from glocal.cli.interruption import INTERRUPTED, TERMINATED, TerminatedError
from glocal.errors import GlocalError, GlocalWarning
from glocal.shortages import is_out_of_memory, shortage_text
from glocal.texts import printable

__all__ = [
    "ReportingGroup",
    "Voice",
    "console",
    "print_columns",
    "print_json",
    "print_text",
    "print_words",
    "say",
    "say_facts",
    "say_failure",
    "say_line",
    "set_voice",
    "voice",
    "waiting",
]


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: no colours of its own, no emoji, no wrapping."""
    return _Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


class _Console(Console):
    """A console whose reader may go."""

    def on_broken_pipe(self) -> None:
        """Go on without a reader, as results are in files; rich would end the program."""
        _drop_stdout()


@dataclass(frozen=True)
class Voice:
    """Where a command prints results, notes and progress.

    Attributes:
        facts: where names and values go; None drops them.
        notes: print notes.
        progress: print what the user waits for.
        verbose: print what helps to find a cause, too.
    """

    facts: Literal["stdout", "stderr"] | None = "stdout"
    notes: bool = True
    progress: bool = True
    verbose: bool = False


_PLAIN = Voice()
_voice = ContextVar("voice", default=_PLAIN)


def set_voice(voice: Voice) -> None:
    """Choose what the rest of the command prints."""
    _voice.set(voice)


def voice() -> Voice:
    """The output settings of this command."""
    return _voice.get()


def say(text: str, style: str, label: str) -> None:
    """Print a labelled line to stderr."""
    if label != "note" or voice().notes:
        _print_words(console(stderr=True), f"{label}: {text}", len(label) + 1, style)


def say_line(text: str) -> None:
    """Print a plain line to stderr, unless the user asked for none."""
    if voice().progress:
        _print_words(console(stderr=True), text, 0, "")


def print_json(values: Any) -> None:
    """Print values as JSON; characters that UTF-8 has no bytes for are escaped."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    if not text.isascii() and printable(text) != text:  # names of files may hold any bytes
        text = json.dumps(values, indent=2)
    print_text(text)


def print_text(text: str) -> None:
    """Print a text to stdout as it is."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        _drop_stdout()


def _drop_stdout() -> None:
    """Let what is written to stdout from here on go nowhere: its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_words(text: str, style: str = "") -> None:
    """Print a text to stdout; on a terminal, lines end between words."""
    _print_words(console(), text, len(text), style, 0)


@contextmanager
def waiting(text: str, *, long: bool = False) -> Iterator[None]:
    """Say what the user waits for in the block: a spinner on a terminal.

    Args:
        text: without an ellipsis.
        long: also print it where stderr is no terminal.
    """
    out = console(stderr=True)
    if not voice().progress:
        yield
    elif out.is_terminal:
        with out.status(f"{text} …"):
            yield
    else:
        if long:
            say_line(f"{text} …")
        yield


def say_failure(what: object, text: str, trace: str, label: str = "failed") -> None:
    """Print what failed, why, and the traceback if the user asked for one."""
    say(f"{what}: {text}", "bold red", label)
    if trace and _wants_traceback.get():
        typer.echo(printable(trace), err=True)


def print_columns(rows: Sequence[tuple[str, str]]) -> None:
    """Print names, which may be empty, and texts in two columns to stdout."""
    _print_columns(console(), rows, max(len(name) for name, _ in rows))


def say_facts(facts: dict[str, str]) -> None:
    """Print names and values in two columns."""
    where = voice().facts
    if where is None:
        return
    width = max(len("photographs"), *map(len, facts))  # the same in every part of a report
    _print_columns(console(stderr=where == "stderr"), facts.items(), width)


def _print_columns(out: Console, rows: Iterable[tuple[str, str]], width: int) -> None:
    for name, text in rows:
        _print_words(out, f"{name:<{width}}  {text}", width, "bold", width + 2)


def _print_words(out: Console, text: str, styled: int, style: str, indent: int = 2) -> None:
    """Print a text whose first characters are styled.

    A terminal would break long lines inside a word, so they are broken between words there;
    elsewhere a line stays a line, for other programs.
    """
    text = printable(text)
    if out.is_terminal:
        lines = [
            line
            for part in text.splitlines()
            for line in textwrap.wrap(
                part,
                max(out.width, indent + 20),
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
                replace_whitespace=False,
                drop_whitespace=True,
            )
        ]
        text = "\n".join(lines) or text
    shown = Text(text)
    shown.stylize(style, 0, styled)
    out.print(shown)


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
        130 for Ctrl-C and 143 for SIGTERM.
        """
        _wants_traceback.set(bool(ctx.params.get("traceback")))
        set_voice(_PLAIN)
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
        if _wants_traceback.get():
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
