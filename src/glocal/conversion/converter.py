"""Make the global operations of a network local, by rules or by rewriting blocks.

Longer than 300 lines: one class holds the state of a conversion.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves

from glocal.conversion.blocks import Blocks, Form
from glocal.conversion.rewrite import (
    Program,
    Rewritten,
    TooSmallError,
)
from glocal.conversion.rewrite.guards import depends_on_mode
from glocal.conversion.rules import Rule
from glocal.conversion.rules.rule import Local
from glocal.conversion.sources import Source, Sources
from glocal.conversion.verify import (
    disagreement,
)
from glocal.errors import ArgumentError, ConversionError
from glocal.ops.windows import LEAST, Overlap, Size, scale_window
from glocal.scanning.analysis import Global
from glocal.scanning.discover import Scan
from glocal.scanning.modules import ancestors, clone, replace, take_over
from glocal.scanning.plan import Row, Status
from glocal.scanning.references import References
from glocal.scanning.trace import Spec
from glocal.texts import size_text

__all__ = ["Conversion"]


@dataclass
class Conversion:
    """A copy of a network during its conversion.

    Attributes:
        model: the original, which is not changed.
        scan: its global operations.
        train_size, window: (height, width) in input pixels.
        rules: tried in order, before rewriting.
        overlap: of the windows of rewritten operations that mix pixels.
        sources: where the statistics of each module come from.
        refused: by index of an operation, why it stays global whatever its form.
        no_crops: by index of an operation, why its statistics cannot come from crops.
        root: the copy.
    """

    model: nn.Module
    scan: Scan
    train_size: Size
    window: Size
    rules: Sequence[Rule]
    overlap: Overlap = LEAST
    sources: Sources = field(default_factory=Sources)
    refused: Mapping[int, str] = field(default_factory=dict)
    no_crops: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = clone(self.model)
        self._keep: tuple[str, ...] = ()
        self._references = References(self.root)
        self._modules = dict(self.root.named_modules())
        self._replaced: set[str] = set()
        self._on_crops: set[str] = set()
        self._verdicts: dict[Any, str | None] = {}  # of rules

    @cached_property
    def _blocks(self) -> Blocks:
        """The blocks of the original, without any local module inside."""
        originals = dict(clone(self.model).named_modules())
        return Blocks(self.scan, originals, self.train_size, self.overlap)

    @cached_property
    def _by_path(self) -> dict[str, list[Global]]:
        found: dict[str, list[Global]] = {}
        for operation in self.scan.operations:
            for path in ancestors(operation.path):
                found.setdefault(path, []).append(operation)
        return found

    def run(self, keep: tuple[str, ...]) -> tuple[Row, ...]:
        """Convert all global operations except those in modules that match `keep`.

        Returns:
            the rows of the plan.

        Raises:
            ArgumentError: a pattern matches no module with a global operation.
        """
        self._keep = keep
        self._check_patterns()
        rows: dict[int, Row] = {}
        for operation in self.scan.operations:
            if self._is_kept(operation):
                rows[operation.index] = self._row(operation, "kept", "named in keep_global")
            elif operation.index in self.refused:
                why = self.refused[operation.index]
                rows[operation.index] = self._row(operation, "global", why)
            elif operation.index not in rows and not self._is_replaced(operation):
                rows.update(self._convert(operation))
        return tuple(rows[index] for index in sorted(rows))

    @property
    def blocks(self) -> dict[str, list[Global]]:
        """Return the converted modules by path, with the global operations of each."""
        outermost = [p for p in self._replaced if not self._replaced & {*ancestors(p)[1:]}]
        return {path: self._inside(path) for path in sorted(outermost)}

    @property
    def on_crops(self) -> list[str]:
        """Paths of the converted modules whose statistics come from crops."""
        return sorted(self._on_crops & self.blocks.keys())

    @property
    def without_windows(self) -> set[str]:
        """Paths of the modules that have statistics from crops only."""
        modules = dict(self.root.named_modules())
        return {path for path in self.on_crops if isinstance(modules[path], Rewritten)}

    def without(self, paths: Iterable[str], why: str) -> "Conversion":
        """The conversion before its run, with the modules at some paths left as they are."""
        refused = {o.index: why for path in paths for o in self._inside(path)}
        return self._again(refused={**self.refused, **refused})

    def without_crops(self, reasons: Mapping[str, str]) -> "Conversion":
        """The conversion before its run, with the modules at some paths on windows."""
        no_crops = {o.index: why for path, why in reasons.items() for o in self._inside(path)}
        return self._again(no_crops={**self.no_crops, **no_crops})

    def _again(self, **changes: Any) -> "Conversion":
        again = with_changes(self, **changes)
        again._verdicts, again._blocks = self._verdicts, self._blocks
        return again

    def _check_patterns(self) -> None:
        paths = sorted({operation.path for operation in self.scan.operations})
        above = {path for each in paths for path in ancestors(each)}
        given = {"keep_global": self._keep, "statistics": self.sources.patterns}
        for argument, patterns in given.items():
            unused = [p for p in patterns if not any(fnmatchcase(path, p) for path in above)]
            if unused:
                raise ArgumentError(
                    f"{argument}: no global operation in {', '.join(map(repr, unused))}; global "
                    f"operations are in {', '.join(map(repr, paths[:8]))}"
                    f"{', ...' if len(paths) > 8 else ''}"
                )

    def _is_kept(self, operation: Global) -> bool:
        above = ancestors(operation.path)
        return any(fnmatchcase(path, pattern) for path in above for pattern in self._keep)

    def _is_replaced(self, operation: Global) -> bool:
        return any(path in self._replaced for path in ancestors(operation.path))

    def _convert(self, operation: Global) -> dict[int, Row]:
        """Convert an operation; returns rows by the index of the operation."""
        if operation.refusal:  # it has no local form on windows
            with suppress(ConversionError):
                if "crops" in self.sources.all and operation.index not in self.no_crops:
                    return self._rewrite_from(operation, "crops")
            return {operation.index: self._row(operation, "global", operation.refusal)}
        problems: list[str] = []
        try:
            row = self._apply_rules(operation, problems)
            if row is not None:
                return {operation.index: row}
            return self._rewrite(operation)
        except ConversionError as error:
            # No block that contains the operation was large enough: a rule's reason says more.
            why = problems[0] if problems and isinstance(error, TooSmallError) else str(error)
            return {operation.index: self._row(operation, "global", why)}

    def _wanted(self, inside: Sequence[Global]) -> Source:
        """Return the source for a module: crops if all of its operations use crops."""
        for operation in inside:
            together = [o for o in self.scan.operations if o.owner == operation.owner]
            if self.sources.source(operation.path, together) == "windows":
                return "windows"
        return "crops"

    def _inside(self, path: str) -> list[Global]:
        """Return the global operations in a module."""
        return self._by_path.get(path, [])

    def _put(self, path: str, new: nn.Module, source: Source) -> None:
        """Replace the module at a path by one whose statistics come from a source."""
        old = self._modules[path]
        self.root = replace(self.root, old, take_over(new, old), self._references)
        self._replaced.add(path)
        if source == "crops":
            self._on_crops.add(path)

    # ---- rules

    def _apply_rules(self, operation: Global, problems: list[str]) -> Row | None:
        """Replace a module around an operation by the first rule that can, if any.

        Args:
            operation: the operation.
            problems: gets the reasons why rules that match a module cannot convert it.
        """
        for rule in self.rules:
            for path in ancestors(operation.path):
                module = self._modules[path]
                if not rule.matches(module):
                    continue
                inside = self._inside(path)
                problem = self._problem(rule, path, inside)
                if problem:
                    problems.append(f"{rule.name}: {problem}")
                    continue
                feature = operation.feature
                assert feature is not None
                source = self._wanted(inside)
                window = self._window_on(feature, source)
                new = rule.build(module, window)
                how = rule.name
                if source == "crops" and not any(isinstance(m, Local) for m in new.modules()):
                    source, how = "windows", f"{how}; not from crops: the rule makes no `Local`"
                self._put(path, new, source)
                names = dict.fromkeys(o.function for o in inside)
                return Row(
                    path, ", ".join(names), inside[0].line, self._at_train_size(feature), window,
                    "local", how, source,
                )  # fmt: skip
        return None

    def _problem(self, rule: Rule, path: str, inside: list[Global]) -> str | None:
        """Return why a rule cannot convert the module at a path; None if it can."""
        features = list(dict.fromkeys(o.feature for o in inside))
        if len(features) > 1:
            sizes = ", ".join(f"{f[0]}x{f[1]}" if f else "unknown" for f in features)
            return f"'{path}' reduces maps of different sizes ({sizes})"
        if self._is_followed(path, inside):
            return f"another statistic depends on that of '{path}' in the same module"
        (feature,) = features
        if feature is None:
            return "the height and width of its map are unknown"
        for operation in inside:
            if rule.yields_map and operation.obstacle:
                return operation.obstacle
            if not rule.yields_map and path not in ancestors(operation.owner):
                return f"its statistic is used outside '{path}'"
        below = [p for p in sorted(self._replaced) if path in ancestors(p)]
        if below:
            return f"'{below[0]}' inside it is already local"
        if any(self._is_kept(o) for o in inside):
            return f"'{path}' contains an operation named in keep_global"
        if any(o.index in self.refused for o in inside):
            return f"'{path}' contains an operation that must stay global"
        if (other := self._runs_otherwise(path, inside)) is not None:
            return other
        if (size := self.scan.other_path(path)) is not None:
            return f"'{path}' runs other operations at {size_text(size)}"
        inputs = [t.inputs[path][0] for t in self.scan.traces]
        if any(len(t.shape) > 4 for t in tree_leaves(inputs[0]) if isinstance(t, Spec)):
            return f"'{path}' takes a tensor of more dims than (b, c, h, w)"
        module = self._modules[path]
        for inputs in self._blocks.runs(path):
            key = (rule, *self._blocks.key(path, inputs))
            if key not in self._verdicts:
                self._verdicts[key] = disagreement(rule.build, module, inputs, feature)
            if problem := self._verdicts[key]:
                return problem
        return None

    def _runs_otherwise(self, path: str, inside: list[Global]) -> str | None:
        """Return why replacing the module at a path would miss an operation; None if not."""
        outside = next((o for o in inside if path not in o.within), None)
        if outside is not None:
            return f"the network also calls '{outside.path}' without '{path}' around it"
        hooked = [p for p in self.scan.traces[0].hooked if p != path and path in ancestors(p)]
        if hooked:
            return f"a forward hook of '{hooked[0]}' changes values, which no local form contains"
        return None

    def _is_followed(self, path: str, inside: list[Global]) -> bool:
        """True if a statistic in a module is computed from another within a larger owner.

        Local pools one after the other would each have their own window. Within one module the
        law of windows holds for all of it, so the module is rewritten.
        """
        for later in self.scan.operations:
            for earlier in (o for o in self.scan.operations if o.index in later.follows):
                if earlier.owner not in ancestors(later.path) or path in ancestors(earlier.owner):
                    continue
                once = len(self.scan.traces[0].inputs[path]) == 1
                if (earlier in inside) != (later in inside) or (earlier in inside and not once):
                    return True
        return False

    # ---- rewriting

    def _rewrite(self, operation: Global) -> dict[int, Row]:
        """Rewrite the smallest block with an operation and all uses of its statistic.

        Returns:
            the rows of all operations in the block.

        Raises:
            ConversionError: the block cannot be rewritten.
            TooSmallError: neither it nor a module around it is large enough.
        """
        why = self.no_crops.get(operation.index, "")
        if "crops" in self.sources.all and not why:
            try:
                return self._rewrite_from(operation, "crops")
            except ConversionError as error:
                why = str(error)
        return self._rewrite_from(operation, "windows", why)

    def _rewrite_from(
        self, operation: Global, source: Source, no_crops: str = ""
    ) -> dict[int, Row]:
        """Rewrite a block around an operation, with statistics from one source.

        Args:
            operation: the operation.
            source: "crops" leaves out blocks that are to take windows.
            no_crops: why statistics cannot come from crops.
        """
        problem: TooSmallError | None = None
        for path in ancestors(operation.owner):
            wanted = self._wanted(self._inside(path))
            if source == "crops" != wanted:
                problem = problem or TooSmallError("it is to take windows")
                continue
            try:
                new, inside = self._rewritten(path, source)
            except TooSmallError as error:
                problem = error
                continue
            self._put(path, new, source)
            how = f"rewrite of {path or 'the network'}"
            if source != wanted:
                how += f"; not from crops: {no_crops}"
            return {o.index: self._row(o, "local", how, source, wanted) for o in inside}
        assert problem is not None
        raise problem

    def _rewritten(self, path: str, source: Source) -> tuple[nn.Module, list[Global]]:
        """Return the local form of the module at a path, and the global operations in it."""
        inside = self._inside(path)
        if any(self._is_kept(o) for o in inside):
            raise ConversionError(f"'{path}' contains an operation named in keep_global")
        if any(o.index in self.refused for o in inside):
            raise ConversionError(f"'{path}' contains an operation that must stay global")
        module = self._blocks.modules[path]
        if path not in self.scan.traces[0].inputs:  # a ModuleList, say
            raise TooSmallError(f"'{path}' is never called itself")
        if (other := self._runs_otherwise(path, inside)) is not None:
            raise TooSmallError(other)
        size = self.scan.other_path(path)
        if size and source == "crops":
            raise ConversionError(f"its code runs other operations at {size_text(size)}")
        form = Form(source, self.train_size if self._wanted(inside) == "crops" else self.window)
        programs: list[Program] = []
        for inputs in self._blocks.runs(path):
            program = self._blocks.program(path, inputs, inside, form)
            leaves, structure = tree_flatten(inputs[0])
            if any(known.accepts(structure, list(map(_stand_in, leaves))) for known in programs):
                raise TooSmallError(f"'{path}' is called with maps of different sizes")
            programs.append(program)
        if size and not all(p.guards or p.follows_padding for p in programs):
            raise ConversionError(f"its code runs other operations at {size_text(size)}")
        window = scale_window(inside[0].feature or self.scan.size, form.window, self.scan.size)
        new = Rewritten.of(
            module, window, program=programs[0], others=tuple(programs[1:]),
            original=type(module), path=path, is_guarded=size is not None,
            mode=module.training if depends_on_mode(module) else None,
        )  # fmt: skip
        return new, inside

    # ---- rows

    def _window_on(self, feature: Size, source: Source = "windows") -> Size:
        """Return the window on a map, from the size of the map in the scan's first run.

        Statistics from crops are those of a window that is the crop.
        """
        window = self.train_size if source == "crops" else self.window
        return scale_window(feature, window, self.scan.size)

    def _at_train_size(self, feature: Size) -> Size:
        """Return the size of a map at the training size, from that in the first run."""
        return scale_window(feature, self.train_size, self.scan.size)

    def _row(
        self,
        operation: Global,
        status: Status,
        how: str,
        source: Source = "windows",
        wanted: Source = "windows",
    ) -> Row:
        feature = operation.feature
        window = None
        if feature and status == "local":
            grid = operation.kind in ("grid", "fourier")
            window = self._at_train_size(feature) if grid else self._window_on(feature, wanted)
            rows, columns = (
                n if a in operation.axes else 1 for a, n in zip("HW", window, strict=True)
            )
            window = (rows, columns)
        return Row(
            operation.path,
            operation.function,
            operation.line,
            feature and self._at_train_size(feature),
            window,
            status,
            how,
            source,
        )


def _stand_in(leaf: Any) -> Any:
    """Return a tensor of no memory for a `Spec`."""
    return torch.empty(leaf.shape, device="meta") if isinstance(leaf, Spec) else leaf
