"""JSON of files, checked against a form; the only module that parses files of JSON.

A form is a type: `str`, `int`, `float`, `bool`, `None`, `object` for any value, `Literal`,
``X | Y``, `list`, `tuple`, `dict` and `Mapping` of forms, or a dataclass, whose fields are the keys
of an object. Size and depth are bounded, keys are unique, and numbers are finite, so that a damaged
or malicious file is an error of one line.
"""

import errno
import json
import math
import stat
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import (
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = ["MOST_BYTES", "JsonError", "converted", "parsed", "read_json"]

MOST_BYTES = 4 * 2**20
"""Most bytes of a file, unless the caller knows that more are usual."""

MOST_DEPTH = 64
"""Most objects and lists inside each other."""

_MOST_INTEGER = 2**63
_SHOWN = 60

T = TypeVar("T")


class JsonError(ValueError):
    """A text is no JSON, or not of the expected form; the message is one line."""


def read_json(
    path: Path, form: type[T], *, ignore_others: bool = False, most_bytes: int = MOST_BYTES
) -> T:
    """Read a JSON file of a form.

    Args:
        path: of a regular file.
        form: what is in it, see above.
        ignore_others: ignore keys of objects that a dataclass has no field for; an error without.
        most_bytes: of the file.

    Raises:
        JsonError: the file is longer, no JSON, or of another form.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may have no end
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise JsonError(f"has more than {most_bytes} bytes")
    return parsed(data, form, ignore_others=ignore_others)


def parsed(text: bytes | str, form: type[T], *, ignore_others: bool = False) -> T:
    """Parse a JSON text, in UTF-8, of a form.

    >>> parsed('{"size": [3, 4]}', dict[str, tuple[int, int]])
    {'size': (3, 4)}
    >>> parsed('{"size": [3, "4"]}', dict[str, tuple[int, int]])
    Traceback (most recent call last):
        ...
    glocal.json_files.JsonError: size[1]: expected an integer, got "4"

    Raises:
        JsonError: the text is no JSON, or of another form; the message names the place.
    """
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
        )
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"has values more than {MOST_DEPTH} levels deep") from None
    except ValueError as error:  # no JSON, no UTF-8, or an integer of thousands of digits
        raise JsonError(f"is no JSON ({str(error)[:120]})") from None
    _check_depth(value)
    return cast(T, converted(value, form, "", ignore_others=ignore_others))


def converted(value: object, form: Any, where: str, *, ignore_others: bool = False) -> Any:
    """Return a value that `parsed` returned in a form that depends on other parts of the text.

    Raises:
        JsonError: it is of another form; the message begins with `where`.
    """
    return _converted(value, form, where, ignore_others)


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"has the key {_shown(twice)} twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise JsonError(f"has the value {text}, which is no JSON")


def _check_depth(value: object) -> None:
    layer: list[object] = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEPTH):
        layer = [inner for each in layer for inner in _inside(each)]
        if not layer:
            return
    raise JsonError(f"has values more than {MOST_DEPTH} levels deep")


def _inside(value: object) -> list[object]:
    """The objects and lists in an object or a list."""
    inner = value.values() if isinstance(value, dict) else cast(list[object], value)
    return [each for each in inner if isinstance(each, dict | list)]


def _converted(value: object, form: Any, where: str, ignore_others: bool) -> object:
    def inner(each: object, of: Any, name: str | int) -> object:
        place = f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}".lstrip(".")
        return _converted(each, of, place, ignore_others)

    origin, of = get_origin(form), get_args(form)
    if form is object or form is Any:
        return value
    if origin in (Union, types.UnionType):
        return _of_union(value, of, where, ignore_others)
    if origin is Literal:
        if isinstance(value, str | int) and value in of:
            return value
    elif form in _PLAIN:
        if _PLAIN[form][1](value):
            return float(cast(float, value)) if form is float else value
    elif is_dataclass(form):
        if isinstance(value, dict):
            return _of_dataclass(value, form, where, ignore_others, inner)
    elif origin is tuple and of[-1] is not ...:
        if isinstance(value, list) and len(value) == len(of):
            return tuple(inner(each, of[i], i) for i, each in enumerate(value))
    elif origin in (list, tuple):
        if isinstance(value, list):
            return origin(inner(each, of[0], i) for i, each in enumerate(value))
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {name: inner(each, of[1], name) for name, each in value.items()}
    else:
        raise TypeError(f"{form} is no form of JSON")
    raise _unexpected(_named(form), value, where)


def _unexpected(wanted: str, value: object, where: str) -> JsonError:
    return JsonError(f"{_lead(where)}expected {wanted}, got {_shown(value)}")


def _lead(where: str) -> str:
    return f"{where[-_SHOWN:]}: " if where else ""


def _of_union(value: object, forms: Sequence[Any], where: str, ignore_others: bool) -> object:
    for form in forms:
        try:
            return _converted(value, form, where, ignore_others)
        except JsonError:
            continue
    raise _unexpected(" or ".join(map(_named, forms)), value, where)


def _of_dataclass(
    value: Mapping[str, object],
    form: Any,
    where: str,
    ignore_others: bool,
    inner: Callable[[object, Any, str], object],
) -> object:
    kinds, known = get_type_hints(form), {each.name: each for each in fields(form) if each.init}
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise JsonError(f"{_lead(where)}has no {name}")
    if not ignore_others:
        for name in value:
            if name not in known:
                raise JsonError(f"{_lead(where)}has the unknown key {_shown(name)}")
    given = {name: inner(value[name], kinds[name], name) for name in known if name in value}
    return form(**given)


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and _fits(value)


def _fits(value: int) -> bool:
    return -_MOST_INTEGER <= value < _MOST_INTEGER


# bool is a subclass of int
_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a string", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an integer", lambda value: isinstance(value, int) and _is_number(value)),
    float: ("a number", _is_number),
    type(None): ("null", lambda value: value is None),
}


def _named(form: Any) -> str:
    if form in _PLAIN:
        return _PLAIN[form][0]
    origin, of = get_origin(form), get_args(form)
    if origin is Literal:
        return " or ".join(json.dumps(each) for each in of)
    if origin is tuple and of[-1] is not ...:
        return f"a list of {len(of)}"
    return "a list" if origin in (list, tuple) else "an object"


def _shown(value: object) -> str:
    """The value as JSON, shortened."""
    if isinstance(value, dict | list) and value:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
