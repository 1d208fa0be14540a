"""The routes of the API, /api/v1: jobs, networks, pictures."""

from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from glocal.images.previews import Preview
from glocal.web.differences import difference
from glocal.web.errors import NoSuchError, NotReadyError, RefusedError
from glocal.web.events import events
from glocal.web.examples import EXAMPLES, example_file
from glocal.web.networks import check_network, networks
from glocal.web.queue import Job
from glocal.web.schemas import (
    Difference,
    Example,
    JobForm,
    JobView,
    LimitsView,
    Models,
    ModelView,
    Problem,
    Progress,
)
from glocal.web.service import Service
from glocal.web.views import job_view

__all__ = ["api", "problems"]

DEFAULT_NETWORK = "nafnet-motion-blur"

_MEDIA = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".tif": "image/tiff",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".jxl": "image/jxl",
    ".exr": "image/x-exr",
}

_REASONS = {
    400: "The body cannot be parsed.",
    401: "A token is needed.",
    403: "The host, the origin or the path is not allowed.",
    404: "There is no such thing.",
    409: "The job has no such result, or not yet.",
    413: "The photograph is too large.",
    415: "The file is no image that can be read.",
    422: "A value is wrong, or has no effect.",
    429: "The queue is full, or has too many jobs of this client.",
}

_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"const": "progress"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": Progress.model_json_schema(),
        },
    },
}
"""An event of a job, for the OpenAPI document."""

