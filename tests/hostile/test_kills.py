"""Runs that are killed anywhere, and run again: the same results, and nothing left over."""

import json
import random
import re
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glocal.images import image_files
from glocal.images.image_files import Image
from glocal.networks.nafnet import NAFNet

sys.path.insert(0, str(Path(__file__).parent))
from forked import Forks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")

NETWORK = ("--train-size", "32", "--no-verify")
TIMES = {"elapsed_s", "seconds", "peak_memory_mib", "machine", "made", "versions"}


@dataclass(frozen=True)
class Case:
    """A command to kill.

    Attributes:
        arguments: of the command line, without those in `NETWORK`.
        result: what it makes, as a value to compare; reads the folder of the run.
    """

    arguments: tuple[str, ...]
    result: Callable[[Path], Any]


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def records(path: Path) -> list[str]:
    """The lines of a journal without times, sorted, each once: a killed run may repeat one."""
    lines = map(json.loads, path.read_text().splitlines())
    return sorted({json.dumps(without_times(each), sort_keys=True) for each in lines})


def without_times(values: Any) -> Any:
    if isinstance(values, dict):
        return {k: without_times(v) for k, v in values.items() if k not in TIMES}
    return [*map(without_times, values)] if isinstance(values, list) else values


CASES = {
    "file": Case(("restore", "photo.png", "out/photo.png"), lambda f: pictures(f / "out")),
    "streamed": Case(
        ("restore", "large.png", "out/large.png", "--tile", "128"),
        lambda f: pictures(f / "out"),
    ),
    "folder": Case(("restore", "photos", "out"), lambda f: pictures(f / "out")),
    "evaluate": Case(
        ("evaluate", "--data", "set", "--out", "out", "--way", "windows", "--metric", "psnr"),
        lambda f: (records(f / "out/records.jsonl"), pictures(f / "out")),
    ),
    "tune": Case(
        (
            "tune",
            "--data",
            "set",
            "--limit",
            "2",
            "--log",
            "out/tune.jsonl",
            "--save",
            "out/settings.json",
        ),
        lambda f: without_times(json.loads((f / "out/settings.json").read_text())),
    ),
}


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    folder = tmp_path_factory.mktemp("killed")
    torch.manual_seed(0)
    network = NAFNet(width=4, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1])
    torch.save({"params": network.state_dict()}, folder / "net.pth")
    values = np.random.default_rng(0)

    def photo(name: str, height: int, width: int) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image_files.write(path, Image(values.integers(0, 256, (height, width, 3), np.uint8)))

    photo("photo.png", 120, 150)
    photo("large.png", 350, 400)
    for number in range(4):
        photo(f"photos/{number}.png", 80, 100)
        photo(f"set/input/{number}.png", 80, 100)
        photo(f"set/target/{number}.png", 80, 100)
    with Forks(folder) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_continues(forks: Forks, name: str) -> None:
    kill_and_resume(forks, name, 2, seed=0)


@pytest.mark.slow
def test_two_processes_share_a_folder(forks: Forks) -> None:
    case = CASES["folder"]
    command, *rest = case.arguments
    arguments = [command, "--model", "net.pth", *rest, *NETWORK]
    _, wanted, listed = finished(forks, arguments, case, fresh=True)
    clear(forks.folder / "out")
    with Forks(forks.folder) as other, ThreadPoolExecutor(2) as pool:
        both = [*pool.map(lambda each: each.run(*arguments), (forks, other))]
    assert [each.code for each in both] == [0, 0], both
    assert case.result(forks.folder) == wanted
    assert {
        str(p.relative_to(forks.folder / "out")) for p in (forks.folder / "out").rglob("*")
    } == (listed)
    restored = [int(n) for each in both for n in re.findall(r"(\d+) restored", each.printed)]
    assert sum(restored) == len(wanted)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_runs_killed_at_forty_points(forks: Forks, name: str) -> None:
    kill_and_resume(forks, name, 40, seed=1)


def kill_and_resume(forks: Forks, name: str, kills: int, seed: int) -> None:
    """Kill a command at random points, and run it to its end each time."""
    case, folder, chance = CASES[name], forks.folder, random.Random(seed)
    command, *rest = case.arguments
    model = ("--model", "net.pth") if command == "restore" else ("net.pth",)
    arguments = [command, *model, *rest, *NETWORK]
    _, wanted, listed = finished(forks, arguments, case, fresh=True)
    whole, again, _ = finished(forks, arguments, case, fresh=True)  # with all in the caches
    assert again == wanted, f"{name}: differs without a kill"
    counts = {"killed": 0, "ended": 0}
    for number in range(kills):
        clear(folder / "out")
        signals = signal.SIGKILL, signal.SIGTERM
        point = chance.uniform(0, 0.9 * whole), signals[number % 2]
        killed = forks.run(*arguments, kill=point)
        about = f"{name}, {point[1].name} after {point[0]:.3f} of {whole:.3f} s"
        assert killed.code in (0, -signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM), (
            f"{about}: exit code {killed.code}\n{killed.printed}"
        )
        assert "Traceback" not in killed.printed, f"{about}: {killed.printed}"
        counts["ended" if killed.code == 0 else "killed"] += 1
        if name in ("file", "folder") and killed.code in (128 + signal.SIGTERM,):
            left = [path.name for path in (folder / "out").glob(".*.part")]
            assert not left, f"{about}: left {left}"
        _, again, now = finished(forks, arguments, case, fresh=False)
        assert again == wanted, f"{about}: another result"
        assert now == listed, f"{about}: left {now ^ listed}"
    print(f"{name}: {counts}")


def finished(
    forks: Forks, arguments: list[str], case: Case, *, fresh: bool
) -> tuple[float, Any, set[str]]:
    """Run a command to its end: seconds, result, and names in the folder of results."""
    out = forks.folder / "out"
    if fresh:
        clear(out)
    ended = forks.run(*arguments)
    # a run that was killed after its last file was written has its result
    assert ended.code == 0 or (not fresh and "exists" in ended.printed), ended.printed
    return ended.elapsed_s, case.result(forks.folder), names_in(out)


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def clear(folder: Path) -> None:
    """Leave a folder empty, without what runs wrote into it."""
    folder.mkdir(exist_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
