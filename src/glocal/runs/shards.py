"""Divide the files of a run among processes that know nothing of each other.

A file belongs to a shard by a digest of its name alone, so that it stays there when others are
added or removed. Shards are about equal; only a list that all processes share could divide evenly.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePath

from glocal.errors import ArgumentError

__all__ = ["Shard"]


@dataclass(frozen=True)
class Shard:
    """One of several parts.

    Attributes:
        number: from 1.
        count: of all parts.
    """

    number: int
    count: int

    @classmethod
    def named(cls, text: str) -> "Shard":
        """Return the shard of a text such as "2/8".

        >>> Shard.named("2/8")
        Shard(number=2, count=8)

        Raises:
            ArgumentError: it is no shard.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ArgumentError(
                f"{text!r} is not a shard; give I/N with I from 1 to N, such as 2/8"
            )
        return cls(int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """For the names of files."""
        return f"shard-{self.number}-of-{self.count}"

    def has(self, name: str | PurePath) -> bool:
        """True if a file belongs to this shard.

        Args:
            name: path of the file in its folder; its suffix does not count.
        """
        stem = PurePath(name).with_suffix("").as_posix()
        digest = sha256(stem.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
