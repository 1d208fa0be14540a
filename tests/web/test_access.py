from pathlib import Path

import pytest

from glocal.errors import ArgumentError
from glocal.web.access import Access
from glocal.web.errors import NotAllowedError


def test_an_address_that_others_reach_needs_a_token() -> None:
    with pytest.raises(ArgumentError, match=r"--host 0\.0\.0\.0 can be reached by others"):
        Access("0.0.0.0")
    assert Access("0.0.0.0", "secret").allows_host("192.168.1.7:8000")
    assert Access("::1").host == "::1"


@pytest.mark.parametrize(
    ("header", "is_allowed"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("[::1]:8000", True),
        ("127.0.0.1:1", True),
        ("studio.lan:8000", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.7", False),
        ("", False),
        ("[", False),
    ],
)
def test_only_own_hosts_are_answered(header: str, is_allowed: bool) -> None:
    assert Access(names=("studio.lan",)).allows_host(header) is is_allowed


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        ("http://localhost:8000", True),
        ("http://localhost:9000", False),
        ("null", False),
        ("https://evil.example", False),
        ("http://[", False),
    ],
)
def test_only_own_pages_may_ask(origin: str | None, is_allowed: bool) -> None:
    assert Access().allows_origin(origin, "localhost:8000") is is_allowed


def test_the_token_comes_in_a_header_or_a_cookie() -> None:
    access = Access(token="geheim é")
    assert access.allows_token("Bearer geheim é", None)
    assert access.allows_token("bearer  geheim é", None)
    assert access.allows_token(None, "geheim é")
    for given in (None, "Bearer", "Bearer x", "Basic geheim é", "Bearer \udcff"):
        assert not access.allows_token(given, "other")
    assert Access().allows_token(None, None)


def test_files_outside_of_the_folders_are_refused(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-not"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "a.png").write_bytes(b"")
    (allowed / "link.png").symlink_to(other / "a.png")
    access = Access(folders=(allowed,))
    assert access.file(str(allowed / "a.png")) == allowed / "a.png"
    for path in (
        other / "a.png", allowed / "link.png", allowed / ".." / "allowed-not" / "a.png", allowed,
        allowed / "missing.png", "a.png", "\0", "x" * 5000,
    ):  # fmt: skip
        with pytest.raises(NotAllowedError, match="no file of the folders"):
            access.file(str(path))


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"--allow-folder .*: no such folder"):
        Access(folders=(tmp_path / "missing",))
