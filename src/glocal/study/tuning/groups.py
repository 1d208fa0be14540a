"""Group operations that can be left global together, and find patterns."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape

from glocal.scanning.modules import ancestors
from glocal.scanning.plan import Plan, Row

__all__ = ["Group", "groups_of"]

MOST_GROUPS = 6
"""Largest number of groups: each costs a run over all images."""

_REWRITTEN = "rewrite of "


@dataclass(frozen=True)
class Group:
    """Operations that are converted or left global together.

    Attributes:
        name: their common property, such as "instance norm" or "maps of 16x16".
        patterns: for `keep_global`.
        count: number of rows of the plan.
    """

    name: str
    patterns: tuple[str, ...]
    count: int


def groups_of(plan: Plan) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """Return a plan's local operations in a few groups, by kind or else by map size.

    Returns:
        The groups, and the names of those that no pattern separates from the others: an operation
        that a module calls itself cannot stay global without all operations inside the module.

    >>> rows = [
    ...     Row(f"blocks.{n}.{name}", name, "net.py:1", (64, 64), (96, 96), "local", name)
    ...     for n in range(2) for name in ("norm", "pool")
    ... ]
    >>> groups, inseparable = groups_of(Plan((64, 64), (96, 96), tuple(rows)))
    >>> for group in groups:
    ...     print(group.name, group.patterns)
    norm ('*.norm',)
    pool ('*.pool',)
    """
    rows = plan.with_status("local")
    blocks: dict[str, dict[str, None]] = {}
    for row in rows:
        blocks.setdefault(row.how, {})[row.operation] = None

    def kind(row: Row) -> str:
        # each rewritten block has its own `how`; name it by the operations inside
        return ", ".join(blocks[row.how]) if row.how.startswith(_REWRITTEN) else row.how

    def depth(row: Row) -> str:
        if row.feature is None:
            return "maps of unknown size"
        return f"maps of {row.feature[0]}x{row.feature[1]}"

    parts = _few(_split(rows, kind))
    if len(parts) < 2:
        parts = _few(_split(rows, depth))
    groups, inseparable = [], []
    for name, inside in parts.items():
        patterns = _patterns(inside, [row for row in rows if row not in inside])
        if patterns is None:
            inseparable.append(name)
        else:
            groups.append(Group(name, patterns, len(inside)))
    return tuple(groups), tuple(inseparable)


def _split(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(key(row), []).append(row)
    return parts


def _few(parts: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the largest groups, with all others merged into one."""
    if len(parts) <= MOST_GROUPS:
        return parts
    names = sorted(parts, key=lambda name: -len(parts[name]))
    rest = [row for name in names[MOST_GROUPS - 1 :] for row in parts[name]]
    return {**{name: parts[name] for name in names[: MOST_GROUPS - 1]}, "the others": rest}


def _patterns(rows: Sequence[Row], others: Sequence[Row]) -> tuple[str, ...] | None:
    """Return few patterns that match these rows only; None if impossible."""
    reserved = {path for row in others for path in ancestors(row.path)}
    found: list[str] = []
    for row in rows:
        if any(fnmatchcase(row.path, pattern) for pattern in found):
            continue
        fitting = (
            pattern
            for pattern in _candidates(row.path)
            if fnmatchcase(row.path, pattern)
            and not any(fnmatchcase(path, pattern) for path in reserved)
        )
        pattern = next(fitting, None)
        if pattern is None:
            return None
        found.append(pattern)
    return tuple(found)


def _candidates(path: str) -> list[str]:
    """Return patterns for a path, the most general first, the path itself last.

    >>> _candidates("encoders.0.1.sca.0")
    ['*.sca.*', 'encoders.*.*.sca.*', 'encoders.0.1.sca.0']
    """
    parts = path.split(".")
    general = ["*" if part.isdigit() else escape(part) for part in parts]
    tails = [
        "*." + ".".join(general[start:])
        for start in range(len(parts) - 1, 0, -1)
        if not parts[start].isdigit()
    ]
    return [*tails, ".".join(general), escape(path)]
