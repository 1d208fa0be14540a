"""Errors on the command line: one or two lines, and all calls if they are asked for."""

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from glocal.cli.reporting import print_json, print_words, say_facts

DOCTOR = importlib.import_module("glocal.cli.doctor")

NETWORKS = """
import sys
import torch
from torch import nn

class Fails(nn.Module):
    def forward(self, x):
        raise KeyError("weight")

class Ends(nn.Module):
    def forward(self, x):
        sys.exit(3)

class Texts(nn.Module):
    def forward(self, x):
        return "text"

def broken():
    raise RuntimeError("no config")

def ending():
    sys.exit(2)
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / f"networks_{tmp_path.name}.py"
    path.write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    return path


def model(networks: Path, name: str) -> str:
    return f"{networks.stem}:{name}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Fails", "the network does not run at 32x32: KeyError: 'weight' ({}:8)"),
        ("Ends", "the network's code ended the program ({}:12)"),
        ("broken", "the call without arguments failed: RuntimeError: no config ({}:19)"),
        ("ending", "the call without arguments failed: SystemExit: 2 ({}:22)"),
    ],
)
def test_an_error_of_the_network_is_a_line(run, networks: Path, name: str, said: str) -> None:
    result = run("scan", model(networks, name), "--train-size", "32")
    assert result.exit_code == 1
    assert said.format(networks.name) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_network_without_an_image_is_not_exported(run, networks: Path) -> None:
    words = ("--train-size", "32", "--allow-global")
    result = run("export", model(networks, "Texts"), networks.with_name("n.pt2"), *words)
    assert (result.exit_code, result.stderr) == (
        1,
        "error: the network returned str; only tensors can be exported\n",
    )


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_traceback_shows_every_call(run, networks: Path, place: str) -> None:
    words = ["scan", model(networks, "Fails"), "--train-size", "32"]
    words.insert(0 if place == "before" else len(words), "--traceback")
    result = run(*words)
    assert result.exit_code == 1
    first, *others = result.stderr.splitlines()
    assert first.startswith("error: the network does not run")
    assert f'{networks.name}", line 8, in forward' in result.stderr
    assert others[-1].startswith("glocal.errors.ScanError: ")


def test_words_behind_two_dashes_are_no_options(run, tmp_path: Path) -> None:
    result = run("restore", "--", "--traceback")
    assert "--traceback: no such file or folder" in result.stderr


def test_the_traceback_of_a_file_that_failed_is_shown(run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"no image")
    words = ("degrade", tmp_path / "in", tmp_path / "out", "--kind", "noise")
    assert "Traceback" not in run(*words).stderr
    shown = run(*words, "--traceback")
    assert shown.exit_code == 1
    assert "Traceback" in shown.stderr


def raising(error: BaseException) -> Any:
    def command(*args: Any, **options: Any) -> Any:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device", "/x"), 1, "/x: No space left on device"),
        (RuntimeError("CUDA out of memory."), 1, "not enough memory (CUDA out of"),
        (MemoryError(), 1, "not enough memory; use"),
        (KeyboardInterrupt(), 130, "nothing half-written was left behind"),
    ],
)
def test_the_exit_code_says_what_kind_of_error_it_was(
    run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(DOCTOR, "facts", raising(error))
    result = run("doctor")
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_that_glocal_did_not_expect_is_to_be_reported(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DOCTOR, "facts", lambda: {}["glocal"])
    monkeypatch.setattr("glocal.scanning.user_code._is_users", lambda filename: False)
    result = run("doctor")
    assert result.exit_code == 70
    assert result.stderr.splitlines() == [
        "error: unexpected KeyError: 'glocal'",
        "This is a fault of glocal: please report it with what --traceback prints.",
    ]


@pytest.mark.parametrize("print_it", [print_words, print_json, lambda text: say_facts({"a": text})])
def test_a_run_goes_on_when_its_reader_has_gone(
    print_it: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        for _ in range(2):
            print_it("a line")
            gone.flush()
