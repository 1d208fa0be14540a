"""Find the state dicts in what a checkpoint file contains.

They lie in entries that nest, and below prefixes of keys. A prefix counts if everything beside it
is explained: counters, a critic or a loss, or copies with the same keys. A part of a network is
thus not taken for a whole one.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.names import INFIXES, Role, is_counter, is_passed_over, role_of
from glocal.networks.checkpoints.pickles import Placeholder
from glocal.networks.checkpoints.precision import full_precision, is_float8
from glocal.texts import few_names, short_name

__all__ = ["Candidate", "candidates", "parts", "unnamed_averages", "without_counters"]

_DEPTH = 8  # entries nest; bounded, because a file can contain itself
_LEAST_TENSORS = 8  # of a part that may be a network
_MOST_DOTS, _MOST_CHARACTERS = 64, 1024  # of the name of a tensor


@dataclass(frozen=True)
class Candidate:
    """Tensors that may be the weights of one network.

    Attributes:
        path: of the file, for errors.
        entry: where they lie: names of entries and prefixes, joined by dots; empty for a file
            that is a state dict itself.
        state_dict: tensors by their keys below the entry, counters included.
        role: what the names say of them.
    """

    path: Path
    entry: str
    state_dict: Mapping[str, Tensor]
    role: Role

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Tensors in full precision, see `full_precision`, without counters."""
        return full_precision(self.path, without_counters(self.state_dict))

    def same_weights(self, other: "Candidate") -> bool:
        """True if both have the same keys and values."""
        return self.same_keys(other) and all(
            _equal(tensor, other.state_dict[key])
            for key, tensor in without_counters(self.state_dict).items()
        )

    def same_keys(self, other: "Candidate") -> bool:
        """True if both have tensors of the same names and shapes."""
        own, others = without_counters(self.state_dict), without_counters(other.state_dict)
        return own.keys() == others.keys() and all(own[k].shape == others[k].shape for k in own)


def candidates(path: Path, loaded: object, entry: str | None = None) -> list[Candidate]:
    """Return the state dicts in a file, preferred ones first.

    Averaged weights come first, then generators, then others in the order of the file, and critics
    and losses last.

    Args:
        path: of the file, for errors.
        loaded: its content.
        entry: name of an entry or prefix, such as "params" or "state_dict.net"; only what lies
            in it is returned.

    Raises:
        CheckpointError: there are no tensors, or no such entry.
    """
    dicts = list(_state_dicts(loaded))
    if not dicts:
        raise CheckpointError(f"{path}: has no tensors{_describe(loaded)}")
    for key in (key for place in dicts for key in place.tensors):
        if len(key) > _MOST_CHARACTERS or key.count(".") > _MOST_DOTS:
            raise CheckpointError(
                f"{path}: has a tensor whose name is no network's, {short_name(key)}"
            )
    if entry is None:
        roots = dicts
    else:
        roots = [part for each in dicts for part in _inside(each, entry.strip("."))]
        if not roots:
            known = [each.entry for root in dicts for each in _levels(root)]
            listed = few_names((name for name in dict.fromkeys(known) if name), 10)
            raise CheckpointError(
                f"{path}: has no entry {entry!r} with tensors"
                + (f"; its entries are {listed}" if listed else "; it is a bare state dict")
            )
    found = [each.candidate(path) for root in roots for each in _levels(root)]
    if entry is not None:  # the order of names is no longer a guess
        return found
    return sorted(found, key=lambda candidate: candidate.role)


def without_counters(
    state_dict: Mapping[str, Tensor], keep: Mapping[str, object] | None = None
) -> dict[str, Tensor]:
    """Return the tensors that are no counters of profilers, averages or training loops.

    Args:
        state_dict: tensors by their keys.
        keep: keys that a network has, which are never counters.
    """
    return {
        key: tensor
        for key, tensor in state_dict.items()
        if (keep and key in keep) or tensor.numel() > 1 or not is_counter(key)
    }


def parts(candidate: Candidate) -> Iterator[Candidate]:
    """Yield what lies below each prefix of a candidate's keys, whatever lies beside it."""
    where = _Place((candidate.entry,) if candidate.entry else (), candidate.state_dict)
    layer = [where]
    for _ in range(3):
        layer = [
            each
            for place in layer
            for each in place.parts().values()
            if len(each.tensors) >= _LEAST_TENSORS
        ]
        yield from (each.candidate(candidate.path) for each in layer)


def unnamed_averages(loaded: object) -> list[str]:
    """Return the entries whose averaged weights are lists, as torch_ema saves them.

    >>> unnamed_averages({"ema": {"decay": 0.9, "shadow_params": [torch.ones(1)]}})
    ['ema.shadow_params']
    """
    return [
        ".".join(names)
        for names, value in _walk(loaded)
        if isinstance(value, list | tuple)
        and any(isinstance(each, Tensor) for each in value)
        and role_of(names) is Role.AVERAGED
    ]


