"""The application: routes, guard, page, documentation, workers."""

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.routing import Match

from glocal.errors import GlocalError
from glocal.study.report.components import COMPONENTS
from glocal.web.access import COOKIE, Access
from glocal.web.errors import RefusedError
from glocal.web.guard import Guard
from glocal.web.limits import Limits
from glocal.web.networks import networks
from glocal.web.queue import Queue
from glocal.web.routes import api
from glocal.web.schemas import Health, WorkerView
from glocal.web.service import Service
from glocal.web.storage import Storage
from glocal.web.supervisor import Supervisor

__all__ = ["PAGE", "make_app"]

PAGE = Path(__file__).parent / "page"

_ABOUT = """
Restore photographs over HTTP, with the networks and ways of `glocal restore`.

`POST /api/v1/jobs` adds a job, `GET /api/v1/jobs/{id}/events` follows it, and
`GET /api/v1/jobs/{id}/result` downloads what came out.
"""


def make_app(
    folder: Path,
    access: Access,
    limits: Limits,
    devices: Sequence[str] = ("cpu",),
) -> FastAPI:
    """Return the application that serves the page and the API.

    Args:
        folder: of jobs and results; created if missing.
        access: who may ask, and for which files.
        limits: what is accepted.
        devices: of torch; each gets a worker process. Without any, jobs only wait.

    Raises:
        ArgumentError: the folder cannot be used.
    """
    storage = Storage(folder)
    storage.create()
    service = Service(storage, Queue(storage.queue), access, limits)
    supervisor = Supervisor(service, devices)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with storage.locked(), supervisor:
            # imports torch, so that the first page does not wait for it
            threading.Thread(target=networks, args=(access,), daemon=True).start()
            yield

    app = FastAPI(
        title="glocal", description=_ABOUT, version=version("glocal"), lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json",
    )  # fmt: skip
    app.add_middleware(Guard, access=access, nbytes=limits.nbytes)
    app.add_exception_handler(RequestValidationError, _wrong_values)
    app.add_exception_handler(GlocalError, _refused)
    app.add_exception_handler(405, _wrong_method)
    app.include_router(api(service))
    _add_pages(app, access)

    @app.get("/healthz", tags=["server"])
    def health() -> Health:
        """Say whether the server works, and how much it has to do."""
        workers = [WorkerView(device=d, pid=p, restarts=n) for d, p, n in supervisor.workers()]
        return Health(
            status="ok" if all(each.pid is not None for each in workers) else "degraded",
            version=app.version,
            queued=len(service.queue.with_state("queued")),
            running=len(service.queue.with_state("running")),
            workers=workers,
        )

    return app


def _add_pages(app: FastAPI, access: Access) -> None:
    """Add the page, its files, the documentation of the API, and the form for the token."""
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    shared = [file for file in COMPONENTS.iterdir() if file.suffix in (".css", ".js")]
    for file in shared:
        app.add_api_route(f"/components/{file.name}", _answering(file), include_in_schema=False)

    for path, name in (("/", "index.html"), ("/docs", "docs.html"), ("/login", "login.html")):
        app.add_api_route(path, _answering(PAGE / name), include_in_schema=False)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    @app.post("/login", include_in_schema=False)
    def login(request: Request, token: Annotated[str, Form(max_length=1000)]) -> Response:
        if not access.is_token(token):
            page = (PAGE / "login.html").read_text(encoding="utf-8")
            return HTMLResponse(page.replace(" hidden", ""), 401)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return answer


def _answering(file: Path) -> Any:
    def show() -> FileResponse:
        return FileResponse(file)

    return show


def _refused(request: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, RefusedError) else 422
    headers = {"Retry-After": "10"} if status == 429 else None
    return JSONResponse({"detail": str(error)}, status, headers)


def _wrong_method(request: Request, error: Exception) -> JSONResponse:
    """Name all methods of an address, not those of its first route alone."""
    methods = {
        method
        for method in ("DELETE", "GET", "POST")
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return JSONResponse(
        {"detail": f"the methods of this address are {', '.join(sorted(methods))}"},
        405,
        {"Allow": ", ".join(sorted(methods))},
    )


def _wrong_values(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with the values of a request, in one text."""
    assert isinstance(error, RequestValidationError)
    said = [
        f"{'.'.join(str(part) for part in each['loc'] if part not in ('body', 'query', 'path'))}: "
        f"{each['msg']}"
        for each in error.errors()
    ]
    return JSONResponse({"detail": "; ".join(said)}, 422)
