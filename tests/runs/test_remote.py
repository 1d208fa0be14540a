"""Folders behind URLs: in memory, and in a real S3 server on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from restored_folders import contents, photographs, statuses
from torch import nn

import glocal
from glocal.errors import ArgumentError, ImageError
from glocal.runs.folder import restore_folder, restore_jobs
from glocal.runs.jobs import FileResult
from glocal.runs.remote import RemoteFolder, UrlPath, local_or_url, remote_jobs


@pytest.fixture
def memory() -> Iterator[Any]:
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()
    found.pseudo_dirs[:] = [""]


def restored(source: str, target: str, network: Any = None, **options: Any) -> list[FileResult]:
    root, out = local_or_url(source), local_or_url(target)
    given = {"channels": 3, **options} if network is None else options
    jobs = remote_jobs(root, out)
    with restore_jobs(network or nn.Identity(), jobs, out, root=root, **given) as run:
        return list(run)


def names(url: str) -> list[str]:
    return sorted(RemoteFolder(url).files())


def test_paths_of_urls() -> None:
    path = UrlPath("s3://bucket/in") / "sub/a.dng"
    assert str(path) == "s3://bucket/in/sub/a.dng"
    assert path.relative_to(UrlPath("s3://bucket/in")).as_posix() == "sub/a.dng"
    assert local_or_url("file:///tmp/in") == Path("/tmp/in")
    assert type(local_or_url("in")) is type(Path())


def test_results_and_records_are_those_of_a_run_on_this_machine(
    memory: Any, tmp_path: Path
) -> None:
    source = photographs(tmp_path / "in", 4, (8, 9))
    memory.put(str(source), "/photos", recursive=True)
    local = list(restore_folder(nn.Identity(), source, tmp_path / "local", channels=3))
    found = restored("memory://photos", "memory://out")
    assert statuses(found) == statuses(local) == {"restored": 4, "failed": 1}
    assert names("memory://out") == [".glocal.jsonl", *sorted(contents(tmp_path / "local"))]
    memory.get("/out", str(tmp_path / "fetched"), recursive=True)
    assert contents(tmp_path / "fetched") == contents(tmp_path / "local")
    (failed,) = [each for each in found if each.status == "failed"]
    assert str(failed.error).startswith("memory://photos/damaged.png: ")
    # a copy of the folder is known to a run on this machine
    again = list(restore_folder(nn.Identity(), source, tmp_path / "fetched", channels=3))
    assert statuses(again) == {"skipped": 4, "failed": 1}


def test_a_run_continues(memory: Any, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 4, (8, 9))
    memory.put(str(source), "/photos", recursive=True)
    root, out = UrlPath("memory://photos"), UrlPath("memory://out")
    jobs = remote_jobs(root, out)
    with restore_jobs(nn.Identity(), jobs, out, root=root, channels=3, ahead=0) as run:
        next(run)
    assert len(names("memory://out")) == 2  # a result and its record
    assert statuses(restored("memory://photos", "memory://out")) == {
        "skipped": 1, "restored": 3, "failed": 1,
    }  # fmt: skip
    assert names("memory://out")[0] == ".glocal.jsonl"
    assert len(names("memory://out")) == 5
    memory.pipe("/photos/00.png", memory.cat("/photos/01.png"))
    memory.pipe("/out/01.png", b"of the user")
    found = {each.source.name: each for each in restored("memory://photos", "memory://out")}
    assert found["00.png"].again == "from another version of the photograph or of its inputs"
    assert found["01.png"].status == "left"
    assert memory.cat("/out/01.png") == b"of the user"
    with pytest.raises(ArgumentError, match=r"^memory://out/00\.png and 3 other outputs exist"):
        restored("memory://photos", "memory://out", resume=False)


def test_what_cannot_be_opened(memory: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^nothing://a: cannot be opened"):
        remote_jobs(UrlPath("nothing://a"), UrlPath("memory://b"))
    with pytest.raises(ImageError, match="has no images"):
        remote_jobs(UrlPath("memory://none"), UrlPath("memory://b"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_an_s3_server(s3: Any, tmp_path: Path) -> None:
    source = photographs(tmp_path / "in", 4)
    s3.put(f"{source}/", "bucket/photos", recursive=True)
    network = glocal.localize(glocal.load("nafnet-motion-blur"), verify=False)
    local = list(restore_folder(network, source, tmp_path / "local"))
    found = restored("s3://bucket/photos", "s3://bucket/out", network)
    assert statuses(found) == statuses(local) == {"restored": 4, "failed": 1}
    s3.get("bucket/out/", str(tmp_path / "fetched"), recursive=True)
    assert contents(tmp_path / "fetched") == contents(tmp_path / "local")
    again = restored("s3://bucket/photos", "s3://bucket/out", network)
    assert statuses(again) == {"skipped": 4, "failed": 1}
    to_disk = restored("s3://bucket/photos", str(tmp_path / "disk"), network)
    assert statuses(to_disk) == {"restored": 4, "failed": 1}
    assert contents(tmp_path / "disk") == contents(tmp_path / "local")
