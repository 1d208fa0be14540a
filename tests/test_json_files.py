"""JSON of files: its forms, its bounds, and the one line that says what is wrong."""

import os
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.json_files import JsonError, parsed, read_json


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True)
class Shape:
    kind: Literal["line", "ring"]
    points: tuple[Point, ...]
    size: tuple[int, int] | None = None


def test_a_value_of_the_form_is_returned_as_python_objects():
    text = '{"kind": "line", "points": [{"x": 1}, {"x": 2, "y": 3}], "size": [4, 5]}'
    assert parsed(text, Shape) == Shape("line", (Point(1), Point(2, 3.0)), (4, 5))
    assert parsed(b'{"a": [null, "\xc3\xbc"]}', dict[str, list[str | None]]) == {"a": [None, "ü"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "expected an object, got []"),
        ('{"points": []}', "has no kind"),
        ('{"kind": "dot", "points": []}', 'kind: expected "line" or "ring", got "dot"'),
        ('{"kind": "line", "points": {}}', "points: expected a list, got {}"),
        ('{"kind": "line", "points": [{"x": true}]}', "points[0].x: expected an integer, got true"),
        ('{"kind": "line", "points": [{"x": 1.0}]}', "points[0].x: expected an integer, got 1.0"),
        ('{"kind": "line", "points": [{"x": 1, "z": 2}]}', 'points[0]: has the unknown key "z"'),
        ('{"kind": "line", "points": [], "size": [1]}', "size: expected a list of 2 or null, got"),
        ('{"kind": "line", "points": [{"x": 1, "y": 1e999}]}', "points[0].y: expected a number"),
        ('{"kind": "line", "kind": "ring"}', 'has the key "kind" twice'),
        ('{"x": NaN}', "has the value NaN, which is no JSON"),
        ('{"x": 9223372036854775808}', "has no kind"),
        ("9" * 5000, "is no JSON (Exceeds the limit"),
        ("{", "is no JSON ("),
        (b"\xff", "is no JSON ('utf-8' codec"),
        ("[" * 65 + "1" + "]" * 65, "has values more than 64 levels deep"),
        ("[" * 10**5, "has values more than 64 levels deep"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, problem):
    with pytest.raises(JsonError) as caught:
        parsed(text, Shape)
    message = str(caught.value)
    assert message.startswith(problem)
    assert len(message.splitlines()) == 1
    assert len(message) < 300


def test_integers_fit_64_bits():
    assert parsed("9223372036854775807", int) == 2**63 - 1
    for form in (int, float):
        with pytest.raises(JsonError):
            parsed("9223372036854775808", form)


def test_unknown_keys_can_be_ignored():
    assert parsed('{"x": 1, "z": 2}', Point, ignore_others=True) == Point(1)


def test_files_are_regular_and_of_bounded_size(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_json(path, list[int]) == [1, 2]
    with pytest.raises(JsonError, match="has more than 3 bytes"):
        read_json(path, list[int], most_bytes=3)
    for special in ("/dev/zero", tmp_path):
        with pytest.raises(OSError, match="no regular file"):
            read_json(type(path)(special), list[int])
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing", list[int])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_json(tmp_path / "pipe", list[int])


@given(st.binary() | st.text())
def test_any_text_is_read_or_refused(text):
    try:
        parsed(text, dict[str, list[int | str | None]])
    except JsonError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
