"""Runs in several processes of one machine, with CPUs in place of GPUs."""

from pathlib import Path
from typing import Any

import pytest
from restored_folders import contents, photographs, statuses
from worker_networks import Deadly

import glocal
from glocal.errors import ArgumentError
from glocal.runs.executors.processes import ProcessesExecutor
from glocal.runs.folder import restore_folder, restore_jobs
from glocal.runs.jobs import FileResult, folder_jobs
from glocal.runs.records import RECORDS

pytestmark = pytest.mark.slow

TWO = ProcessesExecutor(("cpu", "cpu"))


def in_two(network: Any, source: Path, target: Path, **options: Any) -> list[FileResult]:
    jobs = folder_jobs(source, target)
    with restore_jobs(network, jobs, target, executor=TWO, **options) as run:
        return list(run)


def test_results_are_those_of_one_process(tmp_path: Path) -> None:
    network = glocal.localize(glocal.load("nafnet-motion-blur"), verify=False)
    source = photographs(tmp_path / "in", 4)
    local = list(restore_folder(network, source, tmp_path / "local"))
    found = in_two(network, source, tmp_path / "two")
    assert statuses(found) == statuses(local) == {"restored": 4, "failed": 1}
    assert contents(tmp_path / "two") == contents(tmp_path / "local")
    assert [path.name for path in (tmp_path / "two").glob(".*")] == [RECORDS]
    again = list(restore_folder(network, source, tmp_path / "two"))
    assert statuses(again) == {"skipped": 4, "failed": 1}


def test_an_image_that_ends_its_process_takes_no_other_along(tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 6, (8, 9))
    photographs(tmp_path / "in/deadly", 2, (8, 13))
    found = in_two(Deadly(), source, tmp_path / "out")
    assert len(found) == len({each.source for each in found}) == 10
    assert len(contents(tmp_path / "out")) == 6
    died = [each for each in found if each.error and "its process died (exit code 5)" in each.error]
    assert len(died) == 2


def test_an_error_of_all_files_ends_the_run(tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 3)
    with pytest.raises(ArgumentError, match="output"):
        in_two(glocal.load("nafnet-motion-blur"), source, tmp_path / "out", output="other")


def test_a_closed_run_leaves_no_process_and_no_half_file(tmp_path: Path) -> None:
    import multiprocessing

    source = photographs(tmp_path / "in", 8, (8, 9))
    jobs = folder_jobs(source, tmp_path / "out")
    network = glocal.load("nafnet-motion-blur")
    with restore_jobs(network, jobs, tmp_path / "out", executor=TWO) as run:
        next(run)
    assert not multiprocessing.active_children()
    assert not list((tmp_path / "out").rglob("*.part"))
    found = in_two(network, source, tmp_path / "out")
    assert statuses(found)["failed"] == 1
    assert len(contents(tmp_path / "out")) == 8
