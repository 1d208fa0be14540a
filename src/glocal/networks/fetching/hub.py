"""Checkpoints on the Hugging Face Hub.

The only module that imports huggingface_hub, which is optional. The files lie in its own cache,
from which they load without a connection too.
"""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from glocal.errors import CheckpointError
from glocal.images.files import check_private, make_private_folder
from glocal.networks.checkpoints.files import INDEX, SUFFIXES, WEIGHTS_FILE
from glocal.networks.checkpoints.optional import brief, imported
from glocal.texts import few_names

__all__ = ["download", "is_repository"]

_LOG = logging.getLogger(__name__)

_NAME = r"[\w.-]+/[\w.-]+"
_REVISION = r"\w[\w.-]*(?:/\w[\w.-]*)*"
_PLACE = re.compile(rf"({_NAME})(?:@({_REVISION}))?(?::(.+))?")
_SHARD = re.compile(r"-\d+-of-\d+\.\w+$")

_USUAL = (f"{WEIGHTS_FILE}{INDEX}", WEIGHTS_FILE, "pytorch_model.bin")
"""Names that mark the checkpoint of a repository, the first of them that it has."""

_SHARED = ("HF_HOME", "HF_HUB_CACHE")
"""Environment variables that name another cache, which users may share."""

_TIMEOUT_S = 10.0  # until a copy in the cache is used


@dataclass(frozen=True)
class _Place:
    """A repository, its revision, and a file in it, empty for its only checkpoint."""

    repository: str
    revision: str | None
    file: str

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repository}{revision}" + (f":{self.file}" if self.file else "")

    @classmethod
    def of(cls, name: str) -> "_Place | None":
        """The place that a name means, None if it means none."""
        found = _PLACE.fullmatch(name)
        return found and cls(found[1], found[2], found[3] or "")


def is_repository(name: str) -> bool:
    """True for the name of a repository or a file in it: "owner/name@revision:file".

    >>> names = ("me/deblur", "me/deblur@v1.0", "me/deblur:gopro.pth", "gopro.pth")
    >>> [is_repository(name) for name in names]
    [True, True, True, False]
    """
    return _Place.of(name) is not None


def download(name: str) -> Path:
    """Download a checkpoint from the Hugging Face Hub, or take it from the cache.

    What the cache has is not fetched again. Without a connection the newest copy of the revision is
    taken. Digests of all files are compared with those that the Hub states.

    Args:
        name: "owner/name" of a repository, "owner/name:path/of/file" of a file in it, or
            "owner/name@revision" of a branch, a tag or a commit. The checkpoint of a repository is
            model.safetensors or pytorch_model.bin, else the only one, in any number of formats.

    Raises:
        CheckpointError: huggingface_hub is not installed, the Hub cannot be reached and the cache
            has no copy, the repository or the file does not exist or is private, the repository
            has several checkpoints, or a file is not the one that the Hub states.
    """
    hub = imported("huggingface_hub", f"{name}: no such file, and it cannot be downloaded")
    place = _Place.of(name)
    assert place is not None, "is_repository(name)"
    cache = Path(imported("huggingface_hub.constants").HF_HUB_CACHE)
    _check_cache(cache)
    api = hub.HfApi(library_name="glocal", library_version=version("glocal"))
    try:
        info = api.model_info(place.repository, revision=place.revision, timeout=_TIMEOUT_S)
        names = [each.rfilename for each in info.siblings or ()]
        chosen = _with_shards(_chosen(place, names), names)
        paths = [
            Path(api.hf_hub_download(place.repository, file, revision=place.revision))
            for file in chosen
        ]
    except CheckpointError:
        raise
    except Exception as error:  # errors of the Hub, of three HTTP libraries, of the file system
        refusal = _refusal(place, error)
        if refusal is not None:
            raise CheckpointError(f"{name}: no such file, and {refusal}") from None
        paths = _cached(cache, place, error)
    for path in paths:
        _check_digest(path)
    return paths[0]


def _check_cache(folder: Path) -> None:
    """Check that nobody else may write to the user's cache; make one that only the user reads.

    A cache that `_SHARED` names, and one of the user's group, may be shared.
    """
    if any(os.environ.get(name) for name in _SHARED):
        return
    if folder.is_dir():
        check_private(folder, CheckpointError, but_group=True)
    else:
        make_private_folder(folder, CheckpointError)


