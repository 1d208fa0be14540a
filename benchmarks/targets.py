"""Performance targets and their outcome."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import attention
import engines
import inference
import networks
import operations
import runtimes
import ways
from case import Record
from manners import CALLED, HOW
from store import Store
from tables import table, times
from timing import ratio

REMARKS = Path(__file__).with_name("remarks.md")
"""Hand-written explanations of missed targets; each heading is a target key."""

Figure = Callable[[Record], float]


@dataclass(frozen=True)
class Target:
    """A bound on a figure of one case.

    Attributes:
        key: heading of its remark.
        cases: case names in order of preference; the first measured one counts.
        figure: computes the figure of a record; NaN if the record lacks it.
        at_least: True if the bound is a lower bound.
    """

    key: str
    text: str
    section: str
    device: str
    cases: tuple[str, ...]
    figure: Figure
    bound: float
    at_least: bool = False

    def excess(self, value: float) -> float:
        """Relative excess over the bound; 0 or less if met."""
        return self.bound / value - 1 if self.at_least else value / self.bound - 1


def seconds(top: str, bottom: str) -> Figure:
    """Time of one variant ÷ that of another."""
    return lambda record: ratio(record, top, bottom)


def memory(top: str, bottom: str) -> Figure:
    """Peak memory of one variant ÷ that of another."""
    return lambda record: ratio(record, top, bottom, "peak_mib")


def difference(variant: str) -> Figure:
    """Largest difference of a variant's output from the official one's."""
    return lambda record: record["difference"].get(variant, math.nan)


ENGINE_BOUNDS = (("exact", 1.2, 1.2), ("fast", 1.08, 1.1), ("second pass", 1.0, 1.1))
"""Variants of an exported network and their bounds of time and memory."""
MEAN = partial(operations.case_name, "mean", (720, 1280), 384)
NAFNET = partial(networks.case_name, "NAFNet-w32", (720, 1280))
OFFICIAL = inference.variant_name("official", "default")
RESTORE = partial(inference.variant_name, "restore")
INFERENCE = tuple(inference.case_name("NAFNet-w32", size) for size in reversed(inference.SIZES))


def restormer(dtype: str, manner: str) -> tuple[str, ...]:
    """Restormer cases, largest image first."""
    sizes = [size for size, _ in reversed(networks.RUNGS)]
    return tuple(networks.case_name("Restormer", size, dtype, manner) for size in sizes)


def on_cpu() -> list[Target]:
    """Targets for two cores, float32."""
    mean = (MEAN("float32"),)
    found = [
        Target(
            "mean-exact",
            "local mean, 1×64×720×1280, window 384: exact ÷ copy of the tensor (`clone`)",
            *("operations", "cpu", mean, seconds("exact", "clone"), 1.5),
        ),
        Target(
            "mean-exact-map",
            "the same with every pixel of the map written ÷ copy of the tensor (`clone`)",
            *("operations", "cpu", mean, seconds("exact map", "clone"), 1.5),
        ),
        Target(
            "mean-fast",
            "local mean, 1×64×720×1280, window 384: fast ÷ copy of the tensor (`clone`)",
            *("operations", "cpu", mean, seconds("fast", "clone"), 0.5),
        ),
    ]
    for manner, how in HOW.items():
        nafnet = (NAFNET("float32", manner),)
        found += [
            Target(
                f"nafnet-exact-{manner}",
                f"NAFNet-w32 at 720p, {how}, exact: time, local ÷ global",
                *("networks", "cpu", nafnet, seconds("exact", "global"), 1.08),
            ),
            Target(
                f"nafnet-memory-{manner}",
                f"NAFNet-w32 at 720p, {how}, exact: peak memory, local ÷ global",
                *("networks", "cpu", nafnet, memory("exact", "global"), 1.05),
            ),
            Target(
                f"nafnet-fast-{manner}",
                f"NAFNet-w32 at 720p, {how}, fast: time, local ÷ global",
                *("networks", "cpu", nafnet, seconds("fast", "global"), 1.02),
            ),
            Target(
                f"restormer-{manner}",
                f"Restormer end to end, {how}: time, local ÷ global",
                *("networks", "cpu", restormer("float32", manner)),
                *(seconds("exact", "global"), 1.05),
            ),
        ]
    for manner, level, batch in product(HOW, attention.LEVELS, attention.BATCHES):
        name = attention.case_name(level, batch, "float32", manner)
        subject, _ = name.split(" float32, ")
        found.append(
            Target(
                f"attention-{level[0]}-batch-{batch}-{manner}",
                f"transposed attention, {subject}, {HOW[manner]}: local ÷ global",
                *("attention", "cpu", (name,), seconds("local", "global"), 1.2),
            )
        )
    for name in ways.NS_A_PIXEL:
        sizes = tuple(ways.case_name(name, size) for size, _ in reversed(ways.SIZES))
        for variant, bound in (
            ("second pass", 0.9 if name == "Restormer" else 1.0),
            ("crops 1", 2.1),
            ("crops 2", 1.45),
        ):
            found.append(
                Target(
                    f"{name}-{variant}".lower().replace(" ", "-"),
                    f"{name}, statistics from crops, {variant}: time ÷ full image",
                    *("ways", "cpu", sizes, seconds(variant, "full"), bound),
                )
            )
    for name, engine in product(engines.NS_A_PIXEL, engines.ENGINES):
        exported = tuple(engines.case_name(name, size, engine) for size in reversed(engines.SIZES))
        for variant, time_bound, memory_bound in ENGINE_BOUNDS:
            key = f"{name}-{engine}-{variant}".lower().replace(" ", "-")
            about = f"{name} exported to {engine}, {variant}"
            found += [
                Target(
                    key,
                    f"{about}: time ÷ global",
                    *("engines", "cpu", exported, seconds(variant, "global"), time_bound),
                ),
                Target(
                    f"{key}-memory",
                    f"{about}: peak memory ÷ global",
                    *("engines", "cpu", exported, memory(variant, "global"), memory_bound),
                ),
            ]
    for name in engines.NS_A_PIXEL:
        restored = tuple(runtimes.case_name(name, size) for size in reversed(runtimes.SIZES))
        for variant, bound in (("torch", 1.3), ("OpenVINO", 1.05)):
            found.append(
                Target(
                    f"{name}-restore-{variant}".lower(),
                    f"{name}: `glocal.restore` with TLC in {variant} ÷ OpenVINO's global graph",
                    *("runtimes", "cpu", restored, seconds(variant, runtimes.GLOBAL), bound),
                )
            )
    return [
        *found,
        Target(
            "restore",
            "NAFNet-w32: official source ÷ `glocal.restore`",
            *("inference", "cpu", INFERENCE, seconds(OFFICIAL, RESTORE("default")), 1.5, True),
        ),
        Target(
            "restore-tuned",
            "the same with an allocator that retains freed memory for `glocal.restore`",
            *("inference", "cpu", INFERENCE, seconds(OFFICIAL, RESTORE("tuned")), 1.5, True),
        ),
        Target(
            "restore-difference",
            "the same: largest difference of the outputs",
            *("inference", "cpu", INFERENCE, difference(RESTORE("default")), 1e-4),
        ),
    ]


def on_cuda(dtype: str) -> list[Target]:
    """Targets for a data-centre GPU (H100)."""
    nafnet = (NAFNET(dtype, CALLED),)
    return [
        Target(
            f"nafnet-exact-cuda-{dtype}",
            f"NAFNet-w32 at 720p, exact, {dtype}: time, local ÷ global",
            *("networks", "cuda", nafnet, seconds("exact", "global"), 1.10),
        ),
        Target(
            f"nafnet-fast-cuda-{dtype}",
            f"NAFNet-w32 at 720p, fast, {dtype}: time, local ÷ global",
            *("networks", "cuda", nafnet, seconds("fast", "global"), 1.03),
        ),
        Target(
            f"restormer-cuda-{dtype}",
            f"Restormer end to end, {dtype}: time, local ÷ global",
            *("networks", "cuda", restormer(dtype, CALLED), seconds("exact", "global"), 1.10),
        ),
        Target(
            f"mean-cuda-{dtype}",
            f"local mean, 1×64×720×1280, window 384, {dtype}: exact, every pixel written, ÷ one "
            "read and one write of the tensor (`copy_`)",
            *("operations", "cuda", (MEAN(dtype),), seconds("exact map", "copy"), 1.5),
        ),
    ]


TARGETS = (*on_cpu(), *on_cuda("float32"), *on_cuda("float16"))


def summary(store: Store, remarks: Mapping[str, str]) -> str:
    """Table of all targets with outcome, followed by the remarks."""
    unknown = set(remarks) - {target.key for target in TARGETS}
    if unknown:
        raise ValueError(f"{REMARKS.name}: unknown target keys: {', '.join(sorted(unknown))}")
    rows = []
    for target in TARGETS:
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        rows.append([target.text, target.device, bound, *_outcome(target, store)])
    lines = [table(["target", "device", "bound", "measured", "outcome"], rows)]
    lines += [
        f"**{target.text}** ({target.device}). {remarks[target.key]}"
        for target in TARGETS
        if target.key in remarks
    ]
    return "\n\n".join(lines)


def read_remarks(path: Path = REMARKS) -> dict[str, str]:
    """Remarks by target key; empty if the file does not exist."""
    if not path.exists():
        return {}
    parts = ("\n" + path.read_text(encoding="utf-8")).split("\n## ")[1:]
    pairs = (part.partition("\n") for part in parts)
    return {key.strip(): text.strip() for key, _, text in pairs}


def _outcome(target: Target, store: Store) -> tuple[str, str]:
    records = store.records(target.section, target.device)
    if not records:
        why = "no CUDA device" if target.device == "cuda" else f"run --only {target.section}"
        return "–", f"not measured here: {why}"
    reasons = []
    for name in target.cases:
        if name not in records:
            continue
        if "skipped" in records[name]:
            reasons.append(records[name]["skipped"])
            continue
        value = target.figure(records[name])
        if math.isnan(value):
            reasons.append("no such form, or memory cannot be measured here")
            continue
        measured = times(value) if value >= 0.01 else f"{value:.0e}"
        if len(target.cases) > 1:
            measured += f" ({name})"
        excess = target.excess(value)
        return measured, "met" if excess <= 0 else f"missed by {100 * excess:.3g} %"
    return "–", f"not measured: {reasons[0] if reasons else 'no such case'}"
