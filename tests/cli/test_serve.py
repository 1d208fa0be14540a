import socket
import sys

import pytest

pytest.importorskip("fastapi", reason="the extra web is not installed")


def test_an_address_that_others_reach_needs_a_token(run) -> None:
    result = run("serve", "--host", "0.0.0.0")
    assert result.exit_code == 1
    assert "--host 0.0.0.0 can be reached by others: give --token" in result.stderr


def test_a_taken_port_is_an_error(run, tmp_path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run("serve", "--port", port, "--jobs-folder", tmp_path / "jobs")
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in result.stderr


def test_a_missing_package_is_named(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("serve")
    assert result.exit_code == 1
    assert 'needs the package uvicorn, which is missing: pip install "glocal[web]"' in result.stderr
