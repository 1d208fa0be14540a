"""Print errors, warnings, notes and results."""

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from glocal.texts import printable

__all__ = [
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
    "wants_traceback",
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

wants_traceback = ContextVar("wants_traceback", default=False)
"""Whether the user asked for the calls that led to an error."""


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
    if trace and wants_traceback.get():
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
