"""Convert the networks of `cases` and `official` with `glocal.localize`; write the table.

    pip install -e ".[spandrel]"
    python experiments/architectures/run.py --checkouts DIR      # all, about an hour
    python experiments/architectures/run.py                      # spandrel's only
    python experiments/architectures/run.py --only NAFNet HAT    # these; the others stay

Each network runs in its own process with a time and memory limit. results.json holds all records
and is saved after each network; docs/architectures.md is the table. A record that was made by the
same code of glocal, recipe and commit is kept, so that a stopped run goes on where it was.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case
from checkouts import commit_of, folder_of
from measure import TOLERANCE, allow_unmatched_torchvision, failure, measure
from official import RECIPES, Recipe
from table import write_table

import glocal

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
TABLE = HERE.parents[1] / "docs" / "architectures.md"
MEMORY_GIB = 10

Record = dict[str, Any]


def subjects(checkouts: Path | None) -> list[tuple[str, Case | Recipe]]:
    """The networks that are present here: (list of results.json, network)."""
    found: list[tuple[str, Case | Recipe]] = []
    if checkouts:
        present = {recipe.repository: folder_of(checkouts, recipe.repository) for recipe in RECIPES}
        found += [("official", recipe) for recipe in RECIPES if present[recipe.repository]]
        for repository in (name for name, folder in present.items() if not folder):
            print(f"no checkout of {repository}")
    if installed("spandrel"):
        found += [("networks", case) for case in CASES]
    return found


def installed(package: str) -> str:
    """Its version, or the empty string."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def made_by(network: Case | Recipe, checkouts: Path | None) -> str:
    """Digest of what a record depends on: glocal, torch, the recipe and the commit."""
    package = Path(glocal.__file__).parent
    digest = hashlib.sha256(torch.__version__.encode())
    for file in sorted(package.rglob("*.py")):
        digest.update(file.read_bytes())
    recipe = f"{network.train_size} {network}"
    digest.update(re.sub(r" at 0x\w+", "", recipe).encode())
    if isinstance(network, Recipe) and checkouts:
        digest.update(commit_of(network.folder(checkouts)).encode())
    return digest.hexdigest()[:16]


def described(network: Case | Recipe, checkouts: Path | None) -> Record:
    """The part of a record that is known before the network runs."""
    record: Record = {
        "name": network.name,
        "purpose": network.purpose,
        "train_size": network.crop,
        "made_by": made_by(network, checkouts),
    }
    if isinstance(network, Case):
        return record | {"architecture": network.architecture, "train_size_from": network.source}
    commit = commit_of(network.folder(checkouts)) if checkouts else ""
    return record | {"repository": network.repository, "commit": commit, "file": network.file}


def in_process(part: str, network: Case | Recipe, options: argparse.Namespace) -> Record:
    """Run `one` in a process of its own."""
    command = [sys.executable, __file__, "--one", part, network.name]
    command += ["--checkouts", str(options.checkouts)] if options.checkouts else []
    command += ["--limit", str(options.limit)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    record: Record
    if done.returncode == -signal.SIGXCPU:
        record = {"stage": "time", "error": f"not done within {options.limit} s of CPU time"}
    else:
        try:
            record = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            record = {"stage": "build", "error": last}
    seconds = round(time.perf_counter() - begin, 1)
    return described(network, options.checkouts) | record | {"total_seconds": seconds}


def one(part: str, name: str, checkouts: Path | None, limit_s: int) -> Record:
    """Build and measure one network."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30, MEMORY_GIB << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
    torch.set_num_threads(1)
    allow_unmatched_torchvision()
    torch.manual_seed(0)
    if part == "networks":
        case = next(case for case in CASES if case.name == name)
        return measure(case, case.build(), "spandrel")
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    assert checkouts
    theirs = str(recipe.folder(checkouts))
    try:
        network = recipe.build(checkouts)
    except Exception as error:  # the code of many projects runs here
        return {"stage": "build"} | failure(error, theirs)
    local = recipe.local and (lambda weights: recipe.build_local(checkouts, weights))
    return measure(recipe, network, theirs, local or None, recipe.local_leaves)


def summary(record: Record) -> str:
    rows = Counter(row["status"] for row in record.get("rows", ()))
    return (
        f"{record['name']}: {rows['local']} local, {rows['global']} global, "
        f"equal {record.get('equal', '-')} ({record.get('difference', float('nan')):.1e} "
        f"{record.get('dtype', '-')}), effect {record.get('effect', float('nan')):.1e}, "
        f"their local {record.get('their_local', float('nan')):.1e}, "
        f"{record['total_seconds']} s {record.get('error', '')[:200]}"
    )


def save(parts: dict[str, dict[str, Record]]) -> Record:
    """Write results.json."""
    results: Record = {
        "torch": torch.__version__.partition("+")[0],
        "spandrel": installed("spandrel"),
        "tolerance": {str(k).removeprefix("torch."): v for k, v in TOLERANCE.items()},
    }
    for part, records in parts.items():
        results[part] = [records[name] for name in sorted(records, key=str.lower)]
    written = RESULTS.with_suffix(".part")
    written.write_text(json.dumps(results, indent=1) + "\n")
    written.replace(RESULTS)
    return results


def kept(listed: Iterable[Record], known: Iterable[str]) -> dict[str, Record]:
    """Records by name, without those of networks that left the list."""
    names = set(known)
    return {record["name"]: record for record in listed if record["name"] in names}


def folder(text: str) -> Path:
    return Path(text).resolve()  # a recipe changes the current folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkouts", type=folder, help="folder of owner/name or owner+name")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="names of networks, run anew in this order"
    )
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes")
    parser.add_argument("--limit", type=int, default=600, help="CPU seconds per network")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with contextlib.redirect_stdout(sys.stderr):
            record = one(*options.one, options.checkouts, options.limit)
        print(json.dumps(record))
        return
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    parts = {
        "networks": kept(old.get("networks", ()), (case.name for case in CASES)),
        "official": kept(old.get("official", ()), (recipe.name for recipe in RECIPES)),
    }

    def stale(part: str, network: Case | Recipe) -> bool:
        if options.only:
            return network.name in options.only
        record = parts[part].get(network.name, {})
        return record.get("made_by") != made_by(network, options.checkouts)

    wanted = [(part, network) for part, network in subjects(options.checkouts)]
    wanted = [(part, network) for part, network in wanted if stale(part, network)]
    if options.only:
        wanted.sort(key=lambda each: options.only.index(each[1].name))
    with ThreadPoolExecutor(options.jobs) as pool:
        records = pool.map(lambda each: in_process(*each, options), wanted)
        for (part, _), record in zip(wanted, records, strict=True):
            parts[part][record["name"]] = record
            print(summary(record), flush=True)
            write_table(save(parts), TABLE)
    write_table(save(parts), TABLE)


if __name__ == "__main__":
    main()
