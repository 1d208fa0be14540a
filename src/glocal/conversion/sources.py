"""Sources of the statistics of converted modules: windows of the map, or crops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

from glocal.errors import ArgumentError
from glocal.scanning.analysis import Global
from glocal.scanning.modules import ancestors

__all__ = ["AUTO", "OperationKind", "Source", "Sources", "Statistics", "kind_of"]

Source: TypeAlias = Literal["windows", "crops"]
"""Windows of the feature map, or crops of the input."""

OperationKind: TypeAlias = Literal["pools", "norms", "attention"]
"""Kind of a global operation."""

Statistics: TypeAlias = Source | Literal["auto"] | Mapping[str, Source]
"""One source for all modules; or one by kind of operation or by pattern of module paths."""

AUTO: Mapping[str, Source] = {"norms": "crops", "attention": "crops", "pools": "windows"}
"""Sources of "auto"; docs/replication.md has the evidence."""

_CONTRACTIONS = ("matmul", "bmm", "einsum", "tensordot", "scaled_dot_product")
_MOMENTS = ("instance_norm", "group_norm", "layer_norm", "batch_norm", "var", "std")


def kind_of(operations: Sequence[Global]) -> OperationKind:
    """The kind of the global operations of one module.

    A statistic that is computed from another one of the same module makes a norm: the variance
    after the mean.
    """
    names = [operation.function for operation in operations]
    if any(part in name for name in names for part in _CONTRACTIONS):
        return "attention"
    indices = {operation.index for operation in operations}
    if any(part in name for name in names for part in _MOMENTS) or any(
        indices & set(operation.follows) for operation in operations
    ):
        return "norms"
    return "pools"


@dataclass(frozen=True)
class Sources:
    """The source of the statistics of each module.

    Attributes:
        by_pattern: pairs of a pattern of module paths and a source; the first match decides.
        by_kind: pairs of a kind of operation and a source, for modules that match no pattern.
        otherwise: the source of all others.
    """

    by_pattern: tuple[tuple[str, Source], ...] = ()
    by_kind: tuple[tuple[str, Source], ...] = ()
    otherwise: Source = "windows"

    @classmethod
    def of(cls, statistics: Statistics) -> "Sources":
        """Return the sources for the argument `statistics` of `localize`.

        >>> Sources.of({"norms": "crops", "encoder.*": "windows"}).by_pattern
        (('encoder.*', 'windows'),)

        Raises:
            ArgumentError: it is no source, "auto" or mapping of strings to sources.
        """
        if statistics == "auto":
            statistics = AUTO
        if isinstance(statistics, str):
            return cls(otherwise=_source(statistics))
        if not isinstance(statistics, Mapping):
            raise ArgumentError(
                'statistics must be "windows", "crops", "auto", or a mapping of kinds of operation '
                f"or patterns of module paths to these, got {statistics!r}"
            )
        pairs = [(str(key), _source(value)) for key, value in statistics.items()]
        kinds = get_args(OperationKind)
        return cls(
            tuple(pair for pair in pairs if pair[0] not in kinds),
            tuple(pair for pair in pairs if pair[0] in kinds),
        )

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of module paths."""
        return tuple(pattern for pattern, _ in self.by_pattern)

    @property
    def all(self) -> set[Source]:
        """The sources that occur."""
        return {source for _, source in (*self.by_pattern, *self.by_kind)} | {self.otherwise}

    def source(self, path: str, together: Sequence[Global]) -> Source:
        """The source of an operation.

        Args:
            path: of its module.
            together: it and the operations of the same owner, which say of what kind it is.
        """
        for pattern, source in self.by_pattern:
            if any(fnmatchcase(above, pattern) for above in ancestors(path)):
                return source
        return dict(self.by_kind).get(kind_of(together), self.otherwise)


def _source(value: object) -> Source:
    for source in get_args(Source):
        if value == source:
            known: Source = source
            return known
    raise ArgumentError(f'statistics must come from "windows" or "crops", got {value!r}')
