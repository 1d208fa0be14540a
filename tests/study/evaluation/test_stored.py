"""Evaluations in the files that `glocal evaluate` writes."""

import json
import math
from dataclasses import replace

import evaluations
import numpy as np
import pytest

import glocal
from glocal.errors import ArgumentError
from glocal.study.evaluation.stored import read_evaluation


@pytest.fixture
def measured(tmp_path):
    """An evaluation, and the folder of its log."""
    rng = np.random.default_rng(0)
    pairs = [(rng.random((40, 48, 3)), rng.random((40, 48, 3))) for _ in range(2)]
    log = tmp_path / "report" / "records.jsonl"
    found = glocal.evaluate(evaluations.Gate(), pairs, 16, ways=["full", "windows"], log=log)
    return found, log.parent


def test_a_log_has_the_records_and_the_protocol(measured):
    evaluation, folder = measured
    for path in (folder, folder / "records.jsonl"):
        found = read_evaluation(path)
        assert found.records == evaluation.records
        assert found.protocol == replace(evaluation.protocol, data_sha256="")
        for method in evaluation.methods:
            assert found.mean(method, "psnr") == evaluation.mean(method, "psnr")


def test_what_json_prints_is_read_back(tmp_path):
    evaluation = evaluations.constructed()
    (tmp_path / "results.json").write_text(evaluation.to_json())
    found = read_evaluation(tmp_path / "results.json")
    assert (found.protocol, found.records) == (evaluation.protocol, evaluation.records)


def test_equal_images_have_an_infinite_psnr(tmp_path):
    evaluation = evaluations.constructed()
    first = replace(evaluation.records[0], metrics={"psnr": math.inf})
    evaluation = replace(evaluation, records=(first, *evaluation.records[1:]))
    (tmp_path / "results.json").write_text(evaluation.to_json())
    assert read_evaluation(tmp_path / "results.json").records[0].metrics["psnr"] == math.inf


@pytest.mark.parametrize(
    "content",
    [
        "",
        "psnr 31.5",
        "[1, 2]",
        '{"protocol": {}}',
        '{"command": "tune"}\n{"image": "a"}\n',
        '{"command": "evaluate", "network": 3}\n{"image": "a"}\n',
    ],
)
def test_another_file_is_one_line(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ArgumentError, match="is no result of glocal evaluate") as caught:
        read_evaluation(tmp_path / "results.json")
    assert "\n" not in str(caught.value)


def test_half_a_record_is_one_line(tmp_path):
    data = json.loads(evaluations.constructed().to_json())
    del data["records"][0]["size"]
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(ArgumentError, match="is no result of glocal evaluate"):
        read_evaluation(tmp_path / "results.json")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ArgumentError, match=r"records.jsonl: cannot be read \(No such file"):
        read_evaluation(tmp_path)
