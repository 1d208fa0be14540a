import platform
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from glocal.inference import memory
from glocal.inference.memory import MemoryNeed, allocating, free_memory, peak_memory

MIB = 2**20


@pytest.fixture
def measured() -> None:
    with peak_memory() as peak:
        pass
    if peak.mib is None:
        pytest.skip("this system does not record the peak of memory")


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("make", [torch.ones, lambda n: np.ones(n, np.float32)])
def test_freed_memory_counts_in_the_peak(make) -> None:
    for size in (64, 16):  # the smaller one after the larger: the peak is reset
        with peak_memory() as peak:
            make(size * MIB // 4)
        assert size - 4 < peak.mib < size + 24


@pytest.mark.usefixtures("measured")
def test_memory_allocated_before_does_not_count() -> None:
    there = np.ones(64 * MIB // 8)
    with peak_memory() as peak:
        there += 1
    assert peak.mib < 24


@pytest.mark.usefixtures("measured")
def test_an_error_passes_through_and_is_measured() -> None:
    def fail() -> None:
        np.ones(32 * MIB // 8)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), peak_memory() as peak:
        fail()
    assert peak.mib > 28


def test_work_in_other_threads_is_not_measured() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with allocating():
            begun.set()
            go_on.wait(10)
            order.append("worked")
        with allocating():
            order.append("worked again")
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    with peak_memory():
        with peak_memory():  # as of a tile that is measured within a run that is
            order.append("measured")
        assert not done.wait(0.05)
        order.append("measured still")
    thread.join(10)
    assert order == ["worked", "measured", "measured still", "worked again"]


def test_a_system_without_a_peak_gives_none(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    with peak_memory() as peak:
        pass
    assert peak.mib is None
    with peak_memory("meta") as peak:
        pass
    assert peak.mib is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_what_its_allocator_hands_out() -> None:
    there = torch.ones(64 * MIB // 4, device="cuda")
    with peak_memory("cuda") as peak:
        del there
        torch.ones(32 * MIB // 4, device="cuda")
    assert peak.mib == 0  # less than was there before
    with peak_memory("cuda") as peak:
        torch.ones(32 * MIB // 4, device="cuda")
    assert peak.mib == pytest.approx(32, abs=0.1)


def test_a_need_is_a_line_through_two_measurements() -> None:
    need = MemoryNeed.through((100, 1300), (500, 2500))
    assert (need.fixed, need.per_pixel) == (1000, 3)
    assert need.max_pixels(4000) == 1000
    assert need.max_pixels(10) == 0


@pytest.mark.parametrize("measured", [[(100, 300)], [(100, 10), (500, 1500)], [(9, 50), (10, 30)]])
def test_a_need_never_falls_and_is_never_negative(measured) -> None:
    need = MemoryNeed.through(*measured)
    assert need.fixed == 0
    assert need.per_pixel == 3


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with 8 GiB available."""
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    8388608 kB\n")
    (tmp_path / "cgroup").write_text("0::/mine\n")
    (tmp_path / "groups/mine").mkdir(parents=True)
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")
    return tmp_path


def limit(folder, most: str, used: int, inactive: int = 0) -> None:
    (folder / "memory.max").write_text(most)
    (folder / "memory.current").write_text(str(used))
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_available_memory_is_free(machine) -> None:
    assert free_memory() == 8 * 2**30
    limit(machine / "groups/mine", "max", 2**30)
    assert free_memory() == 8 * 2**30


@pytest.mark.parametrize("folder", ["groups/mine", "groups"])
def test_a_control_group_may_allow_less(machine, folder: str) -> None:
    limit(machine / folder, str(3 * 2**30), 2**30, inactive=2**29)
    assert free_memory() == 2.5 * 2**30


def test_a_control_group_of_version_1(machine) -> None:
    (machine / "cgroup").write_text("4:cpu:/x\n3:memory:/mine\n")
    folder = machine / "groups/memory/mine"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(str(2**30))
    (folder / "memory.usage_in_bytes").write_text(str(2**20))
    (folder / "memory.stat").write_text("inactive_file 0\n")
    assert free_memory() == 2**30 - 2**20


def test_the_size_of_the_process_is_subtracted_from_a_limit(machine) -> None:
    (machine / "status").write_text("VmRSS:   1048576 kB\n")
    assert free_memory(limit=3 * 2**30) == 2 * 2**30
    assert free_memory(limit=2**20) == 0


def test_a_system_without_proc_gives_none(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "none")
    assert free_memory() is None
    assert free_memory("meta") is None
    assert free_memory("meta", limit=2**30) == 2**30


BLOCKS = """
import sys, threading
from pathlib import Path
import numpy as np, torch, glocal
from torch import nn
from glocal.inference import memory_limit
from glocal.inference.allocator import keep_freed_memory
from glocal.images.image_files import Image, write
from glocal.inference.memory import _status, process_size
from glocal.inference.options import Tiles
from glocal.runs.streaming import restore_streamed

MIB = 2**20
looks, looked = 0, threading.Condition()

def counted_size():
    global looks
    with looked:
        looks += 1
        looked.notify_all()
    return process_size()

def wait_for_the_watch():  # until it has looked at the size, and acted on it
    if any("_watch" in thread.name for thread in threading.enumerate()):
        with looked:
            wanted = looks + 3  # it looks once more after it has trimmed the heap
            looked.wait_for(lambda: looks >= wanted)

memory_limit.process_size = counted_size

class Blocks(nn.Module):
    def forward(self, x):
        blocks = [torch.ones(n * MIB // 4) for n in (40, 1) * 8]
        wait_for_the_watch()  # blocks are in use, and near the limit if the process is large
        del blocks[::2]
        whole = torch.empty(240 * MIB // 4)
        for part in whole.chunk(12):
            part.fill_(1)
            wait_for_the_watch()
        return x * 1

def called(memory):
    Blocks()(torch.ones(1))

def restored(memory):
    glocal.restore(Blocks(), np.zeros((32, 32, 3), np.uint8), memory=memory)

def streamed(memory):
    write(Path("a.png"), Image(np.zeros((32, 32, 3), np.uint8)))
    restore_streamed(Blocks(), Path("a.png"), Path("b.png"), tiles=Tiles(32, halo=8), memory=memory)

keep_freed_memory()
there = torch.ones(int(sys.argv[2]) * MIB // 4)
before = _status("VmRSS")
globals()[sys.argv[1]](before + 400 * MIB)
print((_status("VmHWM") - before) // MIB)
"""
"""A network of 330 MiB at most, whose freed blocks of 40 MiB are too small for one of 240 MiB."""


@pytest.mark.slow
@pytest.mark.usefixtures("measured")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(
    ("way", "there", "least", "most"),
    [
        ("called", 0, 500, 600),
        ("restored", 0, 330, 400),
        ("streamed", 0, 330, 400),
        ("streamed", 600, 330, 400),
    ],
)
def test_freed_blocks_are_returned_before_the_limit(
    tmp_path, way: str, there: int, least: int, most: int
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BLOCKS, way, str(there)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert least < int(ran.stdout) < most
