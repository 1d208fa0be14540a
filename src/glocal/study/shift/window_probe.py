"""Record the statistics of global operations under TLC, by the law of windows.

A local statistic at a pixel is the global one of the pixel's window. So the converted network runs
on the whole image, the arguments of its local modules are intercepted, and the *original* modules
run on windows of these arguments.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from glocal.conversion.localize import plan_of
from glocal.conversion.rewrite.arguments import Arguments, read_arguments
from glocal.conversion.rules.rule import Local
from glocal.errors import ConversionError, GlocalError, ScanError
from glocal.ops.windows import Size, scale_window, start_of
from glocal.scanning.dims import role
from glocal.scanning.discover import Scan
from glocal.scanning.modules import ancestors
from glocal.scanning.sandbox import isolated_copy, track_modules
from glocal.scanning.user_code import failure
from glocal.shortages import is_out_of_memory
from glocal.study.shift.probe import Probe

__all__ = ["PIXELS_AN_AXIS", "WindowProbe", "sampled_pixels"]

PIXELS_AN_AXIS = 8
"""Local statistics are sampled at this many rows and columns of pixels."""


class WindowProbe(Probe):
    """Returns the local statistics at 8x8 pixels, evenly spaced over each map.

    They are exact if the local module is a pool or norm. Convolutions between the input of the
    module and the operation (in transposed attention, in a rewritten block) see padding at the
    border of each window, which affects a few rows of pixels. Operations that mix pixels run on
    few overlapping windows in the converted network; here they too run on the windows of the 8x8
    pixels. An operation that the plan leaves global has one sample, its statistic in the converted
    network.

    >>> import torch
    >>> from glocal.conversion.localize import localize
    >>> from glocal.scanning.example import scan_network
    >>> norm = nn.InstanceNorm2d(3)
    >>> local = localize(norm, 8, window=4)
    >>> probe = WindowProbe(norm, scan_network(norm, (8, 8), None), local)
    >>> (values,) = probe(torch.arange(16.0).expand(1, 3, 16, 16))
    >>> values.shape, values[:8, 0].tolist()
    ((64, 6), [1.5, 3.5, 5.5, 7.5, 9.5, 11.5, 13.5, 13.5])
    """

    def __init__(
        self,
        model: nn.Module,
        scan: Scan,
        converted: nn.Module,
        dtype: torch.dtype | str | None = None,
        pixels: int = PIXELS_AN_AXIS,
    ) -> None:
        """Prepare copies of `model` and of its converted form; sample so many pixels an axis."""
        super().__init__(converted, scan, dtype)
        self._pixels = pixels
        self._scan = scan
        self._plan = plan_of(converted)
        self._original = isolated_copy(model)
        track_modules(self._original, self._recorder.paths)
        self._arguments: dict[tuple[str, int], Arguments] = {}
        self._inside: dict[str, list[int]] = {}
        local = {row.path for row in self._plan.with_status("local")}
        local |= {path for path, m in self._network.named_modules() if isinstance(m, Local)}
        for index, each in enumerate(self.statistics):
            above = [path for path in ancestors(each.operation.path) if path in local]
            if above:
                self._inside.setdefault(above[-1], []).append(index)
        for path in self._inside:
            self._listen(path)

    def _restart(self) -> None:
        super()._restart()
        self._recorder.muted = 0
        self._calls: Counter[str] = Counter()
        self._found: dict[int, list[Tensor]] = {}

    def _samples(self, index: int) -> list[Tensor]:
        return self._found.get(index) or super()._samples(index)

    def _listen(self, path: str) -> None:
        """Make calls of the local module at a path run the original on windows, too."""

        def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
            if not self._recorder.muted:
                self._run_windows(path, args, kwargs)
            self._recorder.muted += 1

        def leave(*_: Any) -> None:
            self._recorder.muted -= 1

        module = self._network.get_submodule(path)
        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave, always_call=True)

    def _run_windows(self, path: str, args: Any, kwargs: Any) -> None:
        recorder, original = self._recorder, self._original.get_submodule(path)
        arguments = self._read(path)
        windows = {
            index: self._plan.train_size
            if self.statistics[index].operation.kind == "grid"
            else self._plan.window
            for index in self._inside[path]
        }
        outside, before = (recorder.found, recorder.lines), Counter(recorder.count)
        for window in dict.fromkeys(windows.values()):
            for times, (a, k) in _windows(
                arguments, args, kwargs, window, self._scan.size, self._pixels
            ):
                recorder.restart(before)
                try:
                    original(*a, **k)
                except Exception as error:
                    if isinstance(error, GlocalError) or is_out_of_memory(error):
                        raise
                    raise ScanError(
                        f"'{path}' does not run on windows of {window[0]}x{window[1]} pixels: "
                        f"{failure(error)}\n"
                        "Choose another window, or name the module in keep_global."
                    ) from error
                for index, values in recorder.found.items():
                    if windows.get(index) == window:
                        self._found.setdefault(index, []).extend([values] * times)
        recorder.found, recorder.lines = outside

    def _read(self, path: str) -> Arguments:
        """Return how the scan read the arguments of this call of the module."""
        call = path, self._calls[path]
        self._calls[path] += 1
        if call not in self._arguments:
            try:
                runs = [trace.inputs[path][call[1]] for trace in self._scan.traces]
                self._arguments[call] = read_arguments(runs)
            except (ConversionError, IndexError) as error:
                raise ScanError(
                    f"'{path}' cannot run on windows of its arguments: {error}\n"
                    "Name it in keep_global to skip it."
                ) from error
        return self._arguments[call]


def sampled_pixels(size: int, count: int = PIXELS_AN_AXIS) -> list[int]:
    """Return the pixels of an axis at which local statistics are sampled.

    >>> sampled_pixels(16)
    [1, 3, 5, 7, 9, 11, 13, 15]
    """
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def _windows(
    arguments: Arguments, args: Any, kwargs: Any, window: Size, scanned: Size, count: int
) -> Iterator[tuple[int, Any]]:
    """Yield the arguments of a call in each window of the sampled pixels.

    Args:
        arguments: how to read args and kwargs.
        args, kwargs: of the call on the whole map.
        window: (height, width) in input pixels.
        scanned: (height, width) of the input that `arguments` come from.
        count: pixels that are sampled along each axis.

    Yields:
        How many of the sampled pixels have this window, and (args, kwargs) in it.
    """
    leaves, structure = tree_flatten((args, kwargs))
    tensors = []
    for leaf, given in zip(leaves, arguments.inputs, strict=True):
        if given.name is not None:
            if given.pixels is not None and given.size is not None:
                leaf = leaf.unflatten(given.pixels, (leaves[given.size[0]], leaves[given.size[1]]))
            tensors.append(leaf)
    follows = [
        [role((a, b, c)) for a, b, c in zip(*given.shapes, strict=True)]
        for given in arguments.tensors
    ]
    # lengths and starts are computed for the smallest map, so that they fit the others too
    maps = [
        [(given.shapes[0][roles.index(axis)], t.shape[roles.index(axis)]) for axis in "HW"]
        for given, roles, t in zip(arguments.tensors, follows, tensors, strict=True)
        if {"H", "W"} <= set(roles)
    ]
    if not maps:
        raise ConversionError("none of its arguments has height and width")
    (h, height), (w, width) = min(maps)
    lengths = scale_window((h, w), window, scanned)
    lengths = (min(lengths[0], height), min(lengths[1], width))
    rows, columns = (
        Counter(start_of(pixel, length, size) for pixel in sampled_pixels(size, count))
        for length, size in zip(lengths, (height, width), strict=True)
    )
    for top, above in rows.items():
        for left, beside in columns.items():
            cut = []
            for t, scan, roles in zip(tensors, arguments.tensors, follows, strict=True):
                for dim, (axis, size) in enumerate(zip(roles, scan.shapes[0], strict=True)):
                    if axis in ("H", "W"):
                        at = axis == "W"
                        scale = Fraction(size, (h, w)[at])
                        start = int((top, left)[at] * scale)
                        stop = min(start + int(lengths[at] * scale), t.shape[dim])
                        t = t.narrow(dim, start, stop - start)
                cut.append(t.clone())  # the module may write into it
            yield above * beside, tree_unflatten(_replaced(arguments, leaves, cut), structure)


def _replaced(arguments: Arguments, leaves: list[Any], tensors: list[Tensor]) -> list[Any]:
    """Return the leaves of a call with its tensors, and their sizes, replaced."""
    queue = iter(tensors)
    made = []
    for place, (leaf, given) in enumerate(zip(leaves, arguments.inputs, strict=True)):
        if given.name is not None:
            t = next(queue)
            leaf = t if given.pixels is None else t.flatten(given.pixels, given.pixels + 1)
        elif place in arguments.size_sources:
            at, dim = arguments.size_sources[place]
            leaf = tensors[at].shape[dim]
        made.append(leaf)
    return made
