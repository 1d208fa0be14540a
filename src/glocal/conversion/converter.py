"""Make the operations of a scan local, one by one: by a rule, or by rewriting the block around."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from torch import nn

from glocal.conversion.rewrite import Program, Rewritten, TooSmallError, capture, rewrite
from glocal.conversion.rules import Rule
from glocal.conversion.verify import breaks_law_of_windows, disagreement
from glocal.errors import ArgumentError, ConversionError
from glocal.ops.windows import LEAST, Overlap, Size, scale_window
from glocal.scanning.analysis import Global
from glocal.scanning.discover import Scan
from glocal.scanning.modules import ancestors, clone, fingerprint, replace, take_over
from glocal.scanning.plan import Row, Status

__all__ = ["Conversion"]


@dataclass
class Conversion:
    """A copy of a network, while its global operations are made local one by one.

    Attributes:
        model: the original, which stays as it is.
        found: what is global in it.
        train, window: (height, width) in input pixels.
        rules: tried in order, before rewriting.
        overlap: of the windows of rewritten operations that mix pixels.
    """

    model: nn.Module
    found: Scan
    train: Size
    window: Size
    rules: Sequence[Rule]
    overlap: Overlap = LEAST

    def __post_init__(self) -> None:
        self.root = clone(self.model)
        self.modules = dict(self.root.named_modules())
        self.replaced: set[str] = set()
        self.verdicts: dict[Any, str | None] = {}
        self.captured: dict[Any, Program | ConversionError] = {}

    @cached_property
    def pristine(self) -> dict[str, nn.Module]:
        """Blocks to rewrite, as they came even where a layer inside them is local by now."""
        return dict(clone(self.model).named_modules())

    def run(self, keep: tuple[str, ...]) -> tuple[Row, ...]:
        """Convert everything but what lies at paths that match the patterns `keep`."""
        rows: dict[int, Row] = {}
        used: set[str] = set()
        for operation in self.found.operations:
            above = ancestors(operation.path)
            kept = [p for p in keep if any(fnmatchcase(path, p) for path in above)]
            used.update(kept)
            if kept:
                rows[operation.index] = self._row(operation, "kept", "named in keep_global")
                continue
            if operation.index in rows or any(path in self.replaced for path in above):
                continue
            reasons: list[str] = []
            row = self._convert(operation, above, keep, reasons)
            if row is not None:
                rows[operation.index] = row
                continue
            try:
                self._rewrite(operation, keep, rows)
            except ConversionError as error:
                # A block that is too small up to the network itself says less than a rule does.
                told = reasons and isinstance(error, TooSmallError)
                how = reasons[0] if told else str(error)
                rows[operation.index] = self._row(operation, "global", how)
        missing = [p for p in keep if p not in used]
        if missing:
            paths = sorted({operation.path for operation in self.found.operations})
            raise ArgumentError(
                f"keep_global: no global operation lies at {', '.join(map(repr, missing))}; "
                f"they lie at {', '.join(map(repr, paths[:8]))}{', ...' if len(paths) > 8 else ''}"
            )
        return tuple(rows[index] for index in sorted(rows))

    def _convert(
        self, operation: Global, above: list[str], keep: tuple[str, ...], reasons: list[str]
    ) -> Row | None:
        for rule in self.rules:
            for path in above:
                module = self.modules[path]
                if not rule.matches(module):
                    continue
                inside = self._inside(path)
                problem = self._problem(rule, path, inside, keep)
                if problem:
                    reasons.append(problem)
                    continue
                feature = operation.feature
                assert feature is not None
                window = self._window_of(feature)
                self._put(path, rule.build(module, window))
                names = dict.fromkeys(o.function for o in inside)
                row = Row(
                    path, ", ".join(names), inside[0].line, self._at_train_size(feature), window,
                    "local", rule.name,
                )  # fmt: skip
                self.replaced.add(path)
                return row
        return None

    def _inside(self, path: str) -> list[Global]:
        return [o for o in self.found.operations if path in ancestors(o.path)]

    def _put(self, path: str, new: nn.Module) -> None:
        old = self.modules[path]
        self.root = replace(self.root, old, take_over(new, old))

    def _rewrite(self, operation: Global, keep: tuple[str, ...], rows: dict[int, Row]) -> None:
        """Rewrite the smallest module that holds an operation and what uses its statistic.

        Raises:
            ConversionError: it cannot be rewritten, and nor can the modules around it.
        """
        problem: ConversionError | None = None
        for path in ancestors(operation.owner):
            try:
                new, inside = self._rewritten(path, keep)
            except TooSmallError as error:
                problem = error
                continue
            self._put(path, new)
            for other in inside:
                rows[other.index] = self._row(other, "local", f"rewrite of {path or 'the network'}")
            self.replaced.add(path)
            return
        assert problem is not None
        raise problem

    def _rewritten(self, path: str, keep: tuple[str, ...]) -> tuple[nn.Module, list[Global]]:
        inside = self._inside(path)
        if any(
            fnmatchcase(p, pattern) for o in inside for p in ancestors(o.path) for pattern in keep
        ):
            raise ConversionError(f"a part of '{path}' is to stay global")
        module = self.pristine[path]
        if path not in self.found.traces[0].inputs:  # a list of modules is never called itself
            raise TooSmallError("it is not called")
        calls = [trace.inputs[path] for trace in self.found.traces]
        if len({str(call) for call in calls[0]}) > 1:
            raise TooSmallError("it runs over maps of several sizes")
        inputs = [call[0] for call in calls]
        key = (fingerprint(module), str(inputs))
        if key not in self.captured:
            try:
                self.captured[key] = self._checked(module, inputs, inside)
            except ConversionError as error:
                self.captured[key] = error
        program = self.captured[key]
        if isinstance(program, ConversionError):
            raise program
        feature = inside[0].feature or self.found.size
        return Rewritten.of(module, self._window_of(feature), program=program), inside

    def _checked(self, module: nn.Module, inputs: Any, inside: list[Global]) -> Program:
        """The local form of a block, which was compared with the block.

        Raises:
            ConversionError: it has none, or does not agree.
        """
        block = capture(module, inputs)
        if len(block.globals) == 0:
            raise TooSmallError("its global operation does not show in it alone")

        def build(alone: nn.Module, window: Size) -> nn.Module:
            program = rewrite(block, lambda _: window, lambda _: window, self.overlap)
            return Rewritten.of(alone, window, program=program)

        program = rewrite(block, self._window_of, self._at_train_size, self.overlap)
        feature = next((o.feature for o in inside if o.feature), self.found.size)
        problem = disagreement(build, module, inputs, feature, sizes=2)
        if program.follows_law_of_windows:
            problem = problem or breaks_law_of_windows(build, module, inputs, feature)
        if problem:
            raise ConversionError(problem)
        return program

    def _window_of(self, feature: Size) -> Size:
        """The window on a map, from its size in the first run of the scan."""
        return scale_window(feature, self.window, self.found.size)

    def _at_train_size(self, feature: Size) -> Size:
        """Size of a map at the training size, from its size in the first run of the scan."""
        return scale_window(feature, self.train, self.found.size)

    def _problem(
        self, rule: Rule, path: str, inside: list[Global], keep: tuple[str, ...]
    ) -> str | None:
        """Why a rule cannot be used for the module at `path`, with its global operations."""
        features = list(dict.fromkeys(o.feature for o in inside))
        if len(features) > 1:
            sizes = ", ".join(f"{f[0]}x{f[1]}" if f else "?" for f in features)
            return f"{rule.name}: it runs over maps of several sizes ({sizes})"
        feature = features[0]
        if feature is None:
            return f"{rule.name}: the size of its map cannot be told"
        for operation in inside:
            if rule.yields_map and operation.obstacle:
                return f"{rule.name}: {operation.obstacle}"
            if not rule.yields_map and path not in ancestors(operation.owner):
                return f"{rule.name}: its statistic leaves the module '{path}'"
        below = [p for p in sorted(self.replaced) if path in ancestors(p)]
        if below:
            return f"{rule.name}: '{below[0]}' inside it is local already"
        if any(fnmatchcase(o.path, p) for o in inside for p in keep):
            return f"{rule.name}: a part of '{path}' is to stay global"
        inputs = [t.inputs[path][0] for t in self.found.traces]
        module = self.modules[path]
        shapes = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
        key = (rule, type(module), repr(module), shapes, str(inputs))
        if key not in self.verdicts:
            self.verdicts[key] = disagreement(rule.build, module, inputs, feature)
        verdict = self.verdicts[key]
        return f"{rule.name}: {verdict}" if verdict else None

    def _row(self, operation: Global, status: Status, how: str) -> Row:
        feature = operation.feature
        window = None
        if feature and status == "local":
            grid = operation.kind == "grid"
            window = self._at_train_size(feature) if grid else self._window_of(feature)
        return Row(
            operation.path,
            operation.function,
            operation.line,
            feature and self._at_train_size(feature),
            window,
            status,
            how,
        )
