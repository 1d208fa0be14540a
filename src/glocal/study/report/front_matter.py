"""The YAML at the top of a model card, which the Hugging Face Hub reads."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

__all__ = ["Value", "front_matter", "hub_licence", "slug"]

Value: TypeAlias = "str | float | Sequence[Value] | Mapping[str, Value]"
"""What YAML holds here: text, numbers, lists and objects."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_RESERVED = frozenset("true false yes no on off y n null".split())

_LICENCES = frozenset(
    "afl-3.0 agpl-3.0 apache-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc cc-by-2.0 cc-by-3.0 "
    "cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 ecl-2.0 epl-2.0 eupl-1.2 gpl gpl-2.0 gpl-3.0 isc lgpl "
    "lgpl-2.1 lgpl-3.0 mit mpl-2.0 ms-pl openrail unlicense wtfpl zlib".split()
)
"""Identifiers of the Hub; it calls every other licence "other"."""


def front_matter(values: Mapping[str, Value]) -> str:
    """Return values as YAML between two lines of hyphens.

    >>> print(front_matter({"license": "mit", "tags": ["tlc"], "sizes": [{"a": 1, "b": "no"}]}))
    ---
    license: mit
    tags:
    - tlc
    sizes:
    - a: 1
      b: "no"
    ---
    """
    return "\n".join(["---", *_lines(values), "---"])


def hub_licence(name: str, file: str = "") -> dict[str, Value]:
    """Return a licence, and the file that has its text, as the fields of the Hub.

    >>> hub_licence("Apache-2.0"), hub_licence("My own terms")
    ({'license': 'apache-2.0'}, {'license': 'other', 'license_name': 'my-own-terms'})
    """
    known = re.sub(r"-(only|or-later)$", "", name.strip().lower())
    if known in _LICENCES:
        return {"license": known}
    named: dict[str, Value] = {"license": "other", "license_name": slug(name)}
    return named | ({"license_link": file} if file else {})


def slug(text: str) -> str:
    """Return a text as a word of an address: lower case, without spaces.

    >>> slug("GoPro/test (sRGB)")
    'gopro-test-srgb'
    """
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "unnamed"


def _lines(value: Value) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(each, str | float | int):
                yield f"{key}: {_scalar(each)}"
            else:
                yield f"{key}:"
                indent = "  " if isinstance(each, Mapping) else ""
                yield from (f"{indent}{line}" for line in _lines(each))
    elif isinstance(value, str | float | int):
        yield _scalar(value)
    else:
        for each in value:
            first, *others = _lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in others)


def _scalar(value: str | float) -> str:
    if not isinstance(value, str):
        return repr(value)
    plain = _PLAIN.fullmatch(value) and value.lower() not in _RESERVED
    return value if plain else json.dumps(value, ensure_ascii=False)
