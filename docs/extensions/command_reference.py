"""A page for each command of `glocal`, from the objects that parse its command line."""

import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from glocal.cli import app as glocal_app

PAGES = Path(__file__).resolve().parents[1] / "generated" / "commands"


def pages() -> dict[str, str]:
    """The text of each page, in reStructuredText, by the name of its command."""
    root = typer.main.get_command(glocal_app)
    found = {"glocal": "\n".join(_page(root, "glocal", nested=False))}
    for name, command in root.commands.items():
        found[name] = "\n".join(_page(command, f"glocal {name}"))
    return found


def _page(command: Any, words: str, *, nested: bool = True) -> Iterator[str]:
    yield from (words, "=" * len(words), "")
    yield from _described(command, words)
    for name, inner in getattr(command, "commands", {}).items() if nested else ():
        inner_words = f"{words} {name}"
        yield from (inner_words, "-" * len(inner_words), "")
        yield from _described(inner, inner_words)


def _described(command: Any, words: str) -> Iterator[str]:
    yield from _paragraphs(command.help or "")
    yield from (".. code-block:: text", "", f"   {_usage(command, words)}", "")
    if examples := _examples(command.epilog or ""):
        yield from (".. code-block:: console", "", *(f"   $ {line}" for line in examples), "")
    yield from (f".. program:: {words}", "")
    panels: dict[str, list[Any]] = defaultdict(list)
    for parameter in command.params:
        if parameter.name != "help" and not getattr(parameter, "hidden", False):
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            panels[getattr(parameter, "rich_help_panel", None) or kind].append(parameter)
    for panel, parameters in panels.items():
        yield from (f".. rubric:: {panel}", "")
        for parameter in parameters:
            yield from _parameter(parameter)


def _parameter(parameter: Any) -> Iterator[str]:
    value = _value(parameter)
    if parameter.param_type_name == "argument":
        yield f".. option:: {_value(parameter)}"
    else:
        names = [f"{each} {value}".strip() for each in parameter.opts]
        yield f".. option:: {', '.join([*names, *parameter.secondary_opts])}"
    yield ""
    text = parameter.help or ""
    default = _default(parameter)
    if default and "default:" not in text:
        text += f"  [default: {default}]"
    if parameter.required:
        text += "  [required]"
    yield from _indented(_paragraphs(text))


def _usage(command: Any, words: str) -> str:
    arguments = [
        _value(each) + ("..." if each.nargs == -1 else "")
        for each in command.params
        if each.param_type_name == "argument"
    ]
    inner = ["COMMAND [ARGS]..."] if hasattr(command, "commands") else []
    return " ".join([words, "[OPTIONS]", *arguments, *inner])


def _value(parameter: Any) -> str:
    """Placeholder of the value of a parameter; empty for a flag."""
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    return parameter.metavar or "|".join(_choices(annotation)) or parameter.name.upper()


def _choices(annotation: Any) -> list[str]:
    """The values of Literal in an annotation."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return list(map(str, arguments))
    return [choice for each in arguments for choice in _choices(each)]


def _default(parameter: Any) -> str:
    value = parameter.default
    if not getattr(parameter, "show_default", False) or value in (None, False, ()):
        return ""
    if value is True:
        return str(parameter.opts[-1]) if parameter.secondary_opts else ""
    return "" if callable(value) else str(value)


def _examples(epilog: str) -> list[str]:
    lines = [line.strip() for line in epilog.splitlines()]
    return [line for line in lines if line and not line.startswith("[bold]")]


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of a help text, its markup as that of reStructuredText."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        yield from (_marked_up(" ".join(paragraph.split())), "")


def _marked_up(text: str) -> str:
    text = re.sub(r"\[/?dim\]", "", text).replace("\\[", "[")
    parts = re.split(r"\[bold\](.*?)\[/bold\]", text)
    return "".join(
        f"``{part}``" if number % 2 else re.sub(r"([\\*_`|])", r"\\\1", part)
        for number, part in enumerate(parts)
    )


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (textwrap.indent(line, "   ") for line in lines)


def write_pages(app: Any) -> None:
    """Write the pages where they changed."""
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = PAGES / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, Any]:
    """Write the pages before Sphinx looks for them."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