WHOLE_SIDE = 2048
"""Longest side of a picture that is sent whole; larger ones are looked at in tiles."""

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Of the job.")]
Which = Annotated[Literal["photo", "result"], Path(description="Before or after.")]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of a route for the OpenAPI document."""
    return {
        status: {"model": Problem, "description": _REASONS[status]}
        for status in sorted({401, 403, *statuses})
    }


def api(service: Service) -> APIRouter:
    """Return the routes over a service."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/models", tags=["networks"], responses=problems())
    def models() -> Models:
        """List networks, examples and limits."""
        limits = service.limits
        return Models(
            models=[ModelView(**each._asdict()) for each in networks(service.access)],
            examples=[Example(**vars(each)) for each in EXAMPLES],
            limits=LimitsView(
                nbytes=limits.nbytes, pixels=limits.pixels, queue=limits.queue,
                jobs_per_client=limits.jobs_per_client, seconds=limits.seconds,
            ),
            default=DEFAULT_NETWORK,
        )  # fmt: skip

    @router.post(
        "/jobs", status_code=201, tags=["jobs"], responses=problems(400, 404, 413, 415, 422, 429)
    )
    def add_job(request: Request, response: Response, form: Annotated[JobForm, File()]) -> JobView:
        """Add a job: a photograph, by file, job, path or example, and options.

        A plan takes no photograph.
        """
        check_network(form.model, service.access)
        client = request.client.host if request.client else ""
        if form.photos != (0 if form.kind == "plan" else 1):
            raise RefusedError(
                "a plan takes no photograph"
                if form.kind == "plan"
                else "give exactly one of file, job, path and example"
            )
        given = form.kind, form.options, client
        if form.job is not None:
            added = service.add_again(form.job, *given)
        elif form.file is not None:
            added = service.add_upload(form.file.file, form.file.filename or "", *given)
        elif form.kind == "plan":
            added = service.add_plain(*given)
        else:
            example, path = form.example, form.path or ""
            found = example_file(example) if example else service.access.file(path)
            with open(found, "rb") as opened:
                added = service.add_upload(opened, found.name, *given)
        response.headers["Location"] = f"/api/v1/jobs/{added.id}"
        return job_view(added, service.queue)

    @router.get("/jobs/{id}", tags=["jobs"], responses=problems(404, 422))
    def get_job(id: Id) -> JobView:
        """Return a job and how far it is."""
        return job_view(service.job(id), service.queue)

    @router.delete(
        "/jobs/{id}", status_code=204, tags=["jobs"], responses=problems(404, 422),
        response_class=Response,
    )  # fmt: skip
    def delete_job(id: Id) -> None:
        """Cancel a job that waits or runs, and delete it with its results."""
        service.delete(service.job(id))

    @router.get(
        "/jobs/{id}/events",
        tags=["jobs"],
        response_class=StreamingResponse,
        responses={
            **problems(404, 422),
            200: {
                "description": "Events of type `progress`, whose data are JSON as in the schema "
                "Progress, until the job is done, failed or cancelled.",
                "content": {"text/event-stream": {"schema": _EVENT}},
            },
        },
    )
    def job_events(id: Id) -> StreamingResponse:
        """Follow a job by server-sent events."""
        service.job(id)
        return StreamingResponse(
            events(service.queue, id),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get(
        "/jobs/{id}/result",
        tags=["jobs"],
        response_class=FileResponse,
        responses={**problems(404, 409, 422), 200: _files("The result.", *_MEDIA.values())},
    )
    def result(id: Id) -> Response:
        """Download the result: a photograph with its profile and metadata, or JSON."""
        job = service.job(id)
        _check_done(job)
        if job.kind != "restore":
            return JSONResponse(job.outcome)
        suffix = job.outcome["suffix"]
        stem = FilePath(job.request["photo"]["name"]).stem
        return FileResponse(
            service.storage.result(job.id, suffix),
            media_type=_MEDIA[suffix],
            filename=f"{stem}-{job.outcome['way']}{suffix}",
        )

    @router.get(
        "/jobs/{id}/pictures/{which}",
        tags=["pictures"],
        response_class=Response,
        responses={**problems(404, 409, 422), 200: _files("The picture.", "image/webp")},
    )
    def picture(id: Id, which: Which) -> Response:
        """Return a picture for a screen: sRGB, no side longer than 2048 pixels."""
        return _cached(_picture(service, id, which).whole(WHOLE_SIDE), "image/webp")

    @router.get(
        "/jobs/{id}/pictures/{which}/tiles/{level}/{row}/{column}",
        tags=["pictures"],
        response_class=Response,
        responses={**problems(404, 409, 422), 200: _files("The tile.", "image/png")},
    )
    def tile(
        id: Id,
        which: Which,
        level: Annotated[int, Path(ge=0, le=31, description="How often the image is halved.")],
        row: Annotated[int, Path(ge=0, le=1_000_000)],
        column: Annotated[int, Path(ge=0, le=1_000_000)],
    ) -> Response:
        """Return 512 × 512 pixels of a picture, without loss."""
        found = _picture(service, id, which).tile(level, row, column)
        if found is None:
            raise NoSuchError("the picture has no such tile")
        return _cached(found, "image/png")

    @router.get("/jobs/{id}/difference", tags=["pictures"], responses=problems(404, 409, 422))
    def differences(
        id: Id,
        other: Annotated[
            str | None,
            Query(pattern="^[0-9a-f]{32}$", description="A job; by default the photograph."),
        ] = None,
        count: Annotated[int, Query(ge=1, le=20)] = 3,
        side: Annotated[int, Query(ge=8, le=2048, description="Of a square, in pixels.")] = 120,
    ) -> Difference:
        """Find the squares in which a result differs most from another, or from its photograph."""
        second = _picture(service, other or id, "result" if other else "photo")
        return difference(_picture(service, id, "result"), second, count, side)

    return router


def _picture(service: Service, id: str, which: str) -> Preview:
    job = service.job(id)
    if which == "photo" and job.photo is not None:
        preview = service.storage.photo_preview(job.photo)
    else:
        _check_done(job)
        preview = service.storage.result_preview(job.id)
    if not preview.path.exists():
        raise NotReadyError("there is no such picture, or not yet")
    return preview


def _check_done(job: Job) -> None:
    if job.state == "failed":
        raise NotReadyError(f"the job failed: {job.error}")
    if job.state != "done":
        raise NotReadyError("the job is not done yet")


def _cached(data: bytes, media_type: str) -> Response:
    # what an address names never changes
    return Response(
        data, media_type=media_type, headers={"Cache-Control": "private, max-age=86400, immutable"}
    )


def _files(description: str, *media_types: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": dict.fromkeys(media_types, binary)}
