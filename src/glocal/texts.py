"""Sizes, errors and tables as text."""

from collections.abc import Iterable, Sequence

__all__ = [
    "duration_text",
    "few_names",
    "memory_text",
    "one_line",
    "printable",
    "share_text",
    "short_name",
    "size_text",
    "text_table",
]

_LONGEST_NAME = 100


def size_text(size: tuple[int, int]) -> str:
    """A size as text, height first, as the command line reads it.

    >>> size_text((384, 512))
    '384x512'
    """
    return f"{size[0]}x{size[1]}"


def duration_text(seconds: float) -> str:
    """A duration as text, with two digits at most.

    >>> duration_text(0.83), duration_text(103), duration_text(1000), duration_text(12345)
    ('0.8 s', '100 s', '17 min', '3.4 h')
    """
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 3 * length:
            return f"{_two_digits(seconds / length)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(number: float) -> str:
    rounded = float(f"{number:.1e}")
    return f"{rounded:.0f}" if rounded >= 10 else f"{rounded:.1f}"


def memory_text(nbytes: float) -> str:
    """An amount of memory as text.

    >>> memory_text(2.34e9), memory_text(5e6)
    ('2.3 GB', '5 MB')
    """
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e9 else f"{max(1, round(nbytes / 1e6))} MB"


def share_text(share: float) -> str:
    """A share as text.

    >>> share_text(0.0004), share_text(0.013), share_text(0.25)
    ('less than 0.1 %', '1.3 %', '25.0 %')
    """
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks, or its type if it has no message.

    >>> one_line(ValueError("too\\n  small")), one_line(ValueError())
    ('too small', 'ValueError')
    """
    return " ".join(str(error).split()) or type(error).__name__


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns; the first row is the header.

    >>> print(text_table([("module", "map"), ("a", "64x64")]))
    module  map
    ------  -----
    a       64x64
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def printable(text: str) -> str:
    """The text with escapes for what would steer a terminal, or cannot be written in UTF-8.

    Line breaks and tabs stay.

    >>> printable("a\\x1b[2Jb\\n\\udcff\\u202ec")
    'a\\\\x1b[2Jb\\n\\\\udcff\\\\u202ec'
    """
    if text.isprintable():
        return text
    return "".join(each if _is_shown(each) else _escaped(each) for each in text)


def _is_shown(character: str) -> bool:
    return character in "\n\t" or character.isprintable() or character.isspace()


def _escaped(character: str) -> str:
    return (
        character.encode("ascii", "backslashreplace").decode()
        if ord(character) > 127
        else (f"\\x{ord(character):02x}")
    )


def few_names(names: Iterable[str], limit: int = 3) -> str:
    """The first names as text in one line, and the number of the others.

    >>> few_names("abcde"), few_names("ab"), few_names(["a\\nb"])
    ('a, b, c and 2 more', 'a, b', 'a\\\\nb')
    """
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(map(short_name, listed[:limit])) + more


def short_name(name: str) -> str:
    """A name that a file states, in one line, shortened in its middle.

    >>> short_name("a" * 1000)
    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'
    """
    half = _LONGEST_NAME // 2
    short = name if len(name) <= _LONGEST_NAME else f"{name[: half - 5]}…{name[5 - half :]}"
    return printable(short).replace("\n", "\\n").replace("\t", "\\t")
