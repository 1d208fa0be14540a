"""Suggest a template where the names of degraded images and targets nearly match."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path

from glocal.data.pairing import natural_key
from glocal.data.templates import NameTemplate, PairTemplate, match_names
from glocal.images.folders import list_images

__all__ = ["suggested_layout", "suggested_names"]

EXAMPLES, CANDIDATES = 3, 300
"""How many degraded images are compared with how many targets to find what their names share."""
SAMPLE = 50
"""How many degraded images rank the templates."""


def suggested_layout(root: Path, degraded: Path, target: Path, paired: int) -> str | None:
    """Return a sentence that proposes a layout for two folders whose names do not match.

    Args:
        root: folder of the data set.
        degraded, target: folders inside it.
        paired: number of images that have a target already.

    Returns:
        None if no template pairs more images, and at least half of them.
    """
    if not (degraded.is_relative_to(root) and target.is_relative_to(root)):
        return None
    inputs, targets = _names(degraded), _names(target)
    found = suggested_names(inputs, targets)
    if found is None:
        return None
    template, count = found
    sides = (
        (folder.relative_to(root) / side.names).as_posix()
        for folder, side in ((degraded, template.degraded), (target, template.target))
    )
    layout = ":".join(sides)
    if count <= paired or layout.count(":") > 1:
        return None
    pairs = "1 pair" if count == 1 else f"{count} pairs"
    return f'--layout "{layout}" would give {pairs} of {len(inputs)} images'


def suggested_names(
    inputs: Sequence[str], targets: Sequence[str]
) -> tuple[PairTemplate, int] | None:
    """Return the template that pairs most names, and how many; at least half of the inputs.

    >>> template, count = suggested_names(["0801x4", "0802x4"], ["0801", "0802"])
    >>> template.degraded.names, template.target.names, count
    ('{}x4', '{}', 2)
    """
    known = set(targets)
    unpaired = [name for name in inputs if name not in known]
    sample, candidates = inputs[:SAMPLE], targets[:CANDIDATES]
    templates = dict.fromkeys(_templates(unpaired[:EXAMPLES], candidates))
    if not templates:
        return None
    best = max(templates, key=lambda template: len(match_names(template, sample, candidates)))
    most = len(match_names(best, inputs, targets))
    return None if 2 * most < len(inputs) else (best, most)


def _templates(inputs: Sequence[str], targets: Sequence[str]) -> Iterator[PairTemplate]:
    """Yield what could relate the names: a shared part, with other text before and after it."""
    for name in inputs:
        for target in targets:
            at, there, size = SequenceMatcher(
                None, name, target, autojunk=False
            ).find_longest_match()
            shared = re.sub(r"^[\W_]+|[\W_]+$", "", name[at : at + size])
            if not shared:
                continue
            at, there = name.index(shared, at), target.index(shared, there)
            before, after = name[:at], name[at + len(shared) :]
            before_target, after_target = target[:there], target[there + len(shared) :]
            if _cuts_number(before, shared, after) or _cuts_number(
                before_target, shared, after_target
            ):
                continue
            numbers, others = (
                re.findall(r"\d+", before + after),
                re.findall(r"\d+", before_target + after_target),
            )
            if numbers and others and numbers != others:  # photo1 is not photo2
                continue
            right = NameTemplate("", f"{before_target}{{}}{after_target}")
            yield PairTemplate(NameTemplate("", f"{before}{{}}{after}"), right)
            if re.match(r"[\W_]", after) and not after_target:  # 1400_1 and 1400_2 of 1400
                yield PairTemplate(NameTemplate("", f"{before}{{}}{after[0]}*"), right)


def _cuts_number(before: str, shared: str, after: str) -> bool:
    return any(
        left[-1:].isdigit() and right[:1].isdigit()
        for left, right in ((before, shared), (shared, after))
    )


def _names(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in list_images(folder, recursive=True))
    return sorted({path.with_suffix("").as_posix() for path in found}, key=natural_key)
