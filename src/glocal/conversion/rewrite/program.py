"""A block as a list of steps: what the capture of a module is rewritten to, and run as."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_structure

from glocal.conversion.rules.rule import Local

__all__ = [
    "DEVICE",
    "PRECISION",
    "Get",
    "Input",
    "Operator",
    "Program",
    "Rewritten",
    "Step",
    "names_in",
    "prune",
]


class Get(NamedTuple):
    """Stands for the value that an earlier step, an input or a parameter has made."""

    name: str


DEVICE = Get("device of the input")
PRECISION = Get("precision of the module")


class Operator:
    """An aten operation, which unlike `torch.ops`' own objects can be pickled."""

    def __init__(self, name: str) -> None:
        self.name = name
        namespace, operation, overload = name.split(".")
        self.function = getattr(getattr(getattr(torch.ops, namespace), operation), overload)

    def __reduce__(self) -> tuple[Any, ...]:
        return Operator, (self.name,)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Operator":
        return self

    def __repr__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the operation makes of its arguments."""
        return self.function(*args, **kwargs)


@dataclass(frozen=True)
class Step:
    """name = function(*args, **kwargs); `Get`s among the arguments are looked up.

    `last` names the values that no later step reads.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    last: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = [_text(a) for a in self.args] + [f"{k}={_text(v)}" for k, v in self.kwargs.items()]
        function = getattr(self.function, "__name__", None) or repr(self.function)
        return f"{self.name} = {function}({', '.join(shown)})"


@dataclass(frozen=True)
class Input:
    """How one leaf of a call's arguments becomes an input of the program.

    Attributes:
        name: of the value; None for a leaf that the program does not read.
        pixels: dim that flattens a map, or None.
        size: places among the leaves of the height and width of that map.
    """

    name: str | None
    pixels: int | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Program:
    """What a block computes.

    Attributes:
        inputs: one for each leaf of (args, kwargs), in the order of `call`.
        call: (args, kwargs) with the place of every leaf for the leaf.
        parameters: value names to the paths of the module's parameters and buffers.
        constants: value names to tensors that the source makes out of nothing.
        steps: in order.
        outputs: leaves of what the block returns: `Get`s and constants.
        returns: what the block returns, with the place of every output for the output.
        written: (leaf, value): what the block writes into tensors that it was given.
        one_statistic: whether the block mixes pixels by statistics of its inputs alone, so that
            the law of windows holds of it as a whole.
    """

    inputs: tuple[Input, ...]
    call: Any
    parameters: dict[str, str]
    constants: dict[str, Tensor]
    steps: tuple[Step, ...]
    outputs: tuple[Any, ...]
    returns: Any
    written: tuple[tuple[int, Get], ...] = ()
    one_statistic: bool = False

    def __str__(self) -> str:
        return "\n".join([*map(str, self.steps), f"return {_text(list(self.outputs))}"])


class Rewritten(Local):
    """A module whose forward is a rewritten program; parameters are the original's.

    The program was captured in eval mode, and calls no children: their hooks do not run.
    """

    program: Program

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the original, with local operations for global ones."""
        program = self.program
        leaves, structure = tree_flatten((args, kwargs))
        if structure != tree_structure(program.call):
            raise TypeError(
                f"a rewritten block takes arguments as the original was called with: "
                f"{program.call}, got {structure}"
            )
        values: dict[str, Any] = {}
        for leaf, given in zip(leaves, program.inputs, strict=True):
            if given.name is None:
                continue
            if given.pixels is not None and given.size is not None:
                leaf = leaf.unflatten(given.pixels, (leaves[given.size[0]], leaves[given.size[1]]))
            values[given.name] = leaf
            values.setdefault(DEVICE.name, leaf.device)
        device = values[DEVICE.name]
        values[PRECISION.name] = self.precision
        for name, path in program.parameters.items():
            owner, _, attribute = path.rpartition(".")
            values[name] = getattr(self.get_submodule(owner), attribute)
        for name, constant in program.constants.items():
            values[name] = constant.to(device)
        for step in program.steps:
            values[step.name] = step.function(
                *[_look_up(a, values) for a in step.args],
                **{k: _look_up(v, values) for k, v in step.kwargs.items()},
            )
            for name in step.last:
                del values[name]
        for place, value in program.written:
            leaves[place].copy_(values[value.name].view_as(leaves[place]))
        outputs = [_look_up(a, values) for a in program.outputs]
        return tree_map(outputs.__getitem__, program.returns)


def _look_up(argument: Any, values: dict[str, Any]) -> Any:
    if isinstance(argument, Get):
        return values[argument.name]
    if isinstance(argument, list | tuple):
        return [_look_up(a, values) for a in argument]
    return argument


def names_in(arguments: Any) -> list[str]:
    """The names of all values that arguments read."""
    if isinstance(arguments, Get):
        return [arguments.name]
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        return [name for a in arguments for name in names_in(a)]
    return []


def prune(steps: Sequence[Step], outputs: Any) -> tuple[Step, ...]:
    """The steps that outputs need, each told which values nobody reads after it."""
    wanted = set(names_in(outputs))
    alive = set(wanted)
    kept = []
    for step in reversed(steps):
        if step.name not in wanted:
            continue
        reads = set(names_in([step.args, step.kwargs])) - {DEVICE.name, PRECISION.name}
        kept.append(replace(step, last=tuple(sorted(reads - alive))))
        wanted |= reads
        alive |= reads
    return tuple(reversed(kept))


def _text(argument: Any) -> str:
    if isinstance(argument, Get):
        return argument.name
    if isinstance(argument, list | tuple):
        return f"[{', '.join(_text(a) for a in argument)}]"
    return repr(argument)
