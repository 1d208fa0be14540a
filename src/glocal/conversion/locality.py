"""Finds the modules of a converted network whose output depends on far pixels.

The network runs twice on a long strip: as it is, and with other values in a band of pixels near
one end. In the second run the output of every module gets the values of the first run back
outside the band, so changes never travel from module to module: each module is tested alone, on
values that it really meets, and the strip needs the reach of one module only. A module is at fault
if its inputs agree far from the band and its output does not, at whatever distance: on a strip of
twice the length the distance grows with the strip.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.conversion.copies import Copies
from glocal.conversion.rounding import agree, differs, same_values, scale_of
from glocal.ops.window_map import WindowMap

__all__ = ["Strip", "Suspect", "suspects"]

_LOCAL = (
    nn.modules.conv._ConvNd, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh,
    nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle, nn.Linear, nn.modules.dropout._DropoutNd,
    nn.Upsample, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.ELU,
)  # fmt: skip
"""Modules of torch that read a bounded neighbourhood, and need no test of their own."""

_SHRINK = 24
"""Pixels by which unpadded convolutions may shorten an axis."""


@dataclass(frozen=True)
class Strip:
    """Positions of the band and the far pixels on a strip, in input pixels.

    Attributes:
        length: of the strip.
        axis: along which it is long: -2 for a high strip, -1 for a wide one.
        band: pixels whose values change, a third of the way along the strip: what mirrors,
            shifts or scales the map moves them. As many pixels at the far end are not looked at,
            because padding may wrap around.
    """

    length: int
    axis: int
    band: int

    def axis_of(self, shape: tuple[int, ...]) -> int | None:
        """Return the dim of a tensor that follows the length of the strip, or None."""
        fits = [d for d, n in enumerate(shape) if d > 0 and self._scale(n) is not None]
        if len(shape) < 3 or not fits:
            return None
        usual = len(shape) + self.axis
        return usual if usual in fits else fits[0] if len(fits) == 1 else None

    def _scale(self, n: int) -> float | None:
        for scale in (3.0, *(2.0**k for k in range(3, -8, -1))):
            whole = self.length * scale
            if abs(n - whole) <= min(_SHRINK * max(scale, 1), whole / 8):
                return scale
        return None

    def columns(self, n: int, start: int, stop: int) -> slice:
        """The places of input pixels [start, stop) on an axis of n, rounded inwards."""
        first, last = -(-start * n // self.length), stop * n // self.length
        return slice(first, max(first, last))

    @property
    def start(self) -> int:
        """First pixel of the band."""
        return self.length // 3

    @property
    def stop(self) -> int:
        """First pixel after the band."""
        return self.start + self.band

    def far(self, n: int, distance: int) -> slice:
        """Return the positions on an axis of n that are farther than this from the band."""
        return self.columns(n, self.stop + distance, self.length - self.band)


@dataclass(frozen=True)
class Suspect:
    """A module whose output changes far from the changes in its inputs.

    Attributes:
        path: of the module.
        inner: path of the first module inside whose output changes and is not a map; else `path`.
        distance: from the band to the farthest change, in input pixels.
    """

    path: str
    inner: str
    distance: int


def suspects(
    network: nn.Module,
    args: Any,
    strip: Strip,
    run: Callable[[Any], Any],
    reach: Mapping[str, int],
    excused: Collection[str] = (),
) -> tuple[list[Suspect], set[str], bool]:
    """Return the modules that mix distant pixels, and the modules that were called.

    Args:
        network: a private copy; hooks are added and removed.
        args: its arguments on the strip.
        strip: the places.
        run: runs the network on its arguments, with the same random numbers at each call.
        reach: by path of a local module, how far its output may depend on its input, in input
            pixels; other modules are tested for a distance of one band.
        excused: paths of modules that may be global.

    Returns:
        the suspects in the order in which they end, the paths called, and whether the output of
        the network itself could be judged.
    """
    watch = _Watch(network, strip, reach, excused)
    try:
        run(args)
        watch.second = True
        run(watch.changed_band(args))
    finally:
        watch.remove()
    return watch.found, watch.called, watch.judged_root


class _Watch:
    """The hooks of the two runs.

    Attributes:
        second: whether the second run is going on.
        found: suspects.
        called: paths of the modules called.
        judged_root: whether the output of the network is a map that could be compared.
    """

    def __init__(
        self, network: nn.Module, strip: Strip, reach: Mapping[str, int], excused: Collection[str]
    ) -> None:
        self.strip, self.reach, self.excused = strip, reach, excused
        self.second = False
        self.found: list[Suspect] = []
        self.called: set[str] = set()
        self.judged_root = False
        self._copies = Copies()
        self._saved: dict[tuple[str, int], tuple[list[Tensor], list[Tensor]]] = {}
        self._counts: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self._inputs: list[list[Tensor]] = []
        self._agree: list[bool] = []
        self._storages: list[set[int]] = []
        self._odd: list[str] = []  # modules whose output changes and is not a map
        self._handles = []
        for path, module in network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            if path and isinstance(module, _LOCAL) and _is_plain(module):
                continue

            def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                self._enter(path, args, kwargs)

            def leave(_: nn.Module, args: Any, kwargs: Any, out: Any, path: str = path) -> Any:
                return self._leave(path, out)

            self._handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(leave, with_kwargs=True))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def changed_band(self, value: Any) -> Any:
        """Other values in the band of each map, some of them beyond its extremes."""

        def change(t: Tensor) -> Tensor:
            dim = self.strip.axis_of(tuple(t.shape))
            if dim is None or not t.is_floating_point():
                return t
            t = t.clone()
            band = t.narrow(dim, *_narrow(self._band(t.shape[dim])))
            generator = torch.Generator().manual_seed(band.numel())
            draw = torch.rand(band.shape, generator=generator).to(t.device, t.dtype)
            least, most = t.amin(dim, keepdim=True), t.amax(dim, keepdim=True)
            band.mul_(0.2 + 0.7 * draw)
            band.copy_(torch.where(draw > 0.9, most + 0.1 * most.abs(), band))
            band.copy_(torch.where(draw < 0.1, least - 0.1 * least.abs(), band))
            return t

        return tree_map_only(Tensor, change, value)

    # ---- hooks

    def _enter(self, path: str, args: Any, kwargs: Any) -> None:
        count = self._counts[self.second]
        count[path] = count.get(path, 0) + 1
        self.called.add(path)
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if not self.second:
            self._inputs.append([self._far_copy(t) for t in inputs])
            return
        saved = self._saved.get((path, count[path]))
        wanted = saved[0] if saved else []
        agree = len(wanted) == len(inputs) and all(
            a.shape == (b := self._far(t)).shape and same_values(a, b)
            for a, t in zip(wanted, inputs, strict=False)
        )
        self._agree.append(agree)
        self._storages.append({_storage(t) for t in inputs} - {0})

    def _leave(self, path: str, out: Any) -> Any:
        tensors = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        number = self._counts[self.second][path]
        if not self.second:
            self._saved[path, number] = (
                self._inputs.pop(),
                [self._copies.of(t) for t in tensors],
            )
            return None
        clean = self._saved.pop((path, number), ([], []))[1]
        storages = self._storages.pop()
        if not self._agree.pop() or [t.shape for t in clean] != [t.shape for t in tensors]:
            return None
        dims = [self.strip.axis_of(tuple(t.shape)) for t in tensors]
        distance = 0
        for a, b, dim in zip(clean, tensors, dims, strict=True):
            if dim is not None:
                distance = max(distance, self._distance(path, a, b, dim))
            elif not agree(a, b):
                self._odd.append(path)
        if path == "" and any(dim is not None for dim in dims):
            self.judged_root = True
        if distance and path not in self.excused:
            inner = next((p for p in self._odd if not path or p.startswith(path + ".")), path)
            self.found.append(Suspect(path, inner, distance))
        back = {
            id(b): self.changed_band(a) if a.is_floating_point() else a.clone()
            for a, b, dim in zip(clean, tensors, dims, strict=True)
            if dim is not None
        }
        for tensor in tensors:  # an argument that was written to: its other users see it, too
            if id(tensor) in back and _storage(tensor) in storages:
                tensor.copy_(back.pop(id(tensor)))
        return tree_map_only(Tensor, lambda t: back.get(id(t), t), out)

    # ---- places

    def _band(self, n: int) -> slice:
        return self.strip.columns(n, self.strip.start, self.strip.stop)

    def _far(self, t: Tensor) -> Tensor:
        """The far pixels of a map, the whole of another tensor."""
        dim = self.strip.axis_of(tuple(t.shape))
        if dim is None:
            return t
        return t.narrow(dim, *_narrow(self.strip.far(t.shape[dim], self.strip.band)))

    def _far_copy(self, t: Tensor) -> Tensor:
        """A copy of the far pixels, part of that of the whole if there is one."""
        whole = self._copies.known(t)
        return self._copies.of(self._far(t)) if whole is None else self._far(whole)

    def _distance(self, path: str, clean: Tensor, changed: Tensor, dim: int) -> int:
        """Return the distance from the band to the farthest forbidden change, or 0."""
        strip, n = self.strip, clean.shape[dim]
        allowed = self.reach.get(path, strip.band)
        far = strip.far(n, allowed)
        a, b = (t.narrow(dim, *_narrow(far)) for t in (clean, changed))
        if a.numel() == 0:
            return 0
        scale = scale_of(clean)
        changed = differs(a, b, scale, loose=path in self.reach).movedim(dim, 0)
        places = changed.flatten(1).any(1).nonzero()
        if places.numel() == 0:
            return 0
        last = (far.start + int(places.max()) + 1) * strip.length // n
        return max(1, int(last - strip.stop))


def _is_plain(module: nn.Module) -> bool:
    """True if only torch's own code runs when the module is called."""
    circular = getattr(module, "padding_mode", "zeros") == "circular"
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module).__module__.startswith("torch.nn.") and not hooked and not circular


def _storage(t: Tensor) -> int:
    """The address of a tensor's memory; 0 for a lazy map, which has none."""
    return 0 if isinstance(t, WindowMap) else t.untyped_storage().data_ptr()


def _narrow(part: slice) -> tuple[int, int]:
    return part.start, part.stop - part.start
