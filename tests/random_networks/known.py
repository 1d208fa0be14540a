"""Spellings that are not converted rightly yet.

A test fails when one of them has become right: take it out then.
"""

_REASONS: dict[str, tuple[str, ...]] = {
    "its window is one of the padded map (docs/conversion.md); the slow form pads each window": (
        "mean padded to a multiple",
    ),
}

KNOWN_WRONG: dict[str, str] = {name: reason for reason, names in _REASONS.items() for name in names}
"""Spelling → what happens. Networks with one of these are left out of `make test`."""
