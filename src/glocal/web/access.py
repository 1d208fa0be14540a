"""Who may ask, and for which files: hosts, origins, the token, allowed folders."""

import hmac
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from glocal.errors import ArgumentError
from glocal.web.errors import NotAllowedError

__all__ = ["COOKIE", "Access", "is_loopback"]

COOKIE = "glocal_token"
"""Cookie that holds the token in a browser."""

_LOCAL = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """True if only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Access:
    """What the server allows.

    Attributes:
        host: the address that it listens on.
        token: that requests must carry; empty if none is needed.
        names: other names of the server that requests may use.
        folders: whose photographs and checkpoints may be named by path, resolved.

    Raises:
        ArgumentError: others reach the address and no token is given, or a folder is missing.
    """

    host: str = "127.0.0.1"
    token: str = ""
    names: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise ArgumentError(
                f"--host {self.host} can be reached by others: give --token, a secret that they "
                "need to know"
            )
        for folder in self.folders:
            if not folder.is_dir():
                raise ArgumentError(f"--allow-folder {folder}: no such folder")
        object.__setattr__(self, "folders", tuple(each.resolve() for each in self.folders))

    def allows_host(self, header: str) -> bool:
        """True if a Host header names this server, and not a page that a browser was led to.

        An address is allowed where a token is needed: an attacker's page has a name.

        >>> Access().allows_host("127.0.0.1:8000"), Access().allows_host("evil.example")
        (True, False)
        """
        name = _host(f"//{header}")
        if name in (*_LOCAL, self.host, *self.names):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return bool(self.token)

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """True if a request comes from a page of this server, or from no page.

        >>> Access().allows_origin("http://127.0.0.1:8000", "127.0.0.1:8000")
        True
        >>> Access().allows_origin("http://127.0.0.1:9000", "127.0.0.1:8000")
        False
        """
        if origin is None:
            return True
        try:
            return urlsplit(origin).netloc == host
        except ValueError:
            return False

    def allows_token(self, authorization: str | None, cookie: str | None) -> bool:
        """True if a request carries the token, in its header or in its cookie."""
        if not self.token:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        candidates = [given.strip()] if scheme.lower() == "bearer" else []
        return any(self.is_token(each) for each in (*candidates, cookie or ""))

    def is_token(self, given: str) -> bool:
        """Compare a secret with the token, in constant time."""
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def file(self, path: str) -> Path:
        """Return a file of the allowed folders, with links followed.

        Raises:
            NotAllowedError: it lies elsewhere, or is no file; both say the same, so that nobody
                learns what exists.
        """
        problem = NotAllowedError(
            f"{path[:200]}: no file of the folders that this server allows (--allow-folder)"
        )
        try:
            found = Path(path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # missing, or no path at all
            raise problem from None
        allowed = any(found.is_relative_to(folder) for folder in self.folders)
        if not allowed or not found.is_file() or not os.access(found, os.R_OK):
            raise problem
        return found


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
