"""One writer for each file, in one process or several."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from glocal.errors import GlocalWarning
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.runs import locks as module
from glocal.runs.folder import restore_file, restore_folder
from glocal.runs.locks import BusyError, Locks


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "glocal" / "locks"


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, Image(np.full((8, 9, 3), 100, np.uint8)))


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    with Locks() as mine, Locks() as others:
        mine.acquire(tmp_path / "a.png")
        others.acquire(tmp_path / "b.png")
        with pytest.raises(BusyError, match=rf"a\.png: process {os.getpid()} on .* is writing it"):
            others.acquire(tmp_path / "a.png")
        mine.release(tmp_path / "a.png")
        others.acquire(tmp_path / "a.png")


def test_other_paths_of_a_file_are_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with Locks() as mine, Locks() as others:
        mine.acquire(tmp_path / "folder" / "a.png")
        with pytest.raises(BusyError):
            others.acquire(tmp_path / "link" / "a.png")


def _hold(target: Path, ready: object, done: object) -> None:
    with Locks() as locks:
        locks.acquire(target)
        ready.set()  # type: ignore[attr-defined]
        done.wait(60)  # type: ignore[attr-defined]
        os._exit(0)  # without giving the lock back


def test_a_dead_writer_holds_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "a.png", ready, done))
    other.start()
    assert ready.wait(60)
    with Locks() as locks:
        with pytest.raises(BusyError, match=f"process {other.pid} on"):
            locks.acquire(tmp_path / "a.png")
        done.set()
        other.join()
        locks.acquire(tmp_path / "a.png")


def test_files_of_dead_writers_are_deleted(tmp_path: Path) -> None:
    left = tmp_path / ".a.png.0123abcd.part"
    others = [tmp_path / ".b.png.0123abcd.part", tmp_path / ".a.png.part", tmp_path / "a.png"]
    for path in (left, *others):
        path.write_text("x")
    link = tmp_path / ".a.png.01234567.part"
    link.symlink_to(tmp_path / "a.png")
    with Locks() as locks:
        locks.acquire(tmp_path / "a.png")
    assert not left.exists()
    assert all(path.exists() for path in others)
    assert link.is_symlink()


def test_old_locks_are_deleted(tmp_path: Path, cache: Path) -> None:
    with Locks() as locks:
        locks.acquire(tmp_path / "a.png")
    (lock,) = cache.glob("*.lock")
    assert list(cache.glob("*.json")) == []
    Locks()
    assert lock.exists()
    os.utime(lock, (0, 0))
    Locks()
    assert not lock.exists()


def test_a_folder_that_others_may_write_to_holds_no_locks(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.warns(GlocalWarning, match="not kept from writing the same files"):
        locks = Locks()
    locks.acquire(tmp_path / "a.png")  # without effect
    locks.release(tmp_path / "a.png")


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with Locks() as locks:
        locks.acquire(tmp_path / "b.png")
        with pytest.raises(BusyError):
            restore_file(nn.Identity(), tmp_path / "a.png", tmp_path / "b.png", channels=3)
    assert not (tmp_path / "b.png").exists()
    restore_file(nn.Identity(), tmp_path / "a.png", tmp_path / "b.png", channels=3)


def test_a_folder_run_skips_what_another_writes(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png")
    with Locks() as locks:
        locks.acquire(tmp_path / "out" / "b.png")
        run = restore_folder(nn.Identity(), tmp_path / "in", tmp_path / "out", channels=3)
        results = list(run)
    assert [each.status for each in results] == ["restored", "skipped", "restored"]
    assert f"process {os.getpid()}" in results[1].notes[0]
    again = restore_folder(nn.Identity(), tmp_path / "in", tmp_path / "out", channels=3)
    assert [each.status for each in again] == ["skipped", "restored", "skipped"]


def test_two_runs_share_a_folder(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "in" / f"{number}.png")
    runs = [
        restore_folder(nn.Identity(), tmp_path / "in", tmp_path / "out", channels=3, ahead=0)
        for _ in range(2)
    ]
    statuses = [each.status for pair in zip(*runs, strict=True) for each in pair]
    assert set(statuses) == {"restored", "skipped"}  # none is taken for a foreign file
    assert statuses.count("restored") == 8
    assert len(list((tmp_path / "out").glob("*.png"))) == 8


def test_temporary_names_are_those_that_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*paths: object) -> None:
        left = [path.name for path in tmp_path.iterdir()]
        (tmp_path / left[0]).rename(tmp_path / f"{left[0]}.kept")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("glocal.images.files.os.replace", fail)
    with pytest.raises(Exception, match="Input/output error"):
        images.write(tmp_path / "a.png", Image(np.zeros((4, 4, 3), np.uint8)))
    (kept,) = tmp_path.glob(".*.kept")
    kept.rename(tmp_path / kept.name.removesuffix(".kept"))
    with Locks() as locks:
        locks.acquire(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []
    assert module.OLD_S > 0
