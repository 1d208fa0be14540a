"""Errors in one line, with the line of the user's code."""

import inspect
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal.errors import ArgumentError, GlocalError, ScanError
from glocal.inference.restore import restore
from glocal.scanning.user_code import failure, full_traceback, user_line


def raised(run: Callable[..., Any], *args: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        run(*args)
    return caught.value


def line_of(function: Callable[..., Any], offset: int = 1) -> str:
    return f"{Path(__file__).name}:{inspect.getsourcelines(function)[1] + offset}"


class Mismatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, torch.zeros(3, 5, 1, 1))


class Lookup(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return {}["weight"]


class Silent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 7
        return x


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Mismatch, "RuntimeError: Given groups=1, weight of size"),
        (Lookup, "KeyError: 'weight'"),
        (Silent, "AssertionError"),
    ],
)
def test_a_failure_is_type_message_and_line_of_the_network(
    network: type[nn.Module], said: str
) -> None:
    text = failure(raised(network(), torch.zeros(1, 3, 4, 4)))
    assert text.startswith(said)
    assert text.endswith(f" ({line_of(network.forward)})")
    assert "\n" not in text


def test_the_line_is_that_of_the_first_cause() -> None:
    def inner() -> None:
        raise ValueError("first")

    def outer() -> None:
        try:
            inner()
        except ValueError:
            raise TypeError("second") from None

    assert user_line(raised(outer)) == line_of(inner)


def test_the_user_s_own_line_precedes_that_of_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "site-packages").mkdir()
    package = tmp_path / "site-packages/package.py"
    package.write_text("def check(x):\n    raise ValueError(x)\n")
    names: dict[str, Any] = {}
    exec(compile(package.read_text(), package, "exec"), names)

    def call() -> None:
        names["check"]("no")

    error = raised(call)
    assert user_line(error) == line_of(call)
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    assert user_line(error) == "package.py:2"


def test_lines_of_python_torch_and_generated_code_are_not_the_user_s() -> None:
    standard = Path(sysconfig.get_path("stdlib"), "json.py")
    files = (
        standard,
        Path(torch.__file__).parent / "x.py",
        "<eval_with_key>.1",
        Path(glocal.__file__),
    )
    for file in files:
        names: dict[str, Any] = {}
        exec(compile("def fail():\n    raise OSError('no')\n", file, "exec"), names)
        error = raised(names["fail"])
        error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
        assert user_line(error) == ""
        assert failure(error) == "OSError: no"


def test_a_syntax_error_is_where_the_parser_stopped() -> None:
    assert failure(raised(compile, "x = = 1", "net.py", "exec")) == (
        "SyntaxError: invalid syntax (net.py:1)"
    )


def test_long_messages_are_cut() -> None:
    assert len(failure(ValueError("x" * 1000))) < 250


def test_a_full_traceback_shows_hidden_causes() -> None:
    def fail() -> None:
        try:
            raise KeyError("cause")
        except KeyError:
            raise GlocalError("said") from None

    text = full_traceback(raised(fail))
    assert "KeyError: 'cause'" in text
    assert text.endswith("glocal.errors.GlocalError: said")


def test_restore_and_localize_name_the_line_of_the_network() -> None:
    with pytest.raises(GlocalError) as restoring:
        restore(Lookup(), torch.zeros(3, 8, 8))
    with pytest.raises(ScanError) as scanning:
        glocal.localize(Lookup(), 16)
    for caught in (restoring, scanning):
        assert f"KeyError: 'weight' ({line_of(Lookup.forward)})" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_function_that_makes_no_example_is_named() -> None:
    def broken(height: int, width: int) -> Tensor:
        raise ValueError(f"{height} is odd")

    with pytest.raises(ArgumentError) as caught:
        glocal.localize(nn.Conv2d(3, 3, 1), 16, example=broken)
    assert str(caught.value) == (
        f"example(16, 16) failed: ValueError: 16 is odd ({line_of(broken)})"
    )
    with pytest.raises(ArgumentError, match="returned dict; expected a tensor, or a tuple"):
        glocal.localize(nn.Conv2d(3, 3, 1), 16, example=lambda h, w: {})
