"""Run a converted network twice: on crops for statistics, and on the whole image.

`torch.compile` compiles the first pass. The second runs in eager mode: its lazy maps work below the
compiler. The programs that `glocal.export` writes have both passes as plain operations.
"""

from collections.abc import Callable
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.conversion.inside import converted_inside
from glocal.errors import GlocalError
from glocal.ops.crops import (
    CropGrid,
    Recording,
    Replay,
    begin_run,
    end_run,
    gather,
    is_replaying,
    is_running,
    running,
)
from glocal.ops.programs import is_exporting, not_compiled, not_compiled_itself
from glocal.ops.windows import Size, covers

__all__ = ["TwoPasses", "run_twice", "two_passes_of"]


def run_twice(model: nn.Module, crop: Size, stride: float) -> None:
    """Make a converted network with statistics from crops run in two passes.

    Args:
        model: is changed in place.
        crop: (height, width) of the crops in input pixels, the training size.
        stride: largest distance between crops, as a multiple of their size.
    """
    vars(model)["forward"] = TwoPasses(model, vars(model).get("forward"), crop, stride)


def two_passes_of(model: nn.Module) -> "TwoPasses | None":
    """How a network, or the one it wraps, takes statistics from crops; None for windows."""
    found = converted_inside(model)
    forward = vars(model if found is None else found[1]).get("forward")
    return forward if isinstance(forward, TwoPasses) else None


class TwoPasses:
    """The `forward` of a network that takes statistics from crops.

    It is an attribute of the network, so state-dict keys, pickles and copies stay as they were.
    """

    def __init__(
        self, model: nn.Module, inner: Callable[..., Any] | None, crop: Size, stride: float
    ) -> None:
        self.model = model
        self.inner = inner
        self.crop = crop
        self.stride = stride

    @property
    def __code__(self) -> CodeType:
        """That of the network's class, which `torch.export` names."""
        code: CodeType = type(self.model).forward.__code__
        return code

    @not_compiled_itself
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network on crops of the arguments, then on the arguments.

        During a pass that the caller has begun (`ops.crops.running`), the network runs once.

        Raises:
            GlocalError: a tracer records both passes as one program.
        """
        if is_running():
            return self._run(*args, **kwargs)
        image = _image_of(args, kwargs)
        height, width = image.shape[-2:]
        if is_exporting():
            raise GlocalError(
                "one program cannot lay out the crops that statistics come from; glocal.export "
                "writes two, one for the crops and one for the image"
            )
        if covers(self.crop, (height, width)):
            with running(Recording()):
                return self._run(*args, **kwargs)

        @not_compiled_itself
        def run(places: list[tuple[slice, slice]]) -> None:
            self._run(*_cut(args, image, places), **_cut(kwargs, image, places))

        grid = CropGrid.on((height, width), self.crop, self.stride)
        # As many crops at a time as have the pixels of the image, so that memory stays the same.
        at_once = max(1, height * width // (grid.crop[0] * grid.crop[1]))
        with running(Replay(gather(grid, at_once, run))):
            return self._run(*args, **kwargs)

    @not_compiled_itself
    def _run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network once in the current pass."""
        begin_run()
        forward = self._replayed if is_replaying() else self._forward
        result = forward(*args, **kwargs)
        end_run()
        return result

    @not_compiled
    def _replayed(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(*args, **kwargs)

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.inner is not None:
            return self.inner(*args, **kwargs)
        return type(self.model).forward(self.model, *args, **kwargs)


def _image_of(args: Any, kwargs: Any) -> Tensor:
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, Tensor) and leaf.ndim == 4:
            return leaf
    raise GlocalError("statistics from crops need an image (b, c, h, w) among the arguments")


@not_compiled
def _cut(arguments: Any, image: Tensor, places: list[tuple[slice, slice]]) -> Any:
    """Return arguments for crops: maps are cut out and stacked, others repeated."""
    batch, size = image.shape[0], image.shape[-2:]

    def cut(t: Tensor) -> Tensor:
        if t.ndim >= 3 and t.shape[-2:] == size:
            return torch.cat([t[..., y, x] for y, x in places])
        if t.ndim >= 3 and t.shape[-2:] != (1, 1):  # a number for each image
            raise GlocalError(
                f"statistics from crops need inputs of one size, got {tuple(t.shape)} beside "
                f"{tuple(image.shape)}"
            )
        return t.repeat(len(places), *[1] * (t.ndim - 1)) if t.ndim and t.shape[0] == batch else t

    return tree_map_only(Tensor, cut, arguments)
