"""The proof at the end of `localize`: equality, a larger image, locality.

Three questions, answered by running private copies of both on image-like values, in the mode in
which each module is: does the converted network equal the original where every window covers its
map; does it run on a larger image; and is it local, so that no module depends on far pixels
(`locality`). The values of zero-initialised parameters are random in the copies.
"""

import math
import warnings
from collections.abc import Mapping

from glocal.conversion.causes import cause_of_reach, place, unused_block
from glocal.conversion.comparison import Comparison
from glocal.conversion.locality import Strip, Suspect, suspects
from glocal.conversion.proof_runs import Converted, Miss, isolated
from glocal.conversion.rewrite.program import Rewritten
from glocal.errors import GlocalError, GlocalWarning
from glocal.ops.windows import Size
from glocal.scanning.discover import scan_trace, trace_at
from glocal.scanning.modules import ancestors
from glocal.texts import size_text

__all__ = ["Converted", "Miss", "prove"]

STRIP_PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 47, 53, 61, 71, 83, 97, 113, 127, 149, 173)
"""A strip is one of these times 32, 64, the period of the network or the training size long: few
numbers of channels are."""


def prove(converted: Converted) -> Miss | None:
    """Return the first miss; None if the conversion is proven.

    Raises:
        ConversionError: the original does not run on image-like values at the training size, so
            that nothing can be compared.
    """
    with isolated():
        pair = Comparison(converted)
        if converted.blocks:
            miss = pair.equality() or pair.larger()
            if miss:
                return miss
        return _locality(pair)


def _locality(pair: Comparison) -> Miss | None:
    """Look for modules that depend on far pixels, on a wide strip and on a high one."""
    converted = pair.converted
    excused = set(converted.excused)
    for operation in converted.left:
        above = ancestors(operation.path)
        excused.update(above[: above.index(operation.owner) + 1])
    undecided = False
    for axis in (-1, -2):
        verdict = _along(pair, axis, frozenset(excused))
        if isinstance(verdict, Miss):
            return verdict
        undecided |= verdict is None
    return _scanned_again(converted, excused) if undecided else None


def _along(pair: Comparison, axis: int, excused: frozenset[str]) -> Miss | bool | None:
    """Look along one axis: a miss, True for local, None if strips cannot decide."""
    converted = pair.converted
    train, window = converted.train_size[axis], converted.window[axis]
    band = max(32, min(128, train // 128 * 32))
    reach = {
        path: window * (len(inside) + 1) // 2 + band for path, inside in converted.blocks.items()
    }
    length = 3 * max([band, *reach.values()])
    before: dict[str, int] = {}
    while True:
        found = _on_strip(pair, Strip(length, axis, band), reach, excused)
        if found is None:
            return None
        size, suspected, called, judged = found
        length = max(size)
        unused = [path for path in converted.blocks if path not in called]
        if unused:
            return Miss(unused[0], unused_block(converted.model, unused[0]), (unused[0],))
        growing = [s for s in suspected if s.distance >= 1.5 * before.get(s.path, 1 << 30)]
        if growing:
            return _far(pair, growing[0], size)
        if not suspected:
            return True if judged else None
        before, length = {s.path: s.distance for s in suspected}, 2 * length


def _on_strip(
    pair: Comparison,
    wanted: Strip,
    reach: Mapping[str, int],
    excused: frozenset[str],
) -> tuple[Size, list[Suspect], set[str], bool] | None:
    """Return size and suspects of the lowest strip that the network accepts, or None."""
    local, converted = pair.local, pair.converted
    limit = max(1 << 16, converted.train_size[0] * converted.train_size[1])
    other = converted.scan.size[-3 - wanted.axis]
    # first a length that the network need not pad: padded maps are in no simple proportion to it
    whole = math.lcm(32, converted.scan.period or 32)
    for unit in dict.fromkeys((whole, 32, 64, converted.train_size[wanted.axis])):
        length = next((p * unit for p in STRIP_PRIMES if p * unit >= wanted.length), None)
        for side in sorted({16, 32, 64, 128, other}):
            if length is None or side * length > limit:
                break
            strip = Strip(length, wanted.axis, wanted.band)
            try:
                size = (side, length) if wanted.axis == -1 else (length, side)
                args = local.arguments(size)
                return size, *suspects(local.module, args, strip, local.run, reach, excused)
            except Exception:  # a strip that the network does not take
                continue
    return None


def _far(pair: Comparison, suspect: Suspect, size: Size) -> Miss:
    converted = pair.converted
    block = next((b for b in converted.blocks if b in ancestors(suspect.path)), None)
    path = block if block is not None else suspect.inner
    module = dict(converted.model.named_modules()).get(path, converted.model)
    why = cause_of_reach(converted.model, path, module)
    if block is not None and _takes_another_path(pair, block, size):
        why = _other_path(pair, block, size)
        why = f"{why}, and {place(module)} runs global there"
    return Miss(path, why, () if block is None else (block,), suspect.path)


def _takes_another_path(pair: Comparison, path: str, size: Size) -> bool:
    """True if a rewritten block runs its original at this image size."""
    if not isinstance(pair.local.module.get_submodule(path), Rewritten):
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pair.local.run(pair.local.arguments(size))
    text = f"'{path or 'the network'}' runs global here"
    return any(w.category is GlocalWarning and str(w.message).startswith(text) for w in caught)


def _other_path(pair: Comparison, block: str, size: Size) -> str:
    """Say why a block takes another path at an image size: its branch or its padding."""
    made = pair.converted
    run = trace_at(made.model, made.scan.make_args, size)
    for call in run.calls if run else ():
        if "pad" in call.name and block in ancestors(call.path):
            return (
                f"it pads the map ({call.line or call.function}) by an amount that depends on the "
                "image, and uses a statistic of the padded map in a way that has no local form; "
                f"so its code takes another path at {size_text(size)}"
            )
    return pair.other_path(size) or f"its code takes another path at {size_text(size)}"


def _scanned_again(converted: Converted, excused: set[str]) -> Miss | None:
    """Look for global operations outside the converted modules, by a larger scan."""
    size = (2 * converted.window[0], 2 * converted.window[1])
    try:
        found = scan_trace(converted.root, converted.scan.make_args, size)
    except GlocalError:
        return None
    for operation in found.operations:
        if operation.refusal is not None:
            continue  # places in the image, which the windows of converted modules shift
        above = ancestors(operation.path)
        if not excused.intersection(above) and not set(converted.blocks).intersection(above):
            why = f"{operation.function} ({operation.line}) still works on the whole map"
            return Miss(operation.path, why, holder=operation.path)
    return None
