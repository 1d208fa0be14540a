"""What the sections are made of: cases that are measured one by one and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Record = dict[str, Any]
"""What was measured: `about` the case, `seconds` of each variant and turn, and more; JSON's."""

Size = tuple[int, int]
T = TypeVar("T")


class NotMeasuredError(Exception):
    """Why a case is not measured; the table says so in these words."""


@dataclass(frozen=True)
class Settings:
    """What decides how all cases are measured."""

    device: str = "cpu"
    threads: int = 2
    repeats: int = 5
    limit_s: float = 150
    quick: bool = False

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Number types that are measured."""
        return ("float32", "float16") if self.device == "cuda" else ("float32",)

    def pick(self, full: Sequence[T], quick: Sequence[T]) -> Sequence[T]:
        """What to go through: all, or the little that shows that everything runs."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Attributes:
        name: unique in its section and device.
        expected_s: roughly, on two cores; for the estimate of the time that is left.
        measure: makes the record, from those of the section's earlier cases, or raises
            `NotMeasuredError`.
    """

    name: str
    expected_s: float
    measure: Callable[[Mapping[str, Record]], Record]
