from pathlib import Path

import pytest
import typer

from glocal.cli.targets import PIPE, Request, requested
from glocal.errors import ArgumentError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photographs, and a folder with one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg", "in/c.jpg"):
        (tmp_path / name).write_bytes(b"photo")
    return tmp_path


def ask(*words: str, out: str | None = None, overwrite: bool = False) -> Request:
    return requested(words, out, overwrite=overwrite, tag="restored")


A, B, IN = Path("a.jpg"), Path("b.jpg"), Path("in")


@pytest.mark.parametrize(
    ("words", "out", "expected"),
    [
        (["a.jpg"], None, Request((A,), Path("a-restored.jpg"), False)),
        (["a.jpg", "new.png"], None, Request((A,), Path("new.png"), False)),
        (["a.jpg", "new/"], None, Request((A,), Path("new/a.jpg"), False)),
        (["a.jpg", "in"], None, Request((A,), Path("in/a.jpg"), False)),
        (["a.jpg", "b.jpg", "new/"], None, Request((A, B), Path("new"), True)),
        (["a.jpg", "b.jpg", "in"], None, Request((A, B), IN, True)),
        (["a.jpg", "b.jpg"], "new", Request((A, B), Path("new"), True)),
        (["a.jpg"], "b.png", Request((A,), Path("b.png"), False)),
        (["in", "new"], None, Request((IN,), Path("new"), True)),
        (["in", "a.jpg"], "new", Request((IN, A), Path("new"), True)),
        (["-", "-"], None, Request((PIPE,), PIPE, False)),
        (["-"], None, Request((PIPE,), PIPE, False)),
        (["-", "new.png"], None, Request((PIPE,), Path("new.png"), False)),
        (["a.jpg", "-"], None, Request((A,), PIPE, False)),
    ],
    ids=str,
)
@pytest.mark.usefixtures("here")
def test_the_last_word_is_the_target(words: list[str], out: str | None, expected: Request) -> None:
    assert ask(*words, out=out) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.jpg"], "none.jpg: no such file or folder"),
        (["a.jpg", "b.jpg"], "b.jpg exists; choose another name or pass --overwrite. To restore"),
        (["a.jpg", "b.jpg", "new"], "new: no such photograph or folder; end the name in /"),
        (["a.jpg", "none.jpg", "in"], "none.jpg: no such file"),
        (["-", "a.jpg", "in"], "standard input, which holds one photograph"),
        (["a.jpg", "b.jpg", "-"], "no such photograph or folder"),
        (["in", "-"], "standard output takes one photograph alone"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("here")
def test_targets_in_doubt_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        ask(*words)
    assert said in str(caught.value)


@pytest.mark.usefixtures("here")
def test_several_photographs_need_a_target() -> None:
    for words in (["in"], ["a.jpg", "b.jpg", "in/c.jpg"]):
        with pytest.raises(typer.BadParameter, match="give an output folder"):
            ask(*words)


@pytest.mark.usefixtures("here")
def test_a_result_may_be_replaced_if_the_user_says_so() -> None:
    assert ask("a.jpg", "b.jpg", overwrite=True) == Request((A,), B, False)
