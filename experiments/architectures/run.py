"""Convert every architecture of spandrel and spandrel_extra_arches with `glocal.localize`.

    pip install -e ".[spandrel]"
    python experiments/architectures/run.py                      # all, in some minutes
    python experiments/architectures/run.py --only NAFNet HAT    # these; the others stay

Each network runs in its own process with a time and memory limit. results.json holds all records
and is saved after each network; docs/architectures.md is the table.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case
from table import write_table
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import glocal
from glocal.errors import GlocalError

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
TABLE = HERE.parents[1] / "docs" / "architectures.md"
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Bound of the largest difference relative to the largest value."""
MEMORY_GIB = 10
RULES = {rule.name for rule in glocal.DEFAULT_RULES}


def allow_unmatched_torchvision() -> None:
    """Make spandrel importable beside a torchvision that was built for another torch."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        allow_unmatched_torchvision.library = library  # definitions last as long as this object


def randomise(network: nn.Module) -> None:
    """Set random weights at the scale of their fan-in; no parameter stays at zero or one."""
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    with torch.no_grad():
        for module in network.modules():
            for parameter in module.parameters(recurse=False):
                if not parameter.is_floating_point():
                    continue
                if isinstance(module, nn.Linear | nn.Conv2d) and parameter.ndim > 1:
                    parameter.copy_(noise(parameter) / parameter[0].numel() ** 0.5)
                elif parameter.numel() == 1 or parameter.std() == 0:
                    parameter.add_(0.1 * noise(parameter))


def image(case: Case, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Arguments of forward: a ramp with noise that grows along it, and a mask if required."""
    torch.manual_seed(1)
    ramp = torch.linspace(0.1, 0.8, height)[:, None] * torch.linspace(0.3, 1, width)
    noisy = ramp * (1 + 0.4 * torch.randn(1, case.image_channels, height, width))
    extra = case.inputs(height, width)[1:] if case.inputs else ()
    return tuple(t.to(dtype) for t in (noisy.clamp(0, 1), *extra))


def outputs(network: nn.Module, arguments: tuple[Tensor, ...]) -> list[Tensor]:
    torch.manual_seed(2)  # some draw noise as they run
    with torch.no_grad():
        results = network(*(t.clone() for t in arguments))  # some write to their input
    return [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]


def difference(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference of all outputs, each relative to its largest value."""
    pairs = list(zip(got, wanted, strict=True))
    errors = [(a - b).abs().max() / b.abs().max().clamp_min(1e-30) for a, b in pairs]
    return float(max(errors))


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, GlocalError) else f"{type(error).__name__}: {text}"[:400]


def measure(case: Case) -> dict[str, Any]:
    """The record of one network, as complete as possible."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = case.build()
    randomise(network)
    record: dict[str, Any] = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "stage": "scan",
    }
    sized: dict[str, Any] = {"example": case.inputs} if case.inputs else {}
    begin = time.perf_counter()
    try:
        local = glocal.localize(network, case.crop, allow_global=True, **sized)
    except Exception as error:  # not only GlocalError: a bug of glocal is a finding too
        square, higher = (
            runs(network, image(case, n * case.crop, case.crop, torch.float32)) for n in (1, 2)
        )
        fixed = square and not higher
        return {**record, "error": one_line(error), "cause": _cause(error), "fixed_size": fixed}
    record["seconds"] = round(time.perf_counter() - begin, 2)
    modules = dict(network.named_modules())
    record["rows"] = [
        {
            "path": row.path,
            "module": type(modules[row.path]).__name__,
            "operation": row.operation,
            "line": row.line,
            "feature": row.feature,
            "status": row.status,
            "by": "none" if row.status != "local" else "rule" if row.how in RULES else "rewrite",
            "how": row.how,
        }
        for row in glocal.plan_of(local).rows
    ]
    record["stage"] = "equality"
    try:
        dtype, error = equality(case, network, local)
        record["dtype"] = str(dtype).removeprefix("torch.")
        record["difference"] = error
        if any(row["status"] == "local" for row in record["rows"]):
            record["equal"] = error <= TOLERANCE[dtype]
        record["stage"] = "twice the size"
        doubled = image(case, 2 * case.crop, 2 * case.crop, torch.float32)
        network, local = network.float(), local.float()
        record["effect"] = difference(outputs(local, doubled), outputs(network, doubled))
        record["stage"] = "done"
    except Exception as error:  # the failure of the network is the finding
        record["error"] = one_line(error)
        record["cause"] = _cause(error)
    return record


