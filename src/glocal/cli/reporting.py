"""Print errors, warnings, notes and results."""

import sys
import warnings
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from glocal.errors import GlocalError, GlocalWarning

__all__ = ["ReportingGroup", "console", "say", "say_facts"]


def console(*, stderr: bool = False) -> Console:
    """Return a console that neither highlights nor wraps lines."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str, style: str, label: str) -> None:
    """Print a labelled line to stderr."""
    console(stderr=True).print(f"[{style}]{label}:[/{style}] {escape(text)}")


def say_facts(facts: dict[str, str]) -> None:
    """Print names and values in two columns to stdout."""
    width = max(len("photographs"), *map(len, facts))  # the same in every part of a report
    out = console()
    for name, value in facts.items():
        out.print(f"[bold]{name:<{width}}[/bold]  {escape(value)}")


class ReportingGroup(TyperGroup):
    """Prints glocal's errors and warnings without traceback and source line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; exit with 1 for a GlocalError and 130 for Ctrl-C."""
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
            try:
                return super().invoke(ctx)
            except GlocalError as error:
                say(str(error), "bold red", "error")
                raise typer.Exit(1) from None
            except KeyboardInterrupt as interruption:
                sys.stdout.flush()
                said = str(interruption) or "nothing half-written was left behind"
                say(said, "bold red", "interrupted")
                raise typer.Exit(130) from None
