"""Runs on a Ray cluster of two nodes on this machine."""

import filecmp
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from restored_folders import contents, photographs, statuses
from worker_networks import Deadly, OnceRefused, Waiting

import glocal
from glocal.errors import ArgumentError, GlocalError
from glocal.images import image_files as images
from glocal.images.image_files import Image
from glocal.images.sample_files import read_header
from glocal.runs.executors.cluster import RayExecutor
from glocal.runs.executors.environment import check_same, environment
from glocal.runs.executors.local import LocalExecutor
from glocal.runs.executors.ray_session import check_ray
from glocal.runs.folder import restore_file, restore_folder, restore_jobs
from glocal.runs.jobs import FileResult, folder_jobs
from glocal.runs.records import RECORDS
from glocal.runs.remote import UrlPath, remote_jobs
from glocal.study.evaluation.comparison import evaluate, evaluate_by
from glocal.study.options import ConversionOptions

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of Ray
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A head and a second node, with a processor each; they know the server of S3, if any."""
    if importlib.util.find_spec("s3fs") and importlib.util.find_spec("moto"):
        request.getfixturevalue("s3")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    found.add_node(**NODE)
    yield found
    found.shutdown()


def on_ray(
    cluster: Any, network: Any, source: Path, target: Path, **options: Any
) -> list[FileResult]:
    executor = RayExecutor(cluster.address)
    jobs = folder_jobs(source, target)
    with restore_jobs(network, jobs, target, executor=executor, **options) as run:
        return list(run)


@pytest.fixture(scope="module")
def network() -> Any:
    return glocal.localize(glocal.load("nafnet-motion-blur"), verify=False)


def test_results_are_those_of_a_local_run_and_either_run_continues_the_other(
    cluster: Any, network: Any, tmp_path: Path
) -> None:
    source = photographs(tmp_path / "in", 5)
    local = list(restore_folder(network, source, tmp_path / "local"))
    found = on_ray(cluster, network, source, tmp_path / "ray")
    assert statuses(found) == statuses(local) == {"restored": 5, "failed": 1}
    assert {each.source for each in found} == {each.source for each in local}
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert [path.name for path in (tmp_path / "ray").glob(".*")] == [RECORDS]
    again = list(restore_folder(network, source, tmp_path / "ray"))
    assert statuses(again) == {"skipped": 5, "failed": 1}
    again = on_ray(cluster, network, source, tmp_path / "local")
    assert statuses(again) == {"skipped": 5, "failed": 1}
    again = on_ray(cluster, network, source, tmp_path / "local", quality=80)
    assert {each.again for each in again} == {"with other options (quality)", ""}


def test_a_lost_node_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 16, (8, 9))
    third = cluster.add_node(**NODE)
    gate, log = tmp_path / "gate", tmp_path / "log"
    log.touch()
    jobs = folder_jobs(source, tmp_path / "out")
    executor = RayExecutor(cluster.address)
    network = Waiting(gate, log)
    with restore_jobs(network, jobs, tmp_path / "out", executor=executor, batch=1) as run:

        def lose() -> None:
            while len(set(log.read_text().split())) < 3:
                time.sleep(0.05)  # until all nodes restore
            cluster.remove_node(third, allow_graceful=False)
            gate.touch()

        loser = threading.Thread(target=lose, daemon=True)
        loser.start()
        found = list(run)
        loser.join()
    assert len(found) == len({each.source for each in found}) == 17
    assert statuses(found)["failed"] == 1
    assert len(contents(tmp_path / "out")) == 16
    lines = [json.loads(line) for line in (tmp_path / "out" / RECORDS).read_text().splitlines()]
    assert sorted(line["result"] for line in lines) == sorted(contents(tmp_path / "out"))


def test_an_image_that_ends_its_process_takes_no_other_along(cluster: Any, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 4, (8, 9))
    photographs(tmp_path / "in/deadly", 2, (8, 13))
    found = on_ray(cluster, Deadly(), source, tmp_path / "out", batch=1)
    assert statuses(found) == {"restored": 4, "failed": 4}
    failed = [each for each in found if each.status == "failed" and "deadly/0" in str(each.source)]
    assert "died" in str(failed[0].error)


def test_what_fails_once_is_tried_again(cluster: Any, tmp_path: Path) -> None:
    found = RayExecutor(cluster.address).run(OnceRefused(tmp_path), ["a", "b", "c"])
    assert sorted(found) == ["A", "B", "C"]
    (tmp_path / "a").unlink()
    assert list(LocalExecutor().run(OnceRefused(tmp_path), ["a", "b"])) == [
        "failed: Stale file handle",
        "B",
    ]


def test_an_error_of_all_files_ends_the_run(cluster: Any, network: Any, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 2)
    with pytest.raises(ArgumentError, match="output"):
        on_ray(cluster, network, source, tmp_path / "out", output="other")


def test_a_gpu_that_is_not_there(cluster: Any, network: Any, tmp_path: Path) -> None:
    photographs(tmp_path / "in", 1)
    jobs = folder_jobs(tmp_path / "in", tmp_path / "out")
    executor = RayExecutor(cluster.address, gpus=0.5)
    with pytest.raises(ArgumentError, match="the cluster has no GPU"):
        list(restore_jobs(network, jobs, tmp_path / "out", executor=executor))


def test_the_command_line_prints_nothing_of_ray(cluster: Any, tmp_path: Path) -> None:
    photographs(tmp_path / "in", 3)
    words = [
        sys.executable,
        "-m",
        "glocal",
        "restore",
        "in",
        "out",
        "--no-check",
        "--engine",
        "ray",
    ]
    command = [*words, "--address", cluster.address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "failed: in/damaged.png: is not an image of a format that can be read"
    ]
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["photographs", "network", "way", "time", "result"]
    again = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, check=False)
    report = json.loads(again.stdout)
    assert (report["skipped"], report["failed"]) == (3, 1)


def test_an_evaluation_has_the_numbers_of_a_local_one(cluster: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("blur/a.png", "blur/b.png", "sharp/a.png", "sharp/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        images.write(tmp_path / name, Image(rng.integers(0, 255, (80, 90, 3)).astype(np.uint8)))
    original = glocal.load("nafnet-motion-blur")
    options: dict[str, Any] = {
        "ways": ("full", "stitch", "windows"),
        "conversion": ConversionOptions(verify=False),
    }
    log = tmp_path / "records.jsonl"
    executor = RayExecutor(cluster.address)
    found = evaluate_by(executor, None, original, tmp_path, log=log, **options)
    local = evaluate(original, tmp_path, **options)
    assert not found.failures
    assert [(r.image, r.method) for r in found.records] == [
        (r.image, r.method) for r in local.records
    ]
    for each, other in zip(found.records, local.records, strict=True):
        assert each.metrics == pytest.approx(other.metrics, rel=1e-6)
    continued = evaluate(original, tmp_path, log=log, **options)
    assert continued.records == found.records


def test_photographs_in_s3(
    cluster: Any, network: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    s3 = request.getfixturevalue("s3")
    source = photographs(tmp_path / "in", 4)
    s3.put(f"{source}/", "bucket/cluster", recursive=True)
    root, out = UrlPath("s3://bucket/cluster"), UrlPath("s3://bucket/restored")
    jobs, executor = remote_jobs(root, out), RayExecutor(cluster.address)
    for expected in ({"restored": 4, "failed": 1}, {"skipped": 4, "failed": 1}):
        with restore_jobs(network, jobs, out, root=root, executor=executor) as run:
            assert statuses(run) == expected
    list(restore_folder(network, source, tmp_path / "local"))
    s3.get("bucket/restored/", str(tmp_path / "fetched"), recursive=True)
    assert contents(tmp_path / "fetched") == contents(tmp_path / "local")
    assert [path.name for path in (tmp_path / "fetched").glob(".*")] == [RECORDS]


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    photographs(tmp_path / "in", 1)
    jobs = folder_jobs(tmp_path / "in", tmp_path / "out")
    with pytest.raises(GlocalError, match=r"^no connection to a Ray cluster at 127\.0\.0\.1:1 "):
        list(restore_jobs(Deadly(), jobs, tmp_path / "out", executor=RayExecutor("127.0.0.1:1")))


def test_ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r'pip install "glocal\[ray\]"'):
        check_ray()


def test_machines_must_have_the_same_packages() -> None:
    check_same(environment(), "node 1")
    with pytest.raises(GlocalError, match=r"^node 1 has torch 2\.0, not 2\.\S+ as \S+; install"):
        check_same({**environment(), "torch": "2.0"}, "node 1")


@pytest.mark.long
def test_400_megapixels_on_two_nodes_are_those_of_one_machine(cluster: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = glocal.networks.NAFNet(3, 4, 1, [1], [1])
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network = glocal.localize(original, 64, verify=False)
    rows = np.random.default_rng(0).integers(0, 256, (500, 20000, 3), np.uint8)
    images.write(tmp_path / "large.tif", Image(np.tile(rows, (40, 1, 1))))
    restore_file(network, tmp_path / "large.tif", tmp_path / "one.tif")
    executor = RayExecutor(cluster.address)
    restore_file(network, tmp_path / "large.tif", tmp_path / "two.tif", executor=executor)
    assert read_header(tmp_path / "two.tif").size == (20000, 20000)
    assert filecmp.cmp(tmp_path / "one.tif", tmp_path / "two.tif", shallow=False)
