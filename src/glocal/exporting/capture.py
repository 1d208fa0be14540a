"""Capture a network as a `torch.export` program for any batch, height and width.

A network that branches on the size in order to pad is captured for multiples of its padding.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from glocal.errors import GlocalError
from glocal.ops.windows import Size
from glocal.scanning.user_code import user_line

__all__ = ["MAX_SIZE", "CapturedProgram", "Inputs", "any_number", "capture_program", "capture_with"]

MAX_SIZE = 1 << 15  # of height and width
_MAX_BATCH = 1 << 10
_MIN_SIZE = 17  # networks that halve the size four times run other code at smaller sizes
_EXAMPLE: Size = (128, 192)  # multiples of all that networks pad to, so that they need not pad
_TRIES = 6


@dataclass(frozen=True)
class CapturedProgram:
    """A program and the sizes of the images that it takes.

    Attributes:
        program: from `torch.export`.
        multiple: heights and widths must be multiples of this; 1 is any.
        smallest: least height and width.
    """

    program: ExportedProgram
    multiple: int
    smallest: int


@dataclass(frozen=True)
class Inputs:
    """The arguments of a program, whose images may have any batch.

    Attributes:
        example: arguments for images of a (height, width).
        shapes: `dynamic_shapes` of `torch.export`, from the dynamic dimensions of the image by
            number; there are none if its size is fixed.
    """

    example: Callable[[Size], tuple[Any, ...]]
    shapes: Callable[[dict[int, Any]], Any]


class _OneImage(nn.Module):
    """Gives the input the name that the file uses, whatever the network calls it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, image: Tensor) -> Any:
        return self.network(image)


def any_number(name: str) -> Any:
    """Return a dynamic dimension of images or crops."""
    return Dim(name, min=1, max=_MAX_BATCH)


def capture_program(
    model: nn.Module, image: Callable[[int, Size], Tensor], fixed: Size | None, accepted: Size
) -> CapturedProgram:
    """Capture a network that is in eval mode.

    Args:
        model: takes one (b, c, h, w).
        image: makes an example from a batch size and a (height, width).
        fixed: the only (height, width) that the program accepts; None for any.
        accepted: (height, width) that the network accepts.

    Raises:
        GlocalError: the network cannot be captured.
    """
    batch = any_number("batch")
    inputs = Inputs(lambda size: (image(2, size),), lambda dims: ({0: batch, **dims},))
    return capture_with(_OneImage(model), inputs, fixed, accepted)


def capture_with(
    model: nn.Module, inputs: Inputs, fixed: Size | None, accepted: Size
) -> CapturedProgram:
    """`capture_program` of a network with other arguments."""
    if fixed is not None:
        program = _captured(model, inputs.example(fixed), inputs.shapes({}))
        return CapturedProgram(program, 1, min(fixed))
    try:
        return _captured_at(_EXAMPLE, model, inputs)
    except GlocalError:
        multiples = 2 * accepted[0], 3 * accepted[1]
        if multiples == _EXAMPLE:
            raise
        return _captured_at(multiples, model, inputs)


def _captured_at(example: Size, model: nn.Module, inputs: Inputs) -> CapturedProgram:
    """Capture a network for any size by an example of one."""
    multiple, smallest = 1, _MIN_SIZE
    for _ in range(_TRIES):
        try:
            dims = {2: _dim("h", multiple, smallest), 3: _dim("w", multiple, smallest)}
            program = _captured(model, inputs.example(example), inputs.shapes(dims))
            # torch holds that no dynamic size is 1, nor is a number of cells
            taken = smallest if multiple == 1 else max(smallest, 2 * multiple)
            return CapturedProgram(program, multiple, taken)
        except torch._dynamo.exc.UserError as error:
            problem = str(error)
        # the message says for which multiples, or from which size on, its guards would hold
        multiples = [
            int(a or b) for a, b in re.findall(r"= (\d+)\*_[hw]\b|% (\d+)\)* == 0", problem)
        ]
        least = [int(n) for n in re.findall(r"'[hw]', min=(\d+)", problem)]
        least += [int(n) * math.lcm(*multiples) for n in re.findall(r"'_[hw]', min=(\d+)", problem)]
        wanted = math.lcm(multiple, *multiples), max([smallest, *least])
        if wanted == (multiple, smallest):
            break
        multiple, smallest = wanted[0], -(-wanted[1] // wanted[0]) * wanted[0]
    raise GlocalError(
        f"the network cannot be exported for images of any size: {_reason(problem)}\n"
        "Fix one with size=(height, width), or remove the branch on the size from the network."
    )


def _dim(name: str, multiple: int, smallest: int) -> Any:
    """Return a dynamic dimension of at least `smallest`, in steps of `multiple`."""
    if multiple == 1:
        return Dim(name, min=smallest, max=MAX_SIZE)
    return Dim(f"_{name}", min=-(-smallest // multiple), max=MAX_SIZE // multiple) * multiple


def _captured(model: nn.Module, args: tuple[Any, ...], shapes: Any) -> ExportedProgram:
    """Return the program; a UserError asks for constraints on the dynamic shapes."""
    try:
        return torch.export.export(model, args, dynamic_shapes=shapes, strict=False)
    except torch._dynamo.exc.UserError as error:
        if "onstraint" in str(error) or "pecializ" in str(error):
            raise
        raise _not_exportable(error) from error
    except Exception as error:  # a network may do anything that a tracer cannot follow
        raise _not_exportable(error) from error


def _not_exportable(error: Exception) -> GlocalError:
    line = user_line(error)
    at = f" ({line})" if line else ""
    reason = _reason(str(error) or type(error).__name__)
    return GlocalError(f"the network cannot be exported: {reason}{at}")


def _reason(text: str) -> str:
    """Return the line of a `torch.export` message that names the cause."""
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("Not all", "solving"))]
    return " ".join([*causes, *lines][0].split())[:200]
