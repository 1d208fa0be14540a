"""Middleware: hosts, origins, the token, the size of requests, and headers of answers."""

from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glocal.web.access import COOKIE, Access

__all__ = ["OPEN_PATHS", "Guard"]

OPEN_PATHS = ("/healthz", "/login", "/page/", "/components/")
"""Paths, or their beginnings, that need no token: nothing of a user is there."""

_FORM_BYTES = 1_000_000
"""Bytes of a request beside its photograph."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses requests before they reach a route."""

    def __init__(self, app: ASGIApp, access: Access, nbytes: int) -> None:
        """Wrap an application.

        Args:
            app: the application.
            access: what is allowed.
            nbytes: most bytes of a photograph.
        """
        self._app, self._access, self._most = app, access, nbytes + _FORM_BYTES
        self._nbytes = nbytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, self._too_large())
            return message

        await self._app(scope, counted, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, path = headers.get("host", ""), scope["path"]
        if not self._access.allows_host(host):
            return _problem(403, "this server does not answer to the name in the Host header")
        if not self._access.allows_origin(headers.get("origin"), host):
            return _problem(403, "requests of pages of other servers are refused")
        is_open = any(
            path == each or (each.endswith("/") and path.startswith(each)) for each in OPEN_PATHS
        )
        token = headers.get("authorization"), _cookie(headers)
        if not is_open and not self._access.allows_token(*token):
            if path == "/":
                return RedirectResponse("/login", 303)
            needed = "a token is needed: send it as 'Authorization: Bearer TOKEN'"
            return _problem(401, needed, {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            return _problem(413, self._too_large(), {"Connection": "close"})
        return None

    def _too_large(self) -> str:
        return f"the photograph has more than {self._nbytes} bytes, which is the limit"


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def _cookie(headers: Headers) -> str | None:
    jar: Any = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return None
    return jar[COOKIE].value if COOKIE in jar else None
