"""How a state dict differs from a network, as text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from glocal.texts import few_names

__all__ = ["KEYS", "Misfit", "closest_text", "differences", "differences_text", "has_values"]

KEYS = 10
"""Number of keys that an error names."""


@dataclass(frozen=True)
class Misfit:
    """How a state dict differs from a network.

    Attributes:
        entry: of the state dict in its file.
        name: of the network.
        share: common keys ÷ all keys of both sides.
        differences: keys by kind of difference, see `differences`.
    """

    entry: str
    name: str
    share: float
    differences: dict[str, list[str]]

    @classmethod
    def of(
        cls, entry: str, name: str, network: nn.Module, state_dict: Mapping[str, Tensor]
    ) -> "Misfit":
        """Compare `network` with `state_dict`."""
        own = network.state_dict().keys()
        share = len(own & state_dict.keys()) / len(own | state_dict.keys())
        return cls(entry, name, share, differences(network, state_dict))

    def __str__(self) -> str:
        where = f" in {self.entry}" if self.entry else ""
        return (
            f"the weights{where} do not fit {self.name}, with {self.percent} of the keys in "
            f"common;\n{differences_text(self.differences)}"
        )

    @property
    def percent(self) -> str:
        """The share as text; never 100%, because something differs."""
        return f"{min(math.floor(100 * self.share), 99)}%"


def differences(network: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return the keys that are missing or unexpected, or else whose tensors differ in kind.

    A key may be missing if its tensor is shared with a present one: safetensors files store only
    one name of a shared tensor. Integers do not fit real weights: they may be quantised.

    >>> differences(nn.Linear(1, 1), {"weight": Tensor(1, 1), "scale": Tensor(1)})
    {'missing': ['bias'], 'unexpected': ['scale']}
    """
    state = network.state_dict(keep_vars=True)
    own = {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
    present = {id(tensor) for key, tensor in own.items() if key in state_dict}
    found = {
        "missing": [k for k, t in own.items() if k not in state_dict and id(t) not in present],
        "unexpected": [key for key in state_dict if key not in own],
    }
    if not any(found.values()):  # one wrong key can falsify the inferred sizes: report keys only
        common = own.keys() & state_dict.keys()
        pairs = {key: (own[key], state_dict[key]) for key in own if key in common}
        found = {
            "different shape": [k for k, (a, b) in pairs.items() if a.shape != b.shape],
            "different type": [k for k, (a, b) in pairs.items() if not has_values(a, b)],
        }
    return {kind: keys for kind, keys in found.items() if keys}


def has_values(own: Tensor, stored: Tensor) -> bool:
    """True if the values of a stored tensor are what a network's own tensor holds."""
    if own.is_complex() or stored.is_complex():
        return own.is_complex() == stored.is_complex()
    return stored.is_floating_point() or not own.is_floating_point()


def differences_text(found: Mapping[str, Sequence[str]]) -> str:
    """Return the differences as text, with ten keys at most.

    >>> differences_text({"missing": list("abcdefgh"), "unexpected": list("xyz")})
    'missing: a, b, c, d, e, f, g and 1 more; unexpected: x, y, z'
    """
    shown = dict.fromkeys(found, 0)
    for _ in range(min(KEYS, sum(map(len, found.values())))):
        kind = min(
            (kind for kind in found if shown[kind] < len(found[kind])), key=shown.__getitem__
        )
        shown[kind] += 1
    return "; ".join(f"{kind}: {few_names(keys, shown[kind])}" for kind, keys in found.items())


def closest_text(closest: Sequence[Misfit]) -> str:
    """Return the closest networks and what differs from the first, as text in two lines."""
    first, *others = closest
    listed = " and ".join(f"{each.name} ({each.percent})" for each in others)
    return (
        f"the closest is {first.name}, with {first.percent} of the keys in common"
        f"{f', then {listed}' if listed else ''};\n{differences_text(first.differences)}"
    )
