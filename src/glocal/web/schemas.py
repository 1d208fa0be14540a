"""What requests and answers look like: the OpenAPI document is made of these."""

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from glocal.inference.ways import Way
from glocal.web.queue import Kind, State

__all__ = [
    "Box", "Difference", "Example", "Health", "JobForm", "JobOptions", "JobView", "LimitsView",
    "ModelView", "Models", "PhotoView", "Problem", "Progress", "WorkerView",
]  # fmt: skip

SIZE = r"^[1-9][0-9]{0,4}([x×][1-9][0-9]{0,4})?$"

_Size = Annotated[str, Field(pattern=SIZE, examples=["384", "384x512"])]


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class JobOptions(BaseModel):
    """How a photograph is restored; the options of `glocal restore` under the same names."""

    model_config = ConfigDict(extra="forbid")

    kind: Annotated[
        Kind,
        Field(
            description="restore: restore the photograph. plan: list the global operations of the "
            "network; takes no photograph. shift: measure how far the statistics of the "
            "photograph are from those of its training crops."
        ),
    ] = "restore"
    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=4096,
            description="Name of a network, see /api/v1/models, or the path of a safetensors file "
            "in a folder that the server allows.",
        ),
    ] = "nafnet-motion-blur"
    way: Annotated[
        Way | None,
        Field(
            description="full image, windows (TLC), crops, stitch (crop-and-stitch), auto (windows "
            "and crops) or degraded (the photograph as it is). Without one, auto; or crops where "
            "windows are likely to do harm."
        ),
    ] = None
    train_size: Annotated[
        _Size | None,
        Field(description="Size of the training crops in pixels; by default the network's own."),
    ] = None
    window: Annotated[
        _Size | None,
        Field(description="Window of local operations in pixels; for windows and auto."),
    ] = None
    stride: Annotated[
        float | None,
        Field(gt=0, le=4, description="Distance of crops, as a multiple of their size."),
    ] = None
    overlap: Annotated[
        float | None,
        Field(ge=0, lt=1, description="Overlap of the tiles of stitch, as a share of a tile."),
    ] = None
    strength: Annotated[
        float, Field(ge=0, le=1, description="Share of the restored photograph in the result.")
    ] = 1.0
    ensemble: Annotated[
        Literal[1, 8],
        BeforeValidator(_number),  # forms hold text
        Field(description="8 averages all flips and turns, in 8 times the time."),
    ] = 1
    fallback: Annotated[
        Literal["auto", "always", "never"],
        Field(description="Take areas with colour mosaics from the full-image result."),
    ] = "auto"
    check: Annotated[
        bool, Field(description="Compare windows, crops and full image first, and say what harms.")
    ] = True
    format: Annotated[
        Literal["png", "jpg", "tif", "webp", "avif", "jxl", "exr"] | None,
        Field(description="Format of the result; by default that of the photograph."),
    ] = None
    quality: Annotated[int, Field(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = 95
    strip: Annotated[Literal["gps", "all"] | None, Field(description="Metadata to leave out.")] = (
        None
    )


class JobForm(JobOptions):
    """A job: one photograph, by file, job, path or example, and options.

    A plan takes no photograph.
    """

    file: Annotated[UploadFile | None, Field(description="A photograph.")] = None
    job: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{32}$", description="Id of a job, to take its photograph again."),
    ] = None
    path: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            description="Of a photograph in a folder that the server allows.",
        ),
    ] = None
    example: Annotated[
        str | None,
        Field(min_length=1, max_length=100, description="Of an example, see /api/v1/models."),
    ] = None

    @property
    def options(self) -> dict[str, Any]:
        """The options that are given, as JSON values."""
        left_out = {"file", "job", "path", "example"}
        return self.model_dump(mode="json", exclude=left_out, exclude_defaults=True)

    @property
    def photos(self) -> int:
        """How many photographs are given; a job needs one."""
        return sum(each is not None for each in (self.file, self.job, self.path, self.example))


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="What was wrong, and what to do.")


class PhotoView(BaseModel):
    """A photograph of a job."""

    digest: str = Field(description="SHA-256 of the file.")
    name: str
    height: int
    width: int
    bits: int
    kind: str = Field(description="Format, by its content.")


class JobView(BaseModel):
    """A job and how far it is."""

    id: str
    kind: Kind
    state: State
    stage: str = Field(description="What is being done, in words.")
    share: float = Field(description="Share of the work that is done, 0 to 1.")
    left_s: float | None = Field(description="Seconds left, about; null if unknown.")
    ahead: int = Field(description="Jobs that come before this one.")
    error: str = Field(description="Why it failed; empty otherwise.")
    created: float = Field(description="Seconds since 1970.")
    started: float | None
    finished: float | None
    photo: PhotoView | None
    options: JobOptions
    outcome: dict[str, Any] = Field(description="What came out, once the job is done.")


class Progress(BaseModel):
    """An event of a job."""

    state: State
    stage: str
    share: float
    left_s: float | None
    ahead: int
    error: str


class ModelView(BaseModel):
    """A network that the server runs."""

    name: str = Field(description="For the field `model` of a job.")
    title: str
    architecture: str | None
    task: str | None
    train_size: tuple[int, int] | None = Field(description="Height and width in pixels.")
    window: tuple[int, int] | None = Field(description="Height and width in pixels.")
    parameters: int
    kind: Literal["embedded", "installed", "file"]


class Example(BaseModel):
    """A photograph that comes with glocal, to try it on."""

    name: str
    title: str
    credit: str


class LimitsView(BaseModel):
    """What the server accepts."""

    nbytes: int
    pixels: int
    queue: int
    jobs_per_client: int
    seconds: float


class Models(BaseModel):
    """What there is to choose from."""

    models: list[ModelView]
    examples: list[Example]
    limits: LimitsView
    default: str


class Box(BaseModel):
    """A rectangle in pixels of the result."""

    top: int
    left: int
    height: int
    width: int
    mean: float = Field(description="Mean absolute difference, in 1/255.")


class Difference(BaseModel):
    """Where two pictures differ most, largest first."""

    height: int
    width: int
    boxes: list[Box]


class WorkerView(BaseModel):
    """A worker process."""

    device: str
    pid: int | None
    restarts: int


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "degraded"]
    version: str
    queued: int
    running: int
    workers: list[WorkerView]
