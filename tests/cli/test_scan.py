import json
from pathlib import Path

from glocal.conversion.localize import scan
from glocal.networks import load
from glocal.scanning.plan import Plan


def test_the_plan_is_printed(run, checkpoint: Path) -> None:
    result = run("scan", checkpoint)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{scan(load(checkpoint), 32)}\n"


def test_sizes_are_obeyed(run, checkpoint: Path) -> None:
    result = run("scan", checkpoint, "--train-size", "64x32", "--window", "70")
    assert result.stdout.startswith("training size 64x32, window 70x70 (input pixels)\n")


def test_json(run, checkpoint: Path) -> None:
    result = run("scan", checkpoint, "--json")
    assert Plan.from_json(result.stdout) == scan(load(checkpoint), 32)
    assert len(json.loads(result.stdout)["rows"]) == 3


def test_a_foreign_checkpoint_needs_a_train_size(run, bare_checkpoint: Path) -> None:
    result = run("scan", bare_checkpoint)
    assert result.exit_code == 1
    assert "give --train-size" in result.stderr
    assert run("scan", bare_checkpoint, "--train-size", "32").exit_code == 0


def test_unknown_models_are_an_error(run) -> None:
    result = run("scan", "no-such-model")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no-such-model: neither a file nor a model (models: ")


def test_options_of_the_conversion_are_passed_on(run, checkpoint: Path) -> None:
    words = ("--precision", "fast", "--keep-global", "encoders.*", "--json")
    plan = Plan.from_json(run("scan", checkpoint, *words).stdout)
    assert plan == scan(load(checkpoint), precision="fast", keep_global="encoders.*")
    assert plan.with_status("kept")
