"""Record the statistic of each global operation while a network runs.

A scan of shapes finds the global operations. Here the network runs with values, one image at a
time, and the same aten calls are identified by the module they run in, their name, and their index
among the calls of that name in that module.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glocal.errors import GlocalError, ScanError
from glocal.inference.colours import as_input, colours_for, taken_channels
from glocal.inference.placing import device_of, resolve_dtype
from glocal.inference.runner import ModelRunner
from glocal.scanning.discover import Scan
from glocal.scanning.recorder import operation_name, source_line
from glocal.scanning.sandbox import isolated_copy, keep_random_state, track_modules
from glocal.shortages import is_out_of_memory
from glocal.study.shift.distances import Values
from glocal.study.shift.statistic import Key, OperationStatistic, canonical, statistics_of

__all__ = ["Probe", "Recorder"]


class Recorder(TorchDispatchMode):
    """Records statistics among the calls inside its context.

    Attributes:
        statistics: what to record.
        paths: of the running modules, the innermost last; `sandbox.track_modules` updates it.
        count: number of calls of each name in each module.
        found: the recorded statistics, (channels,), by their index in `statistics`.
        lines: of the network's source that computed them, by the same index.
        muted: nothing is recorded while this is above 0.
    """

    def __init__(self, statistics: tuple[OperationStatistic, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.statistics = statistics
        self.opens: dict[Key, list[int]] = {}
        self.closes: dict[Key, list[int]] = {}
        for place, each in enumerate(statistics):
            self.opens.setdefault(each.opens, []).append(place)
            self.closes.setdefault(each.closes, []).append(place)
        self.paths: list[str] = []
        self.muted = 0
        self.restart()

    def restart(self, count: Counter[tuple[str, str]] | None = None) -> None:
        """Discard what was recorded and reset the count."""
        self.count: Counter[tuple[str, str]] = Counter(count)
        self.found: dict[int, Tensor] = {}
        self.lines: dict[int, str] = {}
        self._values: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if self.muted or not tensors:
            return out
        place = self.paths[-1] if self.paths else "", canonical(operation_name(func))
        key = (*place, self.count[place])
        self.count[place] += 1
        for index in self.opens.get(key, ()):
            given = (t.numel() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
            self._values[index] = next(given)
            self.lines[index] = source_line()
        for index in self.closes.get(key, ()):
            pixels = max(1, self._values.get(index, 1) // max(1, tensors[0].numel()))
            self.found[index] = self.statistics[index].of(tensors, pixels)
        return out


class Probe:
    """Runs a network on images and returns the statistics of its global operations.

    >>> from glocal.scanning.example import scan_network
    >>> norm = nn.InstanceNorm2d(3)
    >>> probe = Probe(norm, scan_network(norm, (8, 8), None))
    >>> probe.statistics[0].name
    'mean, inverse deviation'
    >>> (values,) = probe(torch.tensor([[[[0.0, 1.0]]] * 3]))
    >>> values.round(3).tolist()
    [[0.5, 0.5, 0.5, 2.0, 2.0, 2.0]]

    Attributes:
        statistics: what is measured, in the order of the results of a call.
    """

    def __init__(
        self, model: nn.Module, scan: Scan, dtype: torch.dtype | str | None = None
    ) -> None:
        """Prepare a copy of `model`; `dtype` as in `glocal.restore`."""
        self._model = model
        self.statistics = statistics_of(scan)
        self._recorder = Recorder(self.statistics)
        self._network = isolated_copy(model)
        track_modules(self._network, self._recorder.paths)
        device = device_of(self._network, None)
        restarting = _Restarting(self._network, self._restart)
        self._runner = ModelRunner(restarting, resolve_dtype(restarting, dtype), device, None)

    def __call__(self, image: Tensor) -> list[Values]:
        """Return the statistics of one image, each (samples, channels).

        A global statistic has one sample.

        Args:
            image: (1, c, h, w) in [0, 1]; grey is replicated for a network of three channels, and a
                network of one channel gets the luma.

        Raises:
            ScanError: the network makes other calls than in the scan.
            GlocalError: the image does not fit into memory.
        """
        x = self._input(image)
        size = f"{x.shape[-2]}x{x.shape[-1]}"
        try:
            with _as_scanned(self._recorder):
                self._runner(x)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise GlocalError(
                f"not enough memory on {self._runner.device} for a whole image of {size} pixels; "
                "analyze smaller images"
            ) from None
        for index, each in enumerate(self.statistics):
            o = each.operation
            if not self._samples(index) or self._recorder.lines.get(index) not in (None, o.line):
                raise ScanError(
                    f"the network makes other calls on an image of {size} than at its training "
                    f"size: {o.function} in '{o.path}' ({o.line}) was not called"
                )
        return [torch.stack(self._samples(i)).numpy() for i in range(len(self.statistics))]

    def _input(self, image: Tensor) -> Tensor:
        taken = taken_channels(self._model, image.shape[1])
        colours = colours_for(image.shape[1], taken, "luma")
        return as_input(image.to(self._runner.device), colours)

    def _restart(self) -> None:
        self._recorder.restart()

    def _samples(self, index: int) -> list[Tensor]:
        """Return the samples of one statistic in the last run."""
        return [self._recorder.found[index]] if index in self._recorder.found else []


class _Restarting(nn.Module):
    """A network whose every call restarts the record.

    The runner calls a network again with padding if it refuses a size; only the last call counts.
    """

    def __init__(self, model: nn.Module, restart: Callable[[], None]) -> None:
        super().__init__()
        self.model = model
        self.restart = restart

    def forward(self, x: Tensor) -> Tensor:
        self.restart()
        results = [t for t in tree_leaves(self.model(x)) if isinstance(t, Tensor) and t.ndim == 4]
        # the runner only needs to see whether the network accepts the size: any output will do
        return max(results, key=Tensor.numel, default=x)


@contextmanager
def _as_scanned(recorder: Recorder) -> Iterator[None]:
    """Run the body under the conditions of the scan, with a recorder."""
    with ExitStack() as stack:
        # in inference mode torch dispatches other operations
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(keep_random_state())
        # fused attention hides its product; the scan has seen the separate operations
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(recorder)
        yield
