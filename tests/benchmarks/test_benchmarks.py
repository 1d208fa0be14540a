"""benchmarks/run.py: every section from end to end in tiny sizes, and what the report says.

Never how long anything took.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from versions import torch_2_6

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = [
    "operations",
    "attention",
    "networks",
    "scaling",
    "inference",
    "folder",
    "rewriting",
    "ways",
    "engines",
    "runtimes",
    "bits",
]
MEAN = "operations/cpu/mean 720x1280 window 384 float32"


def benchmarks(*arguments):
    command = [sys.executable, ROOT / "benchmarks" / "run.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if torch_2_6:
        pytest.skip("torch 2.6 does not write the ONNX files that are measured")
    made = tmp_path_factory.mktemp("benchmarks")
    run = benchmarks("--quick", "--threads", 1, "--device", "cpu", "--out", made)
    assert run.returncode == 0, run.stderr
    assert f"[1/{len(results(made)['cases'])}, " in run.stderr  # progress
    return made


def results(folder):
    return json.loads((folder / "results.json").read_text())


def part(report, title):
    """The text under a heading."""
    return report.split(f"\n## {title.capitalize()}\n")[1].split("\n## ")[0]


def tables(text):
    """The rows of each table, the head first, cells as text."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        head, line, *rows = [
            [cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()
        ]
        assert set(line) == {"---"}
        assert all(len(row) == len(head) for row in (line, *rows))
        found.append([head, *rows])
    return found


@pytest.mark.long
@pytest.mark.slow
def test_every_case_is_kept_with_seconds_and_where_they_were_measured(folder):
    kept = results(folder)
    assert {key.split("/")[0] for key in kept["cases"]} == set(SECTIONS)
    for key, record in kept["cases"].items():
        conditions = kept["conditions"][record["conditions"]]
        assert set(conditions) >= {"machine", "torch", "glocal", "threads", "allocator"}
        if "skipped" in record:
            package = {"inference": "spandrel"}.get(key.split("/")[0], "openvino")
            assert package in record["skipped"]
            continue
        assert all(len(s) == 1 and s[0] > 0 for s in record["seconds"].values()), key


@pytest.mark.slow
def test_every_section_has_its_command_its_conditions_and_a_row_for_each_case(folder):
    report, cases = (folder / "README.md").read_text(), results(folder)["cases"]
    for section in SECTIONS:
        text = part(report, section)
        assert f"`python benchmarks/run.py --only {section} --device cpu --threads 1" in text
        assert "1 threads; Python" in text
        assert "allocator:" in text
        records = [r for key, r in cases.items() if key.startswith(f"{section}/")]
        rows = sum(len(table) - 1 for table in tables(text))
        if section in ("engines", "runtimes", "bits"):
            records = [record for record in records if "seconds" in record]
        if section == "inference":
            records = [variant for r in records for variant in r.get("seconds", ())]
        assert rows == len(records), section


@pytest.mark.slow
def test_ratios_are_those_of_the_seconds(folder):
    report, cases = (folder / "README.md").read_text(), results(folder)["cases"]
    for section, title, top, bottom in (
        ("operations", "exact ÷ clone", "exact", "clone"),
        ("operations", "copy_ ÷ clone", "copy", "clone"),
        ("attention", "by cells ÷ global", "local", "global"),
        ("networks", "time, exact ÷ global", "exact", "global"),
    ):
        printed = [
            float(row[table[0].index(title)])
            for table in tables(part(report, section))
            for row in table[1:]
        ]
        seconds = [r["seconds"] for key, r in cases.items() if key.startswith(f"{section}/")]
        assert printed == pytest.approx([s[top][0] / s[bottom][0] for s in seconds], rel=0.06)


@pytest.mark.slow
def test_what_is_compared_computes_the_same(folder):
    cases = results(folder)["cases"]
    for key, record in cases.items():
        if key.startswith("operations/"):
            assert record["error"]["noise"]["exact map"] < 1e-5, key
            assert record["error"]["noise"]["cumsum"] < 1e-3, key
        if key.startswith("attention/"):
            assert max(record["error"]["noise"].values()) < 1e-5, key
        if key.startswith("inference/"):
            for variant, largest in record.get("difference", {}).items():
                assert largest < (0.1 if "bfloat16" in variant else 1e-4), variant


@pytest.mark.slow
def test_a_second_run_measures_nothing_and_targets_are_judged_by_what_is_kept(folder):
    report, kept = (folder / "README.md").read_text(), results(folder)
    (head, *rows), *_ = tables(part(report, "targets"))
    assert head[-1] == "outcome"
    assert all(row[-1].startswith("not measured") for row in rows)
    assert any(row[-1].endswith("no CUDA device") for row in rows)
    seconds = {"clone": [1.0, 9.0, 1.0], "exact": [2.0, 1.0, 2.0], "fast": [0.4, 0.4, 0.4]}
    kept["cases"][MEAN] = {"seconds": seconds, "conditions": 0} | {
        key: next(iter(kept["cases"].values()))[key] for key in ("about", "error")
    }
    (folder / "results.json").write_text(json.dumps(kept))

    again = benchmarks(
        "--quick", "--threads", 1, "--device", "cpu", "--only", "attention", "--out", folder
    )
    assert again.returncode == 0, again.stderr
    assert "attention" not in again.stderr
    text = (folder / "README.md").read_text()
    assert part(text, "attention") == part(report, "attention")
    outcomes = {row[0]: row[-2:] for row in tables(part(text, "targets"))[0][1:]}
    exact, fast = (
        next(o for text, o in outcomes.items() if f"window 384: {precision} ÷" in text)
        for precision in ("exact", "fast")
    )
    assert exact == ["2.00", "missed by 33.3 %"]
    assert fast == ["0.40", "met"]


def test_examples_in_docstrings_hold():
    file = ROOT / "benchmarks" / "tables.py"
    run = subprocess.run([sys.executable, "-m", "doctest", file], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_a_run_stops_after_its_minutes(tmp_path):
    run = benchmarks("--quick", "--device", "cpu", "--minutes", 0, "--out", tmp_path)
    assert run.returncode == 0, run.stderr
    assert "stopped before case 1 of " in run.stderr
    assert (tmp_path / "README.md").exists()