@dataclass(frozen=True)
class _Place:
    """Tensors, the names of what they lie in, and bare keys that they lay beside."""

    names: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    marks: tuple[str, ...] = ()

    @property
    def entry(self) -> str:
        return ".".join(self.names)

    def heads(self) -> list[str]:
        """First components of the keys that are no counters; "" for a bare tensor."""
        keys = without_counters(self.tensors)
        return list(dict.fromkeys(key.partition(".")[0] if "." in key else "" for key in keys))

    def parts(self) -> dict[str, "_Place"]:
        """The tensors below each head, by head; heads of counters alone are left out."""
        inside: dict[str, dict[str, Tensor]] = {head: {} for head in self.heads() if head}
        for key, tensor in self.tensors.items():
            head, dot, rest = key.partition(".")
            if dot and head in inside:
                inside[head][rest] = tensor
        marks = (*self.marks, *(key for key in self.tensors if "." not in key))
        return {head: _Place((*self.names, head), found, marks) for head, found in inside.items()}

    def candidate(self, path: Path) -> Candidate:
        bare = (key for key in self.tensors if "." not in key)
        return Candidate(path, self.entry, self.tensors, role_of(self.names, (*self.marks, *bare)))


def _state_dicts(loaded: object) -> Iterator[_Place]:
    """Yield every mapping that has tensors, from the outside in."""
    for names, value in _walk(loaded):
        entries = _entries(value)
        tensors = {name: each for name, each in entries.items() if isinstance(each, Tensor)}
        if tensors:
            yield _Place(names, _without_infixes(tensors))


def _walk(loaded: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every container and the names of what it lies in, from the outside in."""
    layer: list[tuple[tuple[str, ...], object]] = [((), loaded)]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        inner: list[tuple[tuple[str, ...], object]] = []
        for names, value in layer:
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield names, value
            inner += [
                ((*names, name), each)
                for name, each in _entries(value).items()
                if isinstance(each, Mapping | list | tuple) and not is_passed_over(name)
            ]
        layer = inner


def _entries(value: object) -> dict[str, object]:
    if isinstance(value, Mapping):
        return {key: each for key, each in value.items() if isinstance(key, str)}
    if isinstance(value, list | tuple):  # tensors in a list have no names
        return {str(i): each for i, each in enumerate(value) if isinstance(each, Mapping)}
    return {}


def _without_infixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in tensors.items():
        for infix in INFIXES:
            key = key.replace(infix, "")
        renamed[key] = tensor
    return renamed if len(renamed) == len(tensors) else tensors


def _levels(place: _Place, depth: int = _DEPTH) -> Iterator[_Place]:
    """Yield tensors as they are and below each prefix beside which all is explained."""
    yield place
    if not depth:
        return
    heads = [head for head in place.heads() if not _is_beside(head)]
    if not heads or "" in heads:  # a bare tensor is a network's own
        return
    parts_of = place.parts()
    below = [parts_of[head] for head in heads]
    if len({_core(each.tensors) for each in below}) == 1:
        for each in below:
            yield from _levels(each, depth - 1)


def _is_beside(head: str) -> bool:
    return is_passed_over(head) or role_of([head]) is Role.COMPANION


def _core(tensors: Mapping[str, Tensor]) -> frozenset[str]:
    """Keys without the prefixes that they have in common."""
    place = _Place((), tensors)
    while True:
        heads = [head for head in place.heads() if not _is_beside(head)]
        if len(heads) != 1 or not heads[0]:
            return frozenset(without_counters(place.tensors))
        place = replace(place.parts()[heads[0]], names=())


def _inside(place: _Place, entry: str) -> list[_Place]:
    """Return the parts of a state dict that lie in an entry, or below a prefix, of this name."""
    above, wanted = f".{place.entry}.", f".{entry}."
    if wanted in above:
        return [place]
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    above = above if place.entry else "."
    for key, tensor in place.tensors.items():
        before, matched, after = f"{above}{key}".partition(wanted)
        if matched:
            found[f"{before}{wanted}".strip(".")][after] = tensor
    return [_Place((name,), tensors) for name, tensors in found.items()]


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype:
        return False
    # torch compares no float8 values
    return torch.equal(*((a.view(torch.uint8), b.view(torch.uint8)) if is_float8(a) else (a, b)))


def _describe(loaded: object) -> str:
    if isinstance(loaded, Placeholder):
        name = short_name(loaded.name)
        return f": it is a Python object ({name}); save its state_dict() with torch.save"
    if not isinstance(loaded, Mapping):
        return f": it is a {type(loaded).__name__}"
    objects = [f"{key} ({v.name})" for key, v in loaded.items() if isinstance(v, Placeholder)]
    if objects:
        return (
            f"; Python objects in it are not read: {few_names(objects)}; save the state_dict() "
            "of the network with torch.save"
        )
    unnamed = [key for key, value in loaded.items() if _has_tensors(value)]
    if unnamed:
        return f" with names; {few_names(map(str, unnamed))} is a list, in the order of a network"
    return f"; its entries are {few_names(map(str, loaded))}" if loaded else ""


def _has_tensors(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(each, Tensor) for each in value)
