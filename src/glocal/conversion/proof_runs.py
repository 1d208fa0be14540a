"""Private copies of the networks, and the inputs of a proof."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.ops.windows import Size
from glocal.scanning.analysis import Global
from glocal.scanning.discover import MakeArgs, Scan
from glocal.scanning.sandbox import isolated_copy, keep_random_state
from glocal.scanning.trace import quiet

__all__ = [
    "Converted",
    "Miss",
    "Mode",
    "Network",
    "Pair",
    "image_like",
    "isolated",
    "near_multiples",
]

Mode = Literal["inference", "no_grad", "grad"]

_MODES: dict[Mode, Callable[[], Any]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "grad": torch.enable_grad,
}
_ASLEEP = 1e-3
"""A parameter whose values are all smaller hides what it scales: zero-initialised branches."""


@dataclass(frozen=True)
class Converted:
    """A conversion to prove.

    Attributes:
        model, root: the original, and the converted copy.
        scan: of the original.
        train_size, window: (height, width) in input pixels.
        blocks: the converted modules by path, with the global operations of the original in each.
        left: the operations that stay global, as named or allowed.
        excused: paths of modules whose outputs are known to be global.
    """

    model: nn.Module
    root: nn.Module
    scan: Scan
    train_size: Size
    window: Size
    blocks: Mapping[str, Sequence[Global]]
    left: Sequence[Global] = ()
    excused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Miss:
    """A part of the proof that fails.

    Attributes:
        path: of the module at fault.
        why: what its code does.
        blocks: the converted modules to put back; empty if none is at fault.
        holder: if none is, path of the module whose output is global because of `path`.
    """

    path: str
    why: str
    blocks: tuple[str, ...] = ()
    holder: str = ""


class Network:
    """A private copy of a network that runs with the same random numbers every time.

    Parameters that are zero, as those of branches before training, get random values: what such
    a branch computes counts once weights are loaded.

    Args:
        model: which is not changed.
        make_args: makes its arguments, see `discover.MakeArgs`.
        nonzero: random parameters by the id of the zero parameters that they replace; two
            networks that share parameters share this dict.
    """

    def __init__(
        self, model: nn.Module, make_args: MakeArgs, nonzero: dict[int, nn.Parameter]
    ) -> None:
        self.module = isolated_copy(model)
        self._make_args = make_args
        first = next(_floating(model), torch.zeros(1))
        self._widen = first.device.type == "cpu" and first.dtype in (torch.float16, torch.bfloat16)
        _wake(self.module, nonzero)
        if self._widen:
            _cast(self.module, torch.float32)
        self._buffers = [
            (module, name, buffer.clone())
            for module in self.module.modules()
            if module.training
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    def double(self) -> "Network":
        """The network in float64; it is changed itself."""
        _cast(self.module, torch.float64)
        self._buffers = [
            (module, name, buffer.double() if buffer.is_floating_point() else buffer)
            for module, name, buffer in self._buffers
        ]
        return self

    def arguments(self, size: Size, batch: int = 1) -> tuple[Any, ...]:
        """Arguments of forward with image-like values, the same ones at each call."""
        dtype = next((t.dtype for t in _floating(self.module)), None)
        seeds = count()

        def fill(t: Tensor) -> Tensor:
            if not t.is_floating_point():
                return t
            if dtype is not None and (self._widen or dtype == torch.float64):
                t = t.to(dtype)
            if t.ndim < 3:
                return t
            shape = [batch if t.shape[0] == 1 and t.ndim > 3 else t.shape[0], *t.shape[1:]]
            return image_like(shape, next(seeds)).to(t.device, t.dtype)

        made: tuple[Any, ...] = tree_map_only(Tensor, fill, self._make_args(size, None))
        return made

    def run(self, args: Any, mode: Mode = "inference") -> Any:
        """The results; random numbers and buffers are the same at each call."""
        for module, name, buffer in self._buffers:
            module._buffers[name] = buffer.clone()
        with _MODES[mode](), _seeded():
            return self.module(*tree_map_only(Tensor, torch.clone, args))

    def results(self, args: Any, mode: Mode = "inference") -> list[Tensor]:
        """The tensors among the results."""
        return [t for t in tree_leaves(self.run(args, mode)) if isinstance(t, Tensor)]


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert a copy that shares parameters with the user's network, which keeps its own.

    `Module.to` would write to the shared parameters.
    """
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is None or not parameter.is_floating_point():
                continue
            if id(parameter) not in made:
                values = parameter.detach().to(dtype, copy=True)
                made[id(parameter)] = nn.Parameter(values, parameter.requires_grad)
            part._parameters[name] = made[id(parameter)]
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                part._buffers[name] = buffer.to(dtype)


def _floating(module: nn.Module) -> Iterator[Tensor]:
    """Yield the floating-point parameters and buffers."""
    tensors = chain(module.parameters(), module.buffers())
    return (t for t in tensors if t.is_floating_point())


class Pair:
    """The original and the converted network, as private copies.

    Attributes:
        converted: the conversion.
        original, local: the networks.
    """

    def __init__(self, converted: Converted) -> None:
        nonzero: dict[int, nn.Parameter] = {}
        make_args = converted.scan.make_args
        self.converted = converted
        self.original = Network(converted.model, make_args, nonzero)
        self.local = Network(converted.root, make_args, nonzero)


@contextmanager
def isolated() -> Iterator[None]:
    """Keep the random states, and show no output of the runs."""
    with torch.inference_mode(False), keep_random_state(), quiet():
        yield


@contextmanager
def _seeded() -> Iterator[None]:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    with torch.compiler.set_stance("force_eager"):
        yield


def image_like(shape: Sequence[int], seed: int = 0) -> Tensor:
    """Return random values in [0, 1] like those of a photograph: smooth, with noise.

    >>> x = image_like((1, 3, 64, 64))
    >>> x.shape, bool((x >= 0).all() and (x <= 1).all())
    (torch.Size([1, 3, 64, 64]), True)
    """
    generator = torch.Generator().manual_seed(seed)
    maps, (h, w) = torch.Size(shape[:-2]).numel(), shape[-2:]
    coarse = torch.rand(maps, 1, h // 12 + 2, w // 12 + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(h, w), mode="bilinear", align_corners=True)
    noise = torch.rand(maps, 1, h, w, generator=generator)
    return (0.85 * smooth + 0.15 * noise).reshape(tuple(shape))


def near_multiples(size: Size, train_size: Size, *, up: bool) -> list[Size]:
    """A size, and the nearest multiples of 2, 4, ... 64 pixels and of the training size.

    >>> near_multiples((97, 35), (30, 30), up=False)
    [(97, 35), (96, 34), (96, 32), (90, 30)]
    """
    found = []
    for units in [*((n, n) for n in (1, 2, 4, 8, 16, 32, 64)), train_size]:
        h, w = ((side + (n - 1 if up else 0)) // n * n for side, n in zip(size, units, strict=True))
        if h and w:
            found.append((h, w))
    return list(dict.fromkeys(found))


def _wake(model: nn.Module, made: dict[int, nn.Parameter]) -> None:
    """Replace parameters that are zero by random ones, in a copy."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.is_floating_point() or not parameter.numel():
                continue
            if id(parameter) in made:
                module._parameters[name] = made[id(parameter)]
            elif float(parameter.detach().abs().max()) < _ASLEEP:
                values = 0.1 * torch.randn(parameter.shape, generator=generator)
                values = values.to(parameter.device, parameter.dtype)
                made[id(parameter)] = nn.Parameter(values, parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