def runs(network: nn.Module, arguments: tuple[Tensor, ...]) -> bool:
    """True if the network runs with these arguments."""
    try:
        outputs(network, arguments)
    except Exception:  # networks raise anything
        return False
    return True


def equality(case: Case, network: nn.Module, local: nn.Module) -> tuple[torch.dtype, float]:
    """Difference of converted and original at the training size, in the widest dtype that runs."""
    for dtype in (torch.float64, torch.float32):
        arguments = image(case, case.crop, case.crop, dtype)
        try:
            wanted = outputs(network.to(dtype), arguments)
        except RuntimeError:  # the network creates float32 tensors
            if dtype == torch.float32:
                raise
            continue
        return dtype, difference(outputs(local.to(dtype), arguments), wanted)
    raise AssertionError


def _cause(error: BaseException) -> str:
    """The line of the network's source that failed."""
    inner = error.__cause__ or error
    frames = traceback.extract_tb(inner.__traceback__)
    theirs = [f for f in frames if "spandrel" in f.filename] if inner is not error else []
    at = (theirs or frames)[-1]
    return f"{Path(at.filename).name}:{at.lineno} `{at.line}`"


def in_process(case: Case, limit_s: int) -> dict[str, Any]:
    """Run `measure` in its own process."""
    command = [sys.executable, __file__, "--one", case.name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    record: dict[str, Any]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env=environment
        )
        try:
            record = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            record = {"stage": "build", "error": last}
    except subprocess.TimeoutExpired:
        record = {"stage": "time", "error": f"not done within {limit_s} s"}
    static = {
        "name": case.name,
        "architecture": case.architecture,
        "purpose": case.purpose,
        "train_size": case.crop,
        "train_size_from": case.source,
    }
    return {**static, **record, "total_seconds": round(time.perf_counter() - begin, 1)}


def summary(record: dict[str, Any]) -> str:
    rows = Counter(row["status"] for row in record.get("rows", ()))
    return (
        f"{record['name']}: {rows['local']} local, {rows['global']} global, "
        f"equal {record.get('equal', '-')} ({record.get('difference', float('nan')):.1e} "
        f"{record.get('dtype', '-')}), effect {record.get('effect', float('nan')):.1e}, "
        f"{record['total_seconds']} s {record.get('error', '')[:200]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="class names of networks")
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes")
    parser.add_argument("--limit", type=int, default=600, help="time limit per network in seconds")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB << 30, MEMORY_GIB << 30))
        allow_unmatched_torchvision()
        case = next(case for case in CASES if case.name == options.one)
        with contextlib.redirect_stdout(sys.stderr):
            record = measure(case)
        print(json.dumps(record))
        return
    wanted = [c for c in CASES if not options.only or c.name in options.only]
    old = json.loads(RESULTS.read_text())["networks"] if RESULTS.exists() and options.only else []
    records = {record["name"]: record for record in old}
    with ThreadPoolExecutor(options.jobs) as pool:
        for record in pool.map(lambda case: in_process(case, options.limit), wanted):
            records[record["name"]] = record
            print(summary(record), flush=True)
            everything = [records[n] for n in sorted(records, key=str.lower)]
            results = {
                "torch": torch.__version__.partition("+")[0],
                "spandrel": version("spandrel"),
                "tolerance": {str(k).removeprefix("torch."): v for k, v in TOLERANCE.items()},
                "networks": everything,
            }
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_table(json.loads(RESULTS.read_text()), TABLE)


if __name__ == "__main__":
    main()
