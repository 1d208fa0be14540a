"""Local forms of blocks that no rule matches, each compared with the block.

Blocks that do the same to the same inputs share one program.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from glocal.conversion.rewrite import (
    BatchError,
    Block,
    Program,
    Rewritten,
    TooSmallError,
    capture,
    record_and_replay,
    rewrite,
)
from glocal.conversion.rewrite.capture_errors import reason_of
from glocal.conversion.sources import Source
from glocal.conversion.verify import (
    SINGLE_TOLERANCE,
    TOLERANCE,
    disagreement,
    disagreement_on_windows,
)
from glocal.errors import ConversionError
from glocal.ops.windows import Overlap, Size, scale_window
from glocal.scanning.analysis import Global
from glocal.scanning.discover import Scan
from glocal.scanning.fingerprint import behaviour, fingerprint, value_key
from glocal.texts import size_text

__all__ = ["Blocks", "Form", "Runs"]

Runs = list[Any]
"""(args, kwargs) of one call of a module in each run of a scan, with `Spec`s for tensors."""


@dataclass(frozen=True)
class Form:
    """The planned local form of a block: source, and window in input pixels."""

    source: Source
    window: Size


@dataclass
class Blocks:
    """The blocks of a network.

    Attributes:
        scan: of the network.
        modules: the original modules by path.
        train_size: (height, width) in input pixels.
        overlap: of the windows of operations that mix pixels.
    """

    scan: Scan
    modules: Mapping[str, nn.Module]
    train_size: Size
    overlap: Overlap
    _programs: dict[Any, Program | ConversionError] = field(default_factory=dict)
    _calls: dict[str, list[Runs]] = field(default_factory=dict)
    _behaviour: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def runs(self, path: str) -> list[Runs]:
        """Return the different calls of a module: (args, kwargs) in the three runs."""
        if path not in self._calls:
            calls = zip(*(trace.inputs[path] for trace in self.scan.traces), strict=True)
            self._calls[path] = list({value_key(runs): list(runs) for runs in calls}.values())
        return self._calls[path]

    def key(self, path: str, inputs: Runs) -> tuple[Any, ...]:
        """Return a key that is equal for blocks that do the same to the same inputs.

        They have equal fingerprints, and ran the same operations in the scan.
        """
        if path not in self._behaviour:
            self._behaviour[path] = (
                fingerprint(self.modules[path]), behaviour(path, self.scan.traces),
            )  # fmt: skip
        return (*self._behaviour[path], value_key(inputs))

    def program(self, path: str, inputs: Runs, inside: list[Global], form: Form) -> Program:
        """Return the local form of the block at a path for one kind of its calls."""
        key = (form, *self.key(path, inputs))
        if key not in self._programs:
            try:
                self._programs[key] = self._proven_program(path, inputs, inside, form)
            except ConversionError as error:
                self._programs[key] = error
            except Exception as error:  # a graph of a form that nobody thought of
                self._programs[key] = ConversionError(
                    f"its code has a new form: {reason_of(error)}"
                )
        found = self._programs[key]
        if isinstance(found, ConversionError):
            raise found
        return found

    def _proven_program(self, path: str, inputs: Runs, inside: list[Global], form: Form) -> Program:
        """Return the local form of a block after comparing it with the block.

        Raises:
            ConversionError: the block has none, or it computes something else.
        """
        block: Block | None = None
        module, other_size = self.modules[path], self.scan.other_path(path)
        try:
            block = capture(module, inputs, other_path=other_size is not None)
            return self._proven(block, module, inputs, inside, other_size, form)
        except TooSmallError:
            raise
        except ConversionError as error:
            if not (isinstance(error, BatchError) or (block and block.folds_batch)):
                raise
            why = error
        with suppress(ConversionError):
            block = capture(module, inputs, image_by_image=True)
            return self._proven(block, module, inputs, inside, other_size, form)
        raise why

    def _proven(
        self,
        block: Block,
        module: nn.Module,
        inputs: Any,
        inside: list[Global],
        other_size: Size | None,
        form: Form,
    ) -> Program:
        """Return the local form of a captured block, see `_proven_program`."""
        if not block.globals:
            raise TooSmallError("its global operation is not global within the block alone")
        if form.source == "crops":
            return self._proven_on_crops(block, module, inputs, inside)

        def build(alone: nn.Module, window: Size) -> nn.Module:
            program = rewrite(block, lambda _: window, lambda _: window, self.overlap)
            return Rewritten.of(alone, window, program=program)

        def window_on(feature: Size) -> Size:
            return scale_window(feature, form.window, self.scan.size)

        program = rewrite(block, window_on, self._at_train_size, self.overlap)
        feature = next((o.feature for o in inside if o.feature), self.scan.size)
        tolerance = SINGLE_TOLERANCE if block.is_narrow else TOLERANCE
        problem = disagreement(build, module, inputs, feature, 2, tolerance)
        if program.follows_law_of_windows:
            problem = problem or disagreement_on_windows(build, module, inputs, feature, tolerance)
        if problem and other_size:
            raise ConversionError(
                f"its code runs other operations at {size_text(other_size)}: {problem}"
            )
        if problem:
            raise ConversionError(problem)
        return program

    def _proven_on_crops(
        self, block: Block, module: nn.Module, inputs: Any, inside: list[Global]
    ) -> Program:
        """Return the programs of a block for statistics from crops.

        Outside of a pass the first computes what the block does; `proof_of_crops` runs the second.
        """
        program = record_and_replay(block, self._at_train_size)

        def build(alone: nn.Module, window: Size) -> nn.Module:
            return Rewritten.of(alone, window, program=program)

        feature = next((o.feature for o in inside if o.feature), self.scan.size)
        tolerance = SINGLE_TOLERANCE if block.is_narrow else TOLERANCE
        if problem := disagreement(build, module, inputs, feature, 2, tolerance):
            raise ConversionError(problem)
        return program

    def _at_train_size(self, feature: Size) -> Size:
        """Return the size of a map at the training size, from that in the first run."""
        return scale_window(feature, self.train_size, self.scan.size)
