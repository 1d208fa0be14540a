"""Measure what glocal costs and write docs/benchmarks/README.md.

    python benchmarks/run.py                        # all, on the CPU and, if present, CUDA
    python benchmarks/run.py --only operations      # one section; the others stay
    python benchmarks/run.py --case "mean 720x1280" # cases whose name contains this
    python benchmarks/run.py --limit 3600           # also sizes that take an hour
    python benchmarks/run.py --only                 # only rewrite the report

Sections: operations, attention, networks, scaling, inference, folder, rewriting, ways. Cases that
were measured under the same conditions (library code, versions, machine, threads, repeats,
allocator) are skipped; `--fresh` measures them again, which a change of the benchmark itself
requires.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import attention
import bits
import engines
import folder
import inference
import networks
import operations
import rewriting
import runtimes
import scaling
import torch
import ways
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
    "ways": ways,
    "engines": engines,
    "runtimes": runtimes,
    "bits": bits,
}
DOCS = ROOT / "docs" / "benchmarks"


def main() -> None:
    """Measure the cases and write the report."""
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
        measure(cases, store, arguments.minutes)
    finally:  # the report holds everything measured so far
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out / "README.md", report(store, SECTIONS), GlocalError)
        print(arguments.out / "README.md")


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    available = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--case", default="", help="measure cases whose name contains this")
    parser.add_argument("--device", nargs="+", choices=available, default=available)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=150, help="time limit of a case in seconds")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no case after so many minutes"
    )
    parser.add_argument("--fresh", action="store_true", help="repeat measurements that exist")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once, as a smoke test")
    parser.add_argument("--out", type=Path, help="folder of the report (default: docs/benchmarks)")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats = 1
        if arguments.out is None:
            parser.error("--quick measures nothing worth keeping: name another folder with --out")
    arguments.out = arguments.out or DOCS
    return arguments


def measure(
    cases: list[tuple[str, Settings, dict[str, str], Case]], store: Store, minutes: float
) -> None:
    """Measure cases one by one and store each at once; begin none after so many minutes."""
    started, done_s = time.monotonic(), 0.0
    total_s = sum(case.expected_s for *_, case in cases)
    for number, (section, settings, now, case) in enumerate(cases, 1):
        elapsed = time.monotonic() - started
        if elapsed > 60 * minutes:
            print(f"stopped before case {number} of {len(cases)}: --minutes", file=sys.stderr)
            return
        # Estimates come from another machine; the pace so far corrects them.
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
        # An old figure, labelled with its conditions, is worth more than "skipped".
        if "skipped" not in record or not store.is_measured(section, settings.device, case.name):
            store.put(section, settings.device, case.name, record, now)
        done_s += case.expected_s


if __name__ == "__main__":
    main()
