"""The local form of a block as a graph, and the module that runs it.

The graph is a `torch.fx` one that runs as the Python function which fx generates from it: that
function drops each value after its last use, as `fx.Interpreter` does, and is faster than a loop
over nodes (one gate of 11 operations on an 8x8 map: 150 µs in a loop, 86 µs as a function).
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_structure

from glocal.conversion.rewrite.dtypes import in_dtype
from glocal.conversion.rewrite.guards import hold
from glocal.conversion.rules.rule import Local
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.ops.crops import is_replaying, is_running
from glocal.scanning.fingerprint import value_key

__all__ = ["DEVICE", "DTYPE", "FREE", "PRECISION", "Input", "Program", "Rewritten"]

DEVICE = "device"
"""Name of the graph's input for the device of the tensors."""
DTYPE = "dtype"
"""Name of the graph's input for the floating-point type of the tensors."""
PRECISION = "precision"
"""Name of the graph's input for the precision of window statistics."""


FREE = "any value"
"""Marks an argument that may have any value."""


@dataclass(frozen=True)
class Input:
    """How a leaf of the arguments becomes an input of the graph.

    Attributes:
        name: of the input; None for a leaf that the graph does not read.
        pixels: dim with flattened pixels, which is unflattened; None if there is none.
        size: positions of the leaves that are the height and width of that map.
        fixed: the value that the leaf had in the capture, if it is neither a tensor nor a size.
        shape: the lengths that a tensor had in the capture; None for a dim of any length.
    """

    name: str | None
    pixels: int | None = None
    size: tuple[int, int] | None = None
    fixed: Any = FREE
    shape: tuple[int | None, ...] | None = None

    def accepts(self, leaf: Any) -> bool:
        """True if a leaf of the arguments is as it was in the capture."""
        if self.shape is not None:
            return (
                isinstance(leaf, Tensor)
                and leaf.ndim == len(self.shape)
                and all(n is None or n == m for n, m in zip(self.shape, leaf.shape, strict=True))
            )
        if self.fixed is FREE or isinstance(leaf, torch.device):
            return True
        return leaf is self.fixed or value_key(leaf) == value_key(self.fixed)


@dataclass(frozen=True)
class Program:
    """The local form of a block, without parameters: equal blocks share it.

    Attributes:
        inputs: one for each leaf of (args, kwargs).
        call: (args, kwargs) with the position of each leaf for the leaf.
        parameters: input names to paths of the module's parameters and buffers.
        constants: input names to tensors that the block creates.
        module: the graph, which maps values of `reads` to the leaves of the result and then the
            values to write to arguments.
        reads: names of the graph's inputs in order.
        returns: the result with the position of each leaf for the leaf.
        mutated: positions of the leaves of (args, kwargs) that the block writes to.
        guards: Python conditions on the sizes of the tensor inputs, `L["tensors"]`, without which
            the block takes another path than the captured one.
        follows_law_of_windows: as in `classify.Classification`.
        returned: position of a result to that of the leaf which it is: one that is written to.
        follows: constants of this type take the type of the inputs; None if none do.
        replay: the program for the second pass, of a block whose statistics come from crops; this
            program records them, see `crop_programs`. None for statistics from windows.
        follows_padding: True if the block pads maps by an amount that depends on the image, and
            the program does so too.
    """

    inputs: tuple[Input, ...]
    call: Any
    parameters: dict[str, str]
    constants: dict[str, Tensor]
    module: fx.GraphModule
    reads: tuple[str, ...]
    returns: Any
    mutated: tuple[int, ...] = ()
    guards: tuple[str, ...] = ()
    follows_law_of_windows: bool = False
    returned: dict[int, int] = field(default_factory=dict)
    follows: torch.dtype | None = None
    replay: "Program | None" = None
    follows_padding: bool = False

    def accepts(self, structure: TreeSpec, leaves: list[Any]) -> bool:
        """True if the program was captured with such arguments."""
        return structure == tree_structure(self.call) and all(
            given.accepts(leaf) for given, leaf in zip(self.inputs, leaves, strict=True)
        )

    def __str__(self) -> str:
        """The generated Python function."""
        code = self.module.code
        return code[code.index("def ") :].strip()

    def __deepcopy__(self, memo: Any) -> "Program":
        """The program itself, which never changes."""
        return self


