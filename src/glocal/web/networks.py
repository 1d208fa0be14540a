"""The networks that a server runs: embedded, installed, and files of allowed folders.

Only safetensors files are read: a file of pickles could run code when it is loaded, and a function
of a package is code.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glocal.errors import CheckpointError
from glocal.web.access import Access
from glocal.web.errors import NoSuchError, RefusedError

if TYPE_CHECKING:
    from glocal.networks.inventory import NamedModel

__all__ = ["SUFFIX", "check_network", "networks"]

SUFFIX = ".safetensors"


class Network(NamedTuple):
    """A network that may be chosen.

    Attributes:
        name: to choose it by: that of a model, or the path of a file.
        title: to show.
        architecture, task: as far as they are known.
        train_size: (height, width) of its training crops in pixels; None if unknown.
        window: (height, width) of the window that serves it best; None if unknown.
        parameters: number of weights.
        kind: "embedded", "installed" or "file".
    """

    name: str
    title: str
    architecture: str | None
    task: str | None
    train_size: tuple[int, int] | None
    window: tuple[int, int] | None
    parameters: int
    kind: str


def networks(access: Access) -> list[Network]:
    """Return the networks, the embedded ones first; files that cannot be read are left out."""
    from glocal.networks.inventory import NamedModel, named_models

    found = [
        _network(each.name, each.name, each, "embedded" if each.embedded else "installed")
        for each in named_models()[0]
    ]
    for folder in access.folders:
        for path in sorted(folder.rglob(f"*{SUFFIX}")):
            try:
                checked = access.file(str(path))
                model = NamedModel.read(path.stem, checked, embedded=False)
            except (CheckpointError, RefusedError):
                continue
            title = path.relative_to(folder).as_posix().removesuffix(SUFFIX)
            found.append(_network(str(path), title, model, "file"))
    return found


def check_network(name: str, access: Access) -> None:
    """Check that a network may be chosen; reads no more than the header of its file.

    Raises:
        NoSuchError: no model has this name, and it is no path.
        NotAllowedError: the file lies outside of the allowed folders.
        RefusedError: it is no safetensors file of a network.
    """
    from glocal.networks.fetching.store import stored_models
    from glocal.networks.inventory import NamedModel
    from glocal.networks.loading import embedded_files

    if name in embedded_files() or name in stored_models():
        return
    if not Path(name).is_absolute():
        raise NoSuchError(f"{name[:200]}: no model has this name, see /api/v1/models")
    path = access.file(name)
    try:
        if path.suffix != SUFFIX:
            raise RefusedError(f"{name[:200]}: the server reads {SUFFIX} files alone")
        NamedModel.read(path.stem, path, embedded=False)  # the content counts, not the name
    except CheckpointError as error:
        raise RefusedError(str(error)) from None


def _network(name: str, title: str, model: "NamedModel", kind: str) -> Network:
    return Network(
        name, title, model.architecture, model.task, model.train_size, model.window,
        model.parameters, kind,
    )  # fmt: skip
