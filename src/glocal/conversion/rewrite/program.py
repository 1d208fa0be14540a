"""The local form of a block as a graph, and the module that runs it.

The graph is a `torch.fx` one that runs as the Python function which fx generates from it: that
function drops each value after its last use, as `fx.Interpreter` does, and is faster than a loop
over nodes (one gate of 11 operations on an 8x8 map: 150 µs in a loop, 86 µs as a function).
"""

import warnings
from dataclasses import dataclass
from functools import cache
from types import CodeType
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_structure

from glocal.conversion.rules.rule import Local
from glocal.errors import GlocalWarning

__all__ = ["DEVICE", "PRECISION", "Input", "Program", "Rewritten"]

DEVICE = "device"
"""Name of the graph's input for the device of the tensors."""
PRECISION = "precision"
"""Name of the graph's input for the precision of window statistics."""


@dataclass(frozen=True)
class Input:
    """How a leaf of the arguments becomes an input of the graph.

    Attributes:
        name: of the input; None for a leaf that the graph does not read.
        pixels: dim with flattened pixels, which is unflattened; None if there is none.
        size: positions of the leaves that are the height and width of that map.
    """

    name: str | None
    pixels: int | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Program:
    """The local form of a block. It holds no parameters: blocks with other weights share it.

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
        program: the local form.
        original: class of the global module.
        path: of the module in the network.
        guards: as in `Program`, where the scan has seen another path.
        mode: `training` of the original when it was captured, if its code depends on it.
    """

    program: Program
    original: type[nn.Module]
    path: str = ""
    guards: tuple[str, ...] = ()
    mode: bool | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the original does, with local operations instead of global ones."""
        program = self.program
        leaves, structure = tree_flatten((args, kwargs))
        if structure != tree_structure(program.call):
            raise TypeError(
                f"this rewritten block takes the arguments that its original had when it was "
                f"captured, {program.call}; got {structure}"
            )
        values: dict[str, Any] = {PRECISION: self.precision}
        for leaf, given in zip(leaves, program.inputs, strict=True):
            if given.name is None:
                continue
            if given.pixels is not None and given.size is not None:
                leaf = leaf.unflatten(given.pixels, (leaves[given.size[0]], leaves[given.size[1]]))
            values[given.name] = leaf
            values.setdefault(DEVICE, leaf.device)
        if self.mode not in (None, self.training):
            return self._original("in this mode")(*args, **kwargs)
        if self.guards:
            tensors = [values[given.name] for given in program.inputs if given.name is not None]
            if not _hold(self.guards, tensors):
                return self._original("at this image size")(*args, **kwargs)
        for name, path in program.parameters.items():
            owner, _, attribute = path.rpartition(".")
            values[name] = getattr(self.get_submodule(owner), attribute)
        for name, constant in program.constants.items():
            values[name] = constant.to(values[DEVICE])
        results = program.module.forward(*(values[name] for name in program.reads))
        written = results[len(results) - len(program.mutated) :]
        for place, value in zip(program.mutated, written, strict=True):
            leaves[place].copy_(value.view_as(leaves[place]))
        return tree_map(results.__getitem__, program.returns)

    def _original(self, where: str) -> nn.Module:
        """Return the global module, which shares everything with this one; warns."""
        warnings.warn(
            f"'{self.path or 'the network'}' runs global here: {where} its code takes another path "
            "than the one that was converted",
            GlocalWarning,
            stacklevel=3,
        )
        module = self.original.__new__(self.original)
        vars(module).update(vars(self))
        return module


def _hold(guards: tuple[str, ...], tensors: list[Tensor]) -> bool:
    """True if all conditions hold for the sizes of these tensors."""
    names = {"L": {"tensors": tensors}, "__builtins__": {"min": min, "max": max, "abs": abs}}
    try:
        return all(eval(_compiled(guard), names) for guard in guards)
    except Exception:  # a condition that needs more than arithmetic
        return False


@cache
def _compiled(guard: str) -> CodeType:
    return compile(guard, "<guard>", "eval")
