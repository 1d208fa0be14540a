import json
from pathlib import Path

import pytest

from glocal.errors import ArgumentError, GlocalError, ImageError
from glocal.runs.journal import Journal

HEADER = {"size": (64, 64), "seed": 1}


def lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_lines_are_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new/results.jsonl"
    with Journal(path, HEADER) as journal:
        for value in (1, 2):
            journal.append({"σ": value})
            assert lines(path)[-1] == {"σ": value}
    assert lines(path) == [{"size": [64, 64], "seed": 1}, {"σ": 1}, {"σ": 2}]


@pytest.mark.parametrize("torn", [b"", b'{"b": 2', b'{"b": 2}'])
def test_a_run_goes_on_behind_the_last_whole_line(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "results.jsonl"
    with Journal(path, HEADER) as journal:
        journal.append({"a": 1})
    path.write_bytes(path.read_bytes() + torn)
    with Journal(path, HEADER) as journal:
        assert journal.lines == [{"a": 1}]
        journal.append({"c": 3})
    assert lines(path)[1:] == [{"a": 1}, {"c": 3}]


def test_a_torn_first_line_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"size": [6')
    with Journal(path, HEADER) as journal:
        assert journal.lines == []
    assert lines(path) == [{"size": [64, 64], "seed": 1}]


def test_only_what_differs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    shared = "the network on tiles of the training size, which are blended, "
    with Journal(path, {"ways": {"a": 1, "b": shared + "linearly"}}):
        pass
    with pytest.raises(ArgumentError) as refused:
        Journal(path, {"ways": {"a": 1, "b": shared + "by their mean", "c": 2}})
    told = str(refused.value).split("made with ")[1].split("; choose")[0]
    assert (
        told == "ways b ... blended, linearly, not ... blended, by their mean; ways c null, not 2"
    )


@pytest.mark.parametrize("error", [ArgumentError, ImageError])
def test_a_folder_is_no_journal(tmp_path: Path, error: type[GlocalError]) -> None:
    with pytest.raises(error, match="cannot be read"):
        Journal(tmp_path, {}, error=error)


def test_another_header_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with Journal(path, HEADER) as journal:
        journal.append({"a": 1})
    before = path.read_bytes()
    with pytest.raises(ArgumentError) as refused:
        Journal(path, {"size": (32, 32), "seed": 1, "new": "x"})
    assert str(refused.value) == (
        f"{path}: was made with size [64, 64], not [32, 32]; new null, not x; "
        "choose another file, or overwrite it (--overwrite)"
    )
    assert path.read_bytes() == before
    with Journal(path, {"seed": 2}, overwrite=True) as journal:
        assert journal.lines == []
    assert lines(path) == [{"seed": 2}]


@pytest.mark.parametrize("data", [b"a photograph\n", b"[1]\n", b"\xff\xfe\n"])
def test_other_files_are_left_alone(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(data)
    with pytest.raises(ArgumentError, match="is not a log of results"):
        Journal(path, HEADER)
    assert path.read_bytes() == data


@pytest.mark.parametrize("error", [ArgumentError, ImageError])
def test_a_place_that_cannot_be_written_is_an_error(
    tmp_path: Path, error: type[GlocalError]
) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(error, match="cannot be written"),
        Journal(tmp_path / "file/results.jsonl", HEADER, error=error),
    ):
        pass


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b'{"a": NaN}', b'{"a": 1, "a": 2}', b'{"a": ' + b"9" * 5000 + b"}", b"\xff"],
)
def test_a_damaged_line_is_refused_in_one_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "results.jsonl"
    with Journal(path, HEADER):
        pass
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ArgumentError, match=r"is not a log of results \(.*--overwrite") as caught:
        Journal(path, HEADER)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("line", [{"b": 1}, {"a": 1}, {"a": [1]}])
def test_a_line_of_another_form_names_the_file(tmp_path: Path, line: dict[str, object]) -> None:
    path = tmp_path / "results.jsonl"
    with Journal(path, HEADER) as journal:
        journal.append(line)
    journal = Journal(path, HEADER)
    with pytest.raises(ArgumentError, match=r"results\.jsonl: is not a log"), journal.reading():
        {key: value for each in journal.lines for key, value in each["a"].items()}