def _chosen(place: _Place, files: Sequence[str]) -> str:
    """Return the file of a place, one of those of its repository.

    Raises:
        CheckpointError: the file is not there, or there is no checkpoint, or are several.
    """
    checkpoints = [
        path
        for path in map(PurePosixPath, files)
        if path.name.endswith((*SUFFIXES, INDEX)) and not _SHARD.search(path.name)
    ]
    if place.file:
        if place.file not in files:
            has = few_names(map(str, checkpoints), 8) if checkpoints else "no checkpoint"
            raise CheckpointError(f"{place}: the repository has no such file; it has {has}")
        return place.file
    usual = [name for name in _USUAL if name in files]
    if usual:
        return usual[0]
    # safetensors files take precedence over the same checkpoint in another format
    safe = {path.with_suffix("") for path in checkpoints if path.suffix == ".safetensors"}
    candidates = [
        str(path)
        for path in checkpoints
        if path.suffix == ".safetensors" or path.with_suffix("") not in safe
    ]
    if not candidates:
        raise CheckpointError(f"{place}: the repository has no {', '.join(SUFFIXES)} file")
    if len(candidates) > 1:
        raise CheckpointError(
            f"{place}: the repository has {len(candidates)} checkpoints, "
            f"{few_names(candidates, 8)}; choose one, such as {place}:{candidates[0]}"
        )
    return candidates[0]


def _with_shards(file: str, files: Sequence[str]) -> list[str]:
    """Return a file, and the shards beside it if it is an index of some."""
    if not file.endswith(INDEX):
        return [file]
    stem, suffix = file.removesuffix(INDEX).rsplit(".", 1)
    shard = re.compile(rf"{re.escape(stem)}-\d+-of-\d+\.{re.escape(suffix)}")
    return [file, *filter(shard.fullmatch, files)]


def _refusal(place: _Place, error: Exception) -> str | None:
    """Return what the Hub answered if a copy in the cache is no way out, else None."""
    errors = imported("huggingface_hub.errors")
    if isinstance(error, errors.GatedRepoError):
        return (
            "its owner grants access on request: see its page on the Hugging Face Hub, then log "
            "in: hf auth login (HF_TOKEN)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {place.revision}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return (
            f"the Hugging Face Hub has no repository {place.repository}, or it is private; for a "
            "private one log in: hf auth login (HF_TOKEN)"
        )
    if isinstance(error, errors.HFValidationError):
        return f"it is no name of a repository ({brief(error)})"
    return None


def _cached(cache: Path, place: _Place, why: Exception) -> list[Path]:
    """Return the files of a place in the cache, the checkpoint first.

    Raises:
        CheckpointError: the cache does not have them.
    """
    folder = cache / f"models--{place.repository.replace('/', '--')}"
    reference = folder / "refs" / (place.revision or "main")
    try:
        commit = reference.read_text() if reference.is_file() else place.revision or "main"
        snapshot = folder / "snapshots" / commit
        files = [each.relative_to(snapshot) for each in snapshot.rglob("*") if each.is_file()]
        names = sorted(each.as_posix() for each in files)
    except OSError:
        names = []
    reason = f"{type(why).__name__}: {brief(why)}"
    if not names or (place.file and place.file not in names):
        raise CheckpointError(
            f"{place}: no such file, and it cannot be downloaded from the Hugging Face Hub "
            f"({reason}); {cache} has no copy"
        )
    _LOG.info("%s: the Hub cannot be reached (%s); the copy in the cache is used", place, reason)
    return [snapshot / name for name in _with_shards(_chosen(place, names), names)]


def _check_digest(path: Path) -> None:
    """Compare a file with the digest that the Hub states, which its name in the cache is.

    That is the SHA-256 of large files, and the one of git, a SHA-1, of small ones.

    Raises:
        CheckpointError: they differ.
    """
    if not path.is_symlink():  # a file system without links keeps no digest
        return
    stated = Path(os.readlink(path)).name
    digest: Any = hashlib.sha256() if len(stated) == 64 else hashlib.sha1(usedforsecurity=False)
    if len(stated) != 2 * digest.digest_size:
        return
    if len(stated) == 40:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: digest).hexdigest()
    if found != stated:
        raise CheckpointError(
            f"{path}: is not the file that the Hugging Face Hub states (digest {found[:12]}…, "
            f"expected {stated[:12]}…); delete it and load it again"
        )
