"""A network as a program of `torch.export` that takes any batch, height and width, or nearly any.

Networks that pad inside by a branch on the size are captured for multiples of what they pad to.
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

__all__ = ["Exportable", "capture_program"]

_LARGEST = 1 << 15
_HINT: Size = (128, 192)  # multiples of all that networks pad to, so that they need not pad
_TRIES = 6


@dataclass(frozen=True)
class Exportable:
    """A captured program and the images it takes.

    Attributes:
        program: of `torch.export`.
        multiple: of which heights and widths must be multiples; 1 is any.
        smallest: least height and width.
    """

    program: ExportedProgram
    multiple: int
    smallest: int


class _OneImage(nn.Module):
    """A network by a signature that does not depend on how it was made."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, image: Tensor) -> Any:
        return self.network(image)


def capture_program(
    model: nn.Module, image: Callable[[int, Size], Tensor], fixed: Size | None
) -> Exportable:
    """Capture a network in eval mode.

    Args:
        model: takes one (b, c, h, w).
        image: such an image of a batch and a (height, width).
        fixed: the only size to take, or None for any.

    Raises:
        GlocalError: the network cannot be captured.
    """
    model = _OneImage(model)
    batch = Dim("batch", min=1, max=1 << 10)
    if fixed is not None:
        shapes: Any = ({0: batch},)
        return Exportable(_captured(model, image(2, fixed), shapes), 1, min(fixed))
    multiple, smallest = 1, 17  # a network of four halvings has its own way with less
    for _ in range(_TRIES):
        try:
            shapes = (
                {0: batch, 2: _dim("h", multiple, smallest), 3: _dim("w", multiple, smallest)},
            )
            return Exportable(_captured(model, image(2, _HINT), shapes), multiple, smallest)
        except torch._dynamo.exc.UserError as error:
            problem = str(error)
        # The compiler says which multiples, or which least size, its guards would hold for.
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
        "Fix one with size=(height, width), or take the branch on the size out of the network."
    )


def _dim(name: str, multiple: int, smallest: int) -> Any:
    if multiple == 1:
        return Dim(name, min=smallest, max=_LARGEST)
    return Dim(f"_{name}", min=-(-smallest // multiple), max=_LARGEST // multiple) * multiple


def _captured(model: nn.Module, image: Tensor, shapes: Any) -> ExportedProgram:
    try:
        return torch.export.export(model, (image,), dynamic_shapes=shapes)
    except torch._dynamo.exc.UserError as error:
        if "onstraint" in str(error) or "pecializ" in str(error):
            raise
        raise GlocalError(f"the network cannot be exported: {_reason(str(error))}") from None
    except Exception as error:  # whatever a network does that no tracer can follow
        raise GlocalError(f"the network cannot be exported: {_reason(str(error))}") from None


def _reason(text: str) -> str:
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("Not all", "solving"))]
    return " ".join([*told, *lines][0].split())[:200]
