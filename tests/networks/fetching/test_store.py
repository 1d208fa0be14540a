"""The user's model folder."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from glocal import networks
from glocal.errors import CheckpointError, GlocalWarning
from glocal.networks import inventory, loading
from glocal.networks.fetching import store
from glocal.networks.fetching.store import models_folder, remove_model, store_model, stored_models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLOCAL_MODELS", str(tmp_path / "my models"))
    return tmp_path / "my models"


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return networks.NAFNet(3, 4, 1, [1], [1]).state_dict()


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_DATA_HOME", "/base/glocal/models"),
        ("linux", None, "/home/me/.local/share/glocal/models"),
        ("darwin", None, "/home/me/Library/Application Support/glocal/models"),
        ("win32", "LOCALAPPDATA", "/base/glocal/models"),
        ("win32", None, "/home/me/AppData/Local/glocal/models"),
    ],
)
def test_the_folder_is_that_of_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variable: str | None, expected: str
) -> None:
    for name in ("GLOCAL_MODELS", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "/base")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(store.sys, "platform", platform)
    assert models_folder().as_posix() == expected


def test_a_stored_model_loads_by_its_name(folder: Path, weights) -> None:
    assert stored_models() == {}
    path = store_model("mine", save(weights, {"train_size": "32"}))
    assert stored_models() == {"mine": path}
    loaded = networks.load_checkpoint("mine")
    assert (loaded.name, loaded.train_size) == ("mine", (32, 32))
    assert remove_model("mine") == path
    assert list(folder.iterdir()) == []


def test_nothing_half_written_counts(folder: Path, weights, monkeypatch) -> None:
    def interrupted(*names: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store_model("mine", save(weights))
    assert list(folder.iterdir()) == []


def test_embedded_models_come_first(folder: Path, weights, tmp_path: Path, monkeypatch) -> None:
    embedded = tmp_path / "embedded"
    embedded.mkdir()
    save_file(weights, embedded / "mine.safetensors", {"task": "the embedded one"})
    monkeypatch.setattr(loading, "_weights_folder", lambda: embedded)
    store_model("mine", save(weights, {"task": "the user's"}))
    assert networks.load_checkpoint("mine").task == "the embedded one"
    models, problems = inventory.named_models()
    assert [model.task for model in models] == ["the embedded one"]
    assert problems[0].endswith("glocal contains another model of this name; rename the file")


def test_what_can_be_fetched_is_said(folder: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        networks.load("maxim-denoising")
    assert str(caught.value) == (
        "maxim-denoising is not in your model folder yet; run: glocal models get maxim-denoising"
    )


def test_only_models_of_the_folder_are_removed(folder: Path, weights, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"not in your model folder, .*, which is empty"):
        remove_model("../other")
    store_model("mine", save(weights))
    with pytest.raises(CheckpointError, match="which has mine"):
        remove_model("../other")
    assert (tmp_path / "other.safetensors").exists()


def test_a_folder_that_cannot_be_made_is_an_error(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(CheckpointError, match=r"my models: cannot be created \(File exists\)"):
        store_model("mine", b"")


# --- what is known of them -------------------------------------------------------------------


def test_headers_tell_what_a_model_is(folder: Path, weights) -> None:
    about = {"task": "tests", "licence": "CC0", "source": "here", "train_size": "32"}
    path = store_model("mine", save(weights, about))
    model = next(each for each in inventory.named_models()[0] if not each.embedded)
    assert (model.name, model.path, model.architecture) == ("mine", path, "NAFNet")
    assert (model.task, model.licence, model.source) == ("tests", "CC0", "here")
    assert model.train_size == (32, 32)
    assert model.parameters == sum(each.numel() for each in weights.values())
    assert model.file_bytes == path.stat().st_size


def test_what_a_file_does_not_state_is_none(folder: Path) -> None:
    store_model("other", save({"a": torch.ones(2, 3)}))
    model = next(each for each in inventory.named_models()[0] if not each.embedded)
    assert (model.architecture, model.train_size, model.parameters) == (None, None, 6)


def test_an_unreadable_file_hides_no_others(folder: Path, weights) -> None:
    store_model("broken", b"no weights")
    store_model("mine", save(weights))
    models, (problem,) = inventory.named_models()
    assert models[-1].name == "mine"
    assert problem.startswith(f"{folder / 'broken.safetensors'}: not a readable safetensors file")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no owners of files")
def test_a_folder_that_others_may_write_to_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    monkeypatch.delenv("GLOCAL_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    store_model("mine", save(weights))
    assert models_folder().stat().st_mode & 0o777 == 0o700
    models_folder().chmod(0o777)
    with pytest.warns(GlocalWarning, match="other users may write .* its models are not used"):
        assert stored_models() == {}
    with pytest.raises(CheckpointError, match="other users may write to this folder"):
        store_model("mine", save(weights))


def test_a_folder_that_the_user_names_may_be_shared(
    folder: Path, weights: dict[str, torch.Tensor]
) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    store_model("ours", save(weights))
    assert [*stored_models()] == ["ours"]
