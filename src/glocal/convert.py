"""Make a network local: find its global operations and put their local forms in their place."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from glocal.discover import Global, Scan, scan_trace
from glocal.errors import ArgumentError, ConversionError, ScanError
from glocal.modules import ancestors, clone, fingerprint, replace, take_over
from glocal.plan import Plan, Row, Status
from glocal.rewrite import Block, Rewritten, TooSmallError, capture, rewrite
from glocal.rules import DEFAULT_RULES, Rule
from glocal.verify import breaks_law_of_windows, disagreement
from glocal.windows import Size, as_size, scale_window

__all__ = ["localize", "plan_of", "scan"]

Example = Tensor | Sequence[Any] | Callable[[int, int], Any]

_PLAN = "glocal_plan"


def localize(
    model: nn.Module,
    train_size: int | Size,
    *,
    window_scale: float = 1.5,
    window: int | Size | None = None,
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
    allow_global: bool = False,
) -> nn.Module:
    """A copy of a network whose global operations run over local windows (TLC).

    The copy shares all parameters with `model`, which stays as it is, has the same state-dict
    keys, and serves images of every size. Its `Plan` is `plan_of(copy)`.

    >>> class Gate(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
    ...     def forward(self, x):
    ...         return x * self.gate(x)
    >>> local = localize(Gate(), train_size=64)
    >>> local.gate[0]
    LocalAvgPool2d(output_size=1, window=(96, 96))

    Args:
        model: any network that maps an image to an image.
        train_size: side or (height, width) of the crops it was trained on, in pixels.
        window_scale: window ÷ training size; 1.5 is the paper's.
        window: side or (height, width) of the window in input pixels, instead of `window_scale`.
        keep_global: module paths, or patterns such as "encoder.*", that are to stay global.
        rules: the forms to convert, first match wins.
        example: what to call the model with, if not one image tensor: a tensor, a sequence of
            arguments, or a function of (height, width) that makes them. Only shapes and types
            count; the last two dims of tensors are adapted to the sizes that are tried.
        allow_global: leave what cannot be converted global instead of raising; the plan lists it.

    Returns:
        The converted copy, in the mode (training or not) of `model`.

    Raises:
        ArgumentError: a size, window or pattern is wrong, or the model is converted already.
        ScanError: the model does not run at the training size.
        ConversionError: an operation cannot be converted and `allow_global` is not set.

    Source: Chu et al., Improving Image Restoration by Revisiting Global Information
    Aggregation, ECCV 2022 (arXiv 2112.04491).
    """
    train = as_size(train_size, "train_size")
    if window is None:
        if not window_scale > 0:
            raise ArgumentError(f"window_scale must be above 0, got {window_scale!r}")
        pixels = (max(1, int(train[0] * window_scale)), max(1, int(train[1] * window_scale)))
    else:
        pixels = as_size(window, "window")
    if hasattr(model, _PLAN):
        raise ArgumentError("the model is converted already: convert the original instead")
    patterns = (keep_global,) if isinstance(keep_global, str) else tuple(keep_global)

    found = _scan(model, train, example)
    local = clone(model)
    conversion = _Conversion(local, found, train, pixels, rules)
    rows = conversion.run(patterns)
    plan = Plan(train, pixels, rows)
    left = plan.having("global")
    if left and not allow_global:
        shown = "; ".join(
            f"{row.operation} in '{row.path}' ({row.line}): {row.how}" for row in left[:3]
        )
        more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
        raise ConversionError(
            f"{len(left)} of {len(rows)} global operations cannot be made local: {shown}{more}\n"
            "Pass allow_global=True to leave them global, or name them in keep_global."
        )
    root = conversion.root
    setattr(root, _PLAN, plan)
    return root


def scan(
    model: nn.Module,
    train_size: int | Size,
    *,
    window_scale: float = 1.5,
    window: int | Size | None = None,
    keep_global: str | Iterable[str] = (),
    rules: Sequence[Rule] = DEFAULT_RULES,
    example: Example | None = None,
) -> Plan:
    """What is global in a network and what `localize` would make of it; arguments as there.

    >>> print(scan(nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8)), 64).summary())
    1 local, 0 left global
    """
    converted = localize(
        model,
        train_size,
        window_scale=window_scale,
        window=window,
        keep_global=keep_global,
        rules=rules,
        example=example,
        allow_global=True,
    )
    return plan_of(converted)


def plan_of(converted: nn.Module) -> Plan:
    """The plan that a converted network carries.

    Raises:
        ArgumentError: the network comes from no conversion.
    """
    plan = getattr(converted, _PLAN, None)
    if not isinstance(plan, Plan):
        raise ArgumentError("the network was not made by localize: it carries no plan")
    return plan


@dataclass
class _Conversion:
    root: nn.Module
    found: Scan
    train: Size
    window: Size
    rules: Sequence[Rule]

    def __post_init__(self) -> None:
        self.modules = dict(self.root.named_modules())
        # Blocks are captured as they came, even where a layer inside them is local by now.
        self.pristine = dict(clone(self.root).named_modules())
        self.replaced: dict[str, Row] = {}
        self.verdicts: dict[Any, str | None] = {}
        self.captured: dict[Any, Block | ConversionError] = {}

    def run(self, keep: tuple[str, ...]) -> tuple[Row, ...]:
        rows: dict[int, Row] = {}
        used: set[str] = set()
        for operation in self.found.operations:
            above = ancestors(operation.path)
            kept = [p for p in keep if any(fnmatchcase(path, p) for path in above)]
            used.update(kept)
            if kept:
                rows[operation.index] = self._row(operation, "kept", "as asked")
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
                self.replaced[path] = row
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
            except ConversionError as error:
                raise error from None
            self._put(path, new)
            for other in inside:
                row = self._row(other, "local", f"rewrite of {path or 'the network'}")
                rows[other.index] = row
                self.replaced[path] = row
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
        block = self.captured[key]
        if isinstance(block, ConversionError):
            raise block
        program = rewrite(block, self._window_of, self._at_train_size)
        feature = inside[0].feature or self.found.size
        return Rewritten.of(module, self._window_of(feature), program=program), inside

    def _checked(self, module: nn.Module, inputs: Any, inside: list[Global]) -> Block:
        block = capture(module, inputs)
        if len(block.globals) == 0:
            raise TooSmallError("its global operation does not show in it alone")

        def build(alone: nn.Module, window: Size) -> nn.Module:
            program = rewrite(block, lambda _: window, lambda _: window)
            return Rewritten.of(alone, window, program=program)

        program = rewrite(block, self._window_of, self._at_train_size)
        feature = next((o.feature for o in inside if o.feature), self.found.size)
        problem = disagreement(build, module, inputs, feature, sizes=2)
        if program.one_statistic:
            problem = problem or breaks_law_of_windows(build, module, inputs, feature)
        if problem:
            raise ConversionError(problem)
        return block

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
        below = [p for p in self.replaced if path in ancestors(p)]
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


def _scan(model: nn.Module, train: Size, example: Example | None) -> Scan:
    if example is not None:
        return scan_trace(model, partial(_adapted, example), train)
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(1))

    def image(channels: int, size: Size, device: str | None) -> tuple[Tensor]:
        where = first.device if device is None else device
        return (torch.zeros(1, channels, *size, dtype=first.dtype, device=where),)

    guess: Any = next((m.in_channels for m in model.modules() if hasattr(m, "in_channels")), 3)
    problem: ScanError | None = None
    for channels in dict.fromkeys([guess, 3, 1, 4]):
        try:
            return scan_trace(model, partial(image, channels), train)
        except ScanError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _adapted(example: Example, size: Size, device: str | None) -> tuple[Any, ...]:
    """The user's example at an input size; what is largest in it has that size."""
    if callable(example) and not isinstance(example, Tensor):
        made = example(*size)
        args = (made,) if isinstance(made, Tensor) else tuple(made)
        moved: tuple[Any, ...] = tree_map_only(Tensor, lambda t: t.to(device or t.device), args)
        return moved
    args = (example,) if isinstance(example, Tensor) else tuple(example)
    maps = [t for t in args if isinstance(t, Tensor) and t.ndim >= 3]
    if not maps:
        raise ArgumentError("example holds no tensor with at least 3 dims (…, height, width)")
    height, width = max(t.shape[-2] for t in maps), max(t.shape[-1] for t in maps)

    def resize(t: Tensor) -> Tensor:
        shape = list(t.shape)
        if t.ndim >= 3:
            shape[-2:] = shape[-2] * size[0] // height, shape[-1] * size[1] // width
        return torch.zeros(shape, dtype=t.dtype, device=device or t.device)

    resized: tuple[Any, ...] = tree_map_only(Tensor, resize, args)
    return resized
