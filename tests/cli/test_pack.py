"""`glocal models pack`."""

from pathlib import Path

import pytest
from evaluations import paired_set

import glocal
from glocal.networks.checkpoints.files import read_metadata


def facts(output):
    """The printed lines by their first word."""
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in output.splitlines() if line}


def test_a_checkpoint_becomes_a_folder_for_the_hub(run, checkpoint, tmp_path):
    folder = tmp_path / "hub"
    result = run("models", "pack", checkpoint, folder, "--licence", "MIT", "--window", 40)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    network = glocal.load(folder)
    assert (network.glocal_train_size, network.glocal_window) == ((32, 32), (40, 40))
    assert read_metadata(folder / "model.safetensors")["licence"] == "MIT"
    told = facts(result.output)
    assert told["states"] == "training size 32x32, window 40x40, licence MIT"
    assert told["next"].startswith("hf upload OWNER/NAME")


def test_the_card_has_the_results_of_an_evaluation(run, checkpoint, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    data = paired_set(tmp_path / "set", 48, 40)
    given = ("--way", "windows", "--way", "full", "--no-verify")
    evaluated = run("evaluate", checkpoint, "-d", data, *given, "--json")
    assert evaluated.exit_code == 0, evaluated.output
    (tmp_path / "results.json").write_text(evaluated.stdout)
    folder = tmp_path / "hub"
    words = ("--licence", "MIT", "--results", tmp_path / "results.json")
    result = run("models", "pack", checkpoint, folder, *words)
    assert result.exit_code == 0, result.output
    card = hub.ModelCard.load(folder / "README.md").data
    names = [each.metric_name for each in card.eval_results]
    assert {"psnr, TLC 48", "ssim-3d, full image"} <= set(names)


def test_the_text_of_a_licence_is_a_file(run, checkpoint, tmp_path):
    (tmp_path / "terms.txt").write_text("You may look.\n")
    folder = tmp_path / "hub"
    words = ("--licence", "Mine", "--licence-file", tmp_path / "terms.txt", "--name", "tiny")
    result = run("models", "pack", checkpoint, folder, *words)
    assert result.exit_code == 0, result.output
    assert (folder / "LICENSE").read_text() == "You may look.\n"
    assert "license_link: LICENSE" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the licence of the weights is not stated; give --licence"),
        (("--licence", "MIT", "--licence-file", "missing.txt"), "missing.txt: cannot be read"),
        (("--licence", "MIT", "--results", "missing"), "cannot be read"),
    ],
)
def test_a_mistake_writes_nothing(run, checkpoint, tmp_path, words, message):
    folder = tmp_path / "hub"
    result = run("models", "pack", checkpoint, folder, *words)
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert not folder.exists()


def test_the_training_size_is_needed(run, bare_checkpoint, tmp_path):
    result = run("models", "pack", bare_checkpoint, tmp_path / "hub", "--licence", "MIT")
    assert result.exit_code == 1
    assert "give --train-size" in result.output


def test_results_of_other_weights_are_refused(run, checkpoint, tmp_path):
    data = paired_set(tmp_path / "set", 48, 40)
    report = tmp_path / "results.json"
    words = ("-d", data, "--way", "full", "--json")
    report.write_text(run("evaluate", "nafnet-motion-blur", *words).stdout)
    given = ("--licence", "MIT", "--results", report)
    result = run("models", "pack", checkpoint, tmp_path / "hub", *given)
    assert result.exit_code == 1
    assert "has results of other weights" in " ".join(result.output.split())


def test_a_folder_with_files_is_not_touched(run, checkpoint, tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    words = ("models", "pack", checkpoint, folder, "--licence", "MIT")
    result = run(*words)
    assert result.exit_code == 1
    assert "is not empty; choose another folder or pass --overwrite" in result.output
    assert (folder / "README.md").read_text() == "mine"
    assert run(*words, "--overwrite").exit_code == 0
    assert Path(folder / "README.md").read_text().startswith("---\nlibrary_name: glocal")
