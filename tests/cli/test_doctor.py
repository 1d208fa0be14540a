"""`glocal doctor`."""

import json
from importlib.metadata import version

import pytest
import torch

from glocal.cli.doctor import lines
from glocal.ops.kernels import library

PARTS = ("glocal", "python", "torch", "kernels", "libvips", "extras")


def a_report(**changes):
    return {
        "glocal": "1.0",
        "python": "3.12.0 on Linux x86_64",
        "torch": {
            "version": "2.13.0",
            "threads": 2,
            "devices": ["cpu: AVX2", "cuda:0: T4, 15 GiB"],
        },
        "kernels": {"variant": "avx2", "file": "/x/avx2.so", "threads": "its own threads"},
        "libvips": {
            "version": "8.16.0",
            "formats": {
                "png": {"read": True, "write": True},
                "webp": {"read": True, "write": False},
            },
        },
        "extras": {
            "onnx": {"missing": ["onnx", "onnxscript"], "install": "pip install 'glocal[onnx]'"},
            "plots": {"missing": [], "install": "pip install 'glocal[plots]'"},
        },
        **changes,
    }


def test_json_has_every_part(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert tuple(report) == PARTS
    assert report["glocal"] == version("glocal")
    assert report["torch"]["version"] == torch.__version__
    assert report["torch"]["threads"] == torch.get_num_threads()
    assert all(report["libvips"]["formats"]["png"].values())


def test_the_report_fits_80_columns_and_breaks_no_path(run, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "dumb")  # without colours
    monkeypatch.setenv("COLUMNS", "80")
    result = run("doctor")
    assert result.exit_code == 0
    assert result.stdout.startswith("glocal")
    for line in result.stdout.splitlines():
        assert len(line) <= 80 or len(line.split()) == 1  # a path is whole


def test_each_fact_has_a_row():
    assert lines(a_report()) == [
        ("glocal", "1.0"),
        ("Python", "3.12.0 on Linux x86_64"),
        ("torch", "2.13.0, 2 threads"),
        ("devices", "cpu: AVX2"),
        ("", "cuda:0: T4, 15 GiB"),
        ("kernels", "avx2, on its own threads"),
        ("", "/x/avx2.so"),
        ("libvips", "8.16.0"),
        ("", "png: read, write"),
        ("", "webp: read, cannot write"),
        ("extras", "onnx: onnx, onnxscript missing; pip install 'glocal[onnx]'"),
        ("", "plots: installed"),
    ]


def test_what_is_missing_has_a_reason():
    report = a_report(
        torch={"error": "no torch"},
        kernels={"variant": None, "reason": "not built"},
        libvips={"error": "no libvips"},
    )
    rows = lines(report)
    assert ("torch", "cannot be loaded: no torch") in rows
    assert ("kernels", "off: not built") in rows
    assert ("libvips", "cannot be loaded: no libvips") in rows


@pytest.mark.parametrize(
    ("value", "said"), [("0", "GLOCAL_KERNELS=0 turns them off"), ("fast", "fast is unknown")]
)
def test_it_says_why_kernels_are_off(run, monkeypatch, value, said):
    library.kernels.cache_clear()
    monkeypatch.setenv("GLOCAL_KERNELS", value)
    result = run("doctor")
    monkeypatch.undo()
    library.kernels.cache_clear()
    assert result.exit_code == 0
    assert said in result.stdout
