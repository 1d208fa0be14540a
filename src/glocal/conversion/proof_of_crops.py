"""Prove that converted modules take from crops the statistics of the original.

A network that has run on a crop runs on that crop again with the recorded statistics, as if they
were those of four crops around it. Interpolated between equal values they are the same, so the
result must be that of the original; and what a module does on a whole image is what runs here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from glocal.conversion.comparison import excess
from glocal.conversion.proof_runs import Converted, Network, Pair, isolated, near_multiples
from glocal.conversion.rules.rule import Local
from glocal.ops.crops import CropGrid, CropStatistics, Record, Recording, Replay, running
from glocal.ops.windows import CROPS, Size

__all__ = ["refuted", "take_crops"]


def take_crops(root: nn.Module, paths: Sequence[str]) -> None:
    """Make the local modules at and below some paths take statistics from crops."""
    for local in _locals(root, paths):
        local.window = CROPS


def refuted(converted: Converted, paths: Sequence[str]) -> dict[str, str]:
    """Modules that cannot take statistics from crops, and why.

    Args:
        converted: a conversion whose modules take statistics from windows.
        paths: of the modules that are to take them from crops.

    Returns:
        reasons by path; the others together are proven.
    """
    with isolated():
        proof = _Proof.of(Pair(converted))
        if not proof.holds(paths):
            wrong = [path for path in paths if not proof.holds([path])]
            if not proof.holds([path for path in paths if path not in wrong]):
                wrong = list(paths)
            found = dict.fromkeys(wrong, "its result with statistics from crops is another")
        else:
            found = {}
        idle = proof.idle([path for path in paths if path not in found])
        return found | dict.fromkeys(idle, "it computes no statistic that crops could give")


@dataclass(frozen=True)
class _Proof:
    """The result of the original on one crop, and the local network to compare.

    Attributes:
        local: the converted network.
        args: its arguments on the crop.
        size: (height, width) of the crop.
        wanted: the results of the original.
    """

    local: Network
    args: tuple[Tensor, ...]
    size: Size
    wanted: list[Tensor]

    @classmethod
    def of(cls, pair: Pair) -> "_Proof":
        made = pair.converted
        for size in near_multiples(made.train_size, made.train_size, up=False):
            args = pair.local.arguments(size)
            try:
                return cls(pair.local, args, size, pair.original.results(args))
            except Exception:  # a size that the network does not take
                continue
        args = pair.local.arguments(made.scan.size)
        return cls(pair.local, args, made.scan.size, pair.original.results(args))

    def holds(self, paths: Sequence[str]) -> bool:
        """True if the network gives the result of the original in both passes."""
        recording = Recording()
        try:
            with _on_crops(self.local.module, paths):
                with running(recording):
                    first = self.local.results(self.args)
                    recording.finish()
                with running(Replay(_four_crops(recording, self.size))):
                    second = self.local.results(self.args)
        except Exception:  # a form that nobody thought of
            return False
        return excess(self.wanted, first) <= 1 and excess(self.wanted, second) <= 1

    def idle(self, paths: Sequence[str]) -> list[str]:
        """The modules that record nothing."""
        root, recording = self.local.module, Recording()
        recorded, handles = dict.fromkeys(paths, 0), []
        for path in paths:

            def enter(*_: object, path: str = path) -> None:
                recorded[path] -= recording.count

            def leave(*_: object, path: str = path) -> None:
                recorded[path] += recording.count

            module = root.get_submodule(path)
            handles += [
                module.register_forward_pre_hook(enter), module.register_forward_hook(leave)
            ]  # fmt: skip
        with _on_crops(root, paths), running(recording):
            self.local.results(self.args)
        for handle in handles:
            handle.remove()
        return [path for path, count in recorded.items() if not count]


def _locals(root: nn.Module, paths: Sequence[str]) -> list[Local]:
    inside = (module for path in paths for module in root.get_submodule(path).modules())
    return [module for module in inside if isinstance(module, Local)]


@contextmanager
def _on_crops(root: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """Inside the ``with``, modules take statistics from crops."""
    before = [(local, local.window) for local in _locals(root, paths)]
    take_crops(root, paths)
    try:
        yield
    finally:
        for local, window in before:
            local.window = window


def _four_crops(recording: Recording, size: Size) -> CropStatistics:
    """Return the records of one crop as those of four crops around its centre."""
    one = recording.on(CropGrid((0,), (0,), size))
    records = tuple(
        Record(each.size, tuple(v.expand(2, 2, *v.shape[2:]) for v in each.values))
        for each in one.records
    )
    rows, columns = ((-(n // 4), n // 4) for n in size)
    return CropStatistics(CropGrid(rows, columns, size), records)
