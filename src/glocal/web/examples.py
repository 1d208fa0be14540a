"""The photographs that come with the page."""

from dataclasses import dataclass
from pathlib import Path

from glocal.web.errors import NoSuchError

__all__ = ["EXAMPLES", "FOLDER", "ExamplePhoto", "example_file"]

FOLDER = Path(__file__).parent / "page" / "examples"


@dataclass(frozen=True)
class ExamplePhoto:
    """A photograph to try networks on.

    Attributes:
        name: of its file.
        title: to show.
        credit: author and licence.
    """

    name: str
    title: str
    credit: str


EXAMPLES = (
    ExamplePhoto(
        "handshake.jpg", "Camera shake", "Trevor “Freespace”, 2018, CC BY 4.0, cropped and blurred"
    ),
)


def example_file(name: str) -> Path:
    """Return the file of an example.

    Raises:
        NoSuchError: there is no such example.
    """
    if name not in [each.name for each in EXAMPLES]:
        raise NoSuchError(f"{name[:100]}: no such example, see /api/v1/models")
    return FOLDER / name