class Rewritten(Local):
    """A module that runs a program with the parameters of the original.

    The program calls no submodules: their hooks do not run. Where the code of the original takes
    another path, the original runs, with a warning.

    Attributes:
        program: what it runs.
        others: programs for other arguments: another flag, keyword or number of tensors.
        original: class of the global module.
        path: of the module in the network.
        is_guarded: the scan has seen another path: the guards of the program are checked.
        mode: `training` of the original when it was captured, if its code depends on it.
    """

    program: Program
    others: tuple[Program, ...] = ()
    original: type[nn.Module]
    path: str = ""
    is_guarded: bool = False
    mode: bool | None = None

    @property
    def programs(self) -> tuple[Program, ...]:
        """All programs."""
        return (self.program, *self.others)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the original does, with local operations instead of global ones."""
        leaves, structure = tree_flatten((args, kwargs))
        program = next((p for p in self.programs if p.accepts(structure, leaves)), None)
        if program is None:
            raise ArgumentError(
                "this rewritten block was captured with other arguments: "
                f"{'; '.join(_signature(p) for p in self.programs)}; convert the network with an "
                "example that calls the block so"
            )
        if program.replay is not None and is_replaying():
            program = program.replay
        values: dict[str, Any] = {PRECISION: self.precision}
        for leaf, given in zip(leaves, program.inputs, strict=True):
            if given.name is None:
                continue
            if given.pixels is not None and given.size is not None:
                leaf = leaf.unflatten(given.pixels, (leaves[given.size[0]], leaves[given.size[1]]))
            values[given.name] = leaf
            values.setdefault(DEVICE, leaf.device)
            if leaf.is_floating_point():
                values.setdefault(DTYPE, leaf.dtype)
        if self.mode not in (None, self.training):
            return self._original("in this mode")(*args, **kwargs)
        if self.is_guarded:
            tensors = [values[given.name] for given in program.inputs if given.name is not None]
            if not hold(program.guards, tensors):
                return self._original("at this image size")(*args, **kwargs)
        for name, path in program.parameters.items():
            owner, _, attribute = path.rpartition(".")
            values[name] = getattr(self.get_submodule(owner), attribute)
            if values[name].is_floating_point():
                values.setdefault(DTYPE, values[name].dtype)
        for name, constant in program.constants.items():
            dtype = constant.dtype
            if program.follows in (dtype, _real(dtype)):
                dtype = in_dtype(dtype, values[DTYPE])
            values[name] = constant.to(values[DEVICE], dtype)
        results = program.module.forward(*(values[name] for name in program.reads))
        written = results[len(results) - len(program.mutated) :]
        for place, value in zip(program.mutated, written, strict=True):
            leaves[place].copy_(value.view_as(leaves[place]))
        outputs = list(results)
        for place, leaf in program.returned.items():
            outputs[place] = leaves[leaf]
        return tree_map(outputs.__getitem__, program.returns)

    def _original(self, where: str) -> nn.Module:
        """Return the global module, which shares everything with this one; warns."""
        name = f"'{self.path or 'the network'}'"
        if is_running():
            raise GlocalError(
                f"{where} the code of {name} takes another path than on crops of the training "
                'size: its statistics cannot come from crops; convert it with "windows"'
            )
        warnings.warn(
            f"{name} runs global here: {where} its code takes another path "
            "than the one that was converted",
            GlocalWarning,
            stacklevel=3,
        )
        module = self.original.__new__(self.original)
        vars(module).update(vars(self))
        return module


def _real(dtype: torch.dtype) -> torch.dtype:
    return dtype.to_real() if dtype.is_complex else dtype


def _signature(program: Program) -> str:
    """The arguments of a program as text."""

    def text(place: int) -> str:
        given = program.inputs[place]
        if given.shape is not None:
            return "x".join("*" if n is None else str(n) for n in given.shape)
        return "a size" if given.fixed is FREE else repr(given.fixed)

    args, kwargs = tree_map(text, program.call)
    return ", ".join([*map(str, args), *(f"{name}={value}" for name, value in kwargs.items())])
