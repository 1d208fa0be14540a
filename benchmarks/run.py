"""Measure what glocal costs and write docs/benchmarks/README.md.

    python benchmarks/run.py                        # all, on the CPU and on CUDA where there is one
    python benchmarks/run.py --only operations      # one section, in its place in the rest
    python benchmarks/run.py --case "mean 720x1280" # what has this in its name
    python benchmarks/run.py --limit 3600           # also sizes that take an hour
    python benchmarks/run.py --only                 # write the report anew, measure nothing

Sections: operations, attention, networks, scaling, inference, folder, rewriting. What was measured
under the same conditions (library code, versions, machine, threads, repeats, allocator) is not
measured again; `--fresh` does, as is needed after a change of a benchmark itself.
"""

import argparse
import sys
import time
from pathlib import Path

import attention
import folder
import inference
import networks
import operations
import rewriting
import scaling
import torch
from case import Case, NotMeasuredError, Settings
from conditions import ROOT, conditions
from report import report
from store import Store

from glocal import GlocalError
from glocal.images.files import write_whole

SECTIONS = {
    "operations": operations,
    "attention": attention,
    "networks": networks,
    "scaling": scaling,
    "inference": inference,
    "folder": folder,
    "rewriting": rewriting,
}
DOCS = ROOT / "docs" / "benchmarks"


def main() -> None:
    """Measure, then write."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    store = Store(arguments.out / "results.json")
    cases: list[tuple[str, Settings, dict[str, str], Case]] = []
    for device in arguments.device:
        settings = Settings(
            device, arguments.threads, arguments.repeats, arguments.limit, arguments.quick
        )
        now = conditions(settings)
        for name in arguments.only:
            found = SECTIONS[name].cases(settings)
            store.drop_others(name, device, [case.name for case in found])
            cases += [
                (name, settings, now, case)
                for case in found
                if arguments.case in case.name
                and (arguments.fresh or not store.is_finished(name, device, case.name, now))
            ]
    try:
        measure(cases, store)
    finally:  # what was measured until then is in the report
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out / "README.md", report(store, SECTIONS), GlocalError)
        print(arguments.out / "README.md")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    available = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--case", default="", help="part of the names of the cases to measure")
    parser.add_argument("--device", nargs="+", choices=available, default=available)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=150, help="seconds that a size may take")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    parser.add_argument("--quick", action="store_true", help="tiny, once: does everything run?")
    parser.add_argument("--out", type=Path, help="folder of the report, docs/benchmarks by default")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats = 1
        if arguments.out is None:
            parser.error("--quick measures nothing worth keeping: name another folder with --out")
    arguments.out = arguments.out or DOCS
    return arguments


def measure(cases: list[tuple[str, Settings, dict[str, str], Case]], store: Store) -> None:
    """Measure cases one by one and keep each at once."""
    started, done_s = time.monotonic(), 0.0
    total_s = sum(case.expected_s for *_, case in cases)
    for number, (section, settings, now, case) in enumerate(cases, 1):
        elapsed = time.monotonic() - started
        # Expectations are those of another machine; the pace so far corrects them.
        pace = elapsed / done_s if done_s > 0.05 * total_s else 1.0
        left = pace * (total_s - done_s) / 60
        print(
            f"[{number}/{len(cases)}, {elapsed / 60:.0f} min, about {left:.0f} more] "
            f"{section}, {settings.device}: {case.name}",
            file=sys.stderr,
            flush=True,
        )
        try:
            record = case.measure(store.records(section, settings.device))
        except (NotMeasuredError, MemoryError, torch.OutOfMemoryError) as reason:
            record = {"skipped": str(reason) or "there is not enough memory"}
        # A figure of other conditions, labelled so, tells more than that there is none of these.
        if "skipped" not in record or not store.is_measured(section, settings.device, case.name):
            store.put(section, settings.device, case.name, record, now)
        done_s += case.expected_s


if __name__ == "__main__":
    main()
