"""Cases: the rows of a section, measured and stored one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Record = dict[str, Any]
"""One measured case as JSON data: `about`, `seconds` by variant and repeat, and more."""

Size = tuple[int, int]
T = TypeVar("T")


class NotMeasuredError(Exception):
    """A case cannot be measured; the table quotes the message."""


@dataclass(frozen=True)
class Settings:
    """Settings that apply to all cases."""

    device: str = "cpu"
    threads: int = 2
    repeats: int = 5
    limit_s: float = 150
    quick: bool = False

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Dtypes to measure."""
        return ("float32", "float16") if self.device == "cuda" else ("float32",)

    def pick(self, full: Sequence[T], quick: Sequence[T]) -> Sequence[T]:
        """The full list, or the short one in quick mode."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        name: unique in its section and device.
        expected_s: rough seconds on two cores, for the estimate of the remaining time.
        measure: returns the record, given the records of the section's earlier cases; may raise
            `NotMeasuredError`.
    """

    name: str
    expected_s: float
    measure: Callable[[Mapping[str, Record]], Record]
