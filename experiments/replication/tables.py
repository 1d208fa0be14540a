"""From PSNR by photograph to means, paired differences with intervals, and Markdown tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from evaluate import (
    DEGRADED,
    FEW,
    FULL,
    MORE_WAYS,
    SCALES,
    SEAM_WAYS,
    STITCH,
    WAYS,
    crops,
    tlc,
)
from jobs import JOBS, Job
from numpy.typing import NDArray
from photos import names

from glocal import StatisticsShift
from glocal.study.intervals import Interval, interval_of

DEFAULT = tlc(1.5)
CROPS = crops(1.0)
LOCAL_WAYS = (*map(tlc, SCALES), CROPS)
"""The ways among which `tune` chooses."""


@dataclass(frozen=True)
class Group:
    """The networks of one task, architecture and crop size; they differ by seed."""

    jobs: tuple[Job, ...]
    photographs: tuple[str, ...]
    psnr: NDArray[np.float64]  # (seeds, photographs, ways), dB
    seams: NDArray[np.float64]  # (seeds, photographs, SEAM_WAYS)

    @property
    def title(self) -> str:
        """Task, network and crop size in words."""
        job = self.jobs[0]
        return f"{job.task}, {job.network}, crop {job.crop}"

    def of(self, way: str) -> NDArray[np.float64]:
        """PSNR (seeds, photographs) of one method."""
        return self.psnr[..., WAYS.index(way)]

    def gain(self, way: str, over: str = FULL) -> NDArray[np.float64]:
        """Differences in PSNR (seeds, photographs)."""
        return self.of(way) - self.of(over)

    def picked(self) -> NDArray[np.float64]:
        """PSNR (seeds, photographs) of the local way that is best on the other photographs."""
        values = np.stack([self.of(way) for way in LOCAL_WAYS])  # (ways, seeds, photographs)
        means = values.mean(1)
        others = means.sum(1, keepdims=True) - means
        chosen = others.argmax(0)
        return np.stack([values[way, :, i] for i, way in enumerate(chosen)], -1)

    def best(self) -> str:
        """The TLC window with the largest mean."""
        return max((tlc(scale) for scale in SCALES), key=lambda way: self.of(way).mean())


def groups(results: dict[str, Any]) -> list[Group]:
    """The fully measured networks, grouped, in the order of the jobs."""
    wanted = set(names("held-out"))
    by_kind: dict[tuple[str, str, int], list[Job]] = {}
    for job in JOBS:
        if wanted <= set(results.get(job.name, {}).get("photographs", ())):
            by_kind.setdefault((job.task, job.network, job.crop), []).append(job)
    found = []
    for jobs in by_kind.values():
        measured = [results[job.name]["photographs"] for job in jobs]
        photos = tuple(measured[0])
        psnr = [[[m[n]["psnr_db"][w] for w in WAYS] for n in photos] for m in measured]
        seams = [[[m[n]["seam"][w] for w in SEAM_WAYS] for n in photos] for m in measured]
        found.append(Group(tuple(jobs), photos, np.array(psnr), np.array(seams)))
    return found


def over_photographs(gains: NDArray[np.float64]) -> Interval:
    """The 95 % interval over photographs of gains (seeds, photographs) averaged over the seeds."""
    return interval_of(gains.mean(0).tolist())


def interval(gains: NDArray[np.float64]) -> str:
    """The interval as text."""
    return over_photographs(gains).text()


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def means(found: list[Group]) -> str:
    """Mean PSNR over photographs and seeds by method; the best of each network bold."""
    rows = []
    for group in found:
        values = {way: float(group.of(way).mean()) for way in WAYS}
        best = max(values.values())
        cells = [f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in values.values()]
        rows.append([group.title, str(len(group.jobs)), *cells])
    return markdown(["network", "seeds", *WAYS], rows)


def differences(found: list[Group]) -> str:
    """Paired differences in dB with their intervals, and the seeds one by one."""
    rows = []
    for group in found:
        gains = group.gain(DEFAULT)
        ahead = f"{int((gains.mean(0) > 0).sum())} of {gains.shape[1]}"
        rows.append(
            [
                group.title,
                interval(group.gain(STITCH)),
                interval(gains),
                ", ".join(f"{mean:+.3f}" for mean in gains.mean(1)),
                ahead,
                f"{group.best().removeprefix('TLC ')}: {interval(group.gain(group.best()))}",
                interval(group.gain(DEFAULT, STITCH)),
            ]
        )
    head = [
        "network",
        "crop-and-stitch − full",
        f"{DEFAULT} − full",
        "the same by seed",
        "photographs ahead",
        "best window − full",
        f"{DEFAULT} − crop-and-stitch",
    ]
    return markdown(head, rows)


def crop_differences(found: list[Group]) -> str:
    """Paired differences of statistics from crops in dB, and of the way that `tune` picks."""
    rows = []
    for group in found:
        picked = group.picked() - group.of(STITCH)
        rows.append(
            [
                group.title,
                interval(group.gain(CROPS)),
                interval(group.gain(CROPS, DEFAULT)),
                interval(group.gain(CROPS, STITCH)),
                ", ".join(f"{mean:+.3f}" for mean in group.gain(CROPS, STITCH).mean(1)),
                interval(picked),
                "yes" if picked.mean() >= -0.05 else "**no**",
            ]
        )
    head = [
        "network",
        f"{CROPS} − full",
        f"{CROPS} − {DEFAULT}",
        f"{CROPS} − crop-and-stitch",
        "the same by seed",
        "picked on other photographs − crop-and-stitch",
        "within 0.05 dB",
    ]
    return markdown(head, rows)


def more_ways(results: dict[str, Any]) -> str:
    """Mean PSNR of other strides and overlaps beside the default ones."""
    ways = (FULL, STITCH, *MORE_WAYS[-2:], CROPS, *MORE_WAYS[:-2])
    rows = []
    for job in (job for job in JOBS if job.seed == 0):
        measured = results.get(job.name, {}).get("photographs", {})
        photos = [measured[n]["psnr_db"] for n in names("held-out")[:FEW] if n in measured]
        cells = []
        for way in ways:
            known = [photo[way] for photo in photos if way in photo]
            cells.append(f"{np.mean(known):.3f}" if len(known) == FEW else "–")
        rows.append([f"{job.task}, {job.network}, crop {job.crop}", *cells])
    return markdown(["network", *ways], rows)


def seams(found: list[Group]) -> str:
    """Mean jump of the error at tile borders, relative to elsewhere."""
    rows = [[group.title, *(f"{v:.3f}" for v in group.seams.mean((0, 1)))] for group in found]
    return markdown(["network", *SEAM_WAYS], rows)


def losses(found: list[Group]) -> str:
    """Photographs on which the default window loses, network by network."""
    rows = []
    for group in found:
        for over in (FULL, STITCH):
            gains = group.gain(DEFAULT, over).mean(0)
            worse = [
                f"{name} ({gain:+.2f})"
                for name, gain in zip(group.photographs, gains, strict=True)
                if gain < 0
            ]
            if worse:
                rows.append([group.title, over, ", ".join(worse)])
    return markdown(["network", f"{DEFAULT} is worse than", "on (dB)"], rows) if rows else ""


def verdicts(found: list[Group], statistics: dict[str, StatisticsShift]) -> str:
    """One list item per network: conclusions from the intervals, and the statistics shift."""
    items = []
    for group in found:
        full, stitch = group.gain(DEFAULT), group.gain(DEFAULT, STITCH)
        text = f"- **{group.title}**: {DEFAULT} {_compared(full)} the full image"
        text += f" ({interval(full)} dB) and {_compared(stitch)} crop-and-stitch"
        text += f" ({interval(stitch)} dB). Best window: {group.best().removeprefix('TLC ')}"
        worse = [tlc(s) for s in SCALES if group.gain(tlc(s)).mean() < 0]
        if worse:
            text += f"; below the full image in the mean: {', '.join(worse)}"
        tiles = group.gain(CROPS, STITCH)
        text += f". With statistics from crops it {_compared(tiles)} crop-and-stitch"
        text += f" ({interval(tiles)} dB)"
        shifts = statistics.get(group.jobs[0].name)
        if shifts:
            before, after, from_crops = shifts.mean_distances()
            text += f". The statistics of its {len(shifts.shifts)} operations lie {before:.2f}"
            text += f" deviations from those over crops on the full image, {after:.2f} with TLC, "
            text += f"{from_crops:.2f} from crops (two halves of the crops: {shifts.noise():.2f})"
        items.append(text + ".")
    return "\n".join(items)


def _compared(gains: NDArray[np.float64]) -> str:
    """Verdict on a paired difference (seeds, photographs), from interval and seeds."""
    found = over_photographs(gains)
    if found.low <= 0 <= found.high:
        return "does not differ clearly from"
    if (np.sign(gains.mean(1)) != np.sign(found.mean)).any():
        return "is apart, with signs that differ between the seeds, from"
    return "beats" if found.mean > 0 else "**loses** to"


def photographs(found: list[Group]) -> str:
    """PSNR of every photograph, mean over the seeds."""
    rows = [
        [group.title, name, *(f"{group.of(w)[:, i].mean():.2f}" for w in shown())]
        for group in found
        for i, name in enumerate(group.photographs)
    ]
    return markdown(["network", "photograph", *shown()], rows)


def shown() -> tuple[str, ...]:
    """The methods of the table by photograph."""
    return (DEGRADED, FULL, STITCH, tlc(1.0), DEFAULT, tlc(2.0), CROPS)


def shifts(by_network: dict[str, StatisticsShift]) -> str:
    """Distance of the statistic from that over crops, operation by operation."""
    rows = []
    for network, found in by_network.items():
        for shift in found.shifts:
            samples = (shift.full, shift.local, shift.from_crops)
            distances = (f"{shift.distance(values):.2f}" for values in samples)
            rows.append([network, f"`{shift.path}`", shift.operation, *distances])
    head = ["network", "module", "operation", "full image", DEFAULT, CROPS]
    return markdown(head, rows)
