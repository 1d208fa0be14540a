"""Checkpoints on the Hugging Face Hub.

The only module that imports huggingface_hub, which is optional.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.files import INDEX, SUFFIXES
from glocal.networks.checkpoints.optional import brief, imported
from glocal.texts import few_names

__all__ = ["download", "is_repository"]

_SHARD = re.compile(r"-\d+-of-\d+\.\w+$")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def is_repository(name: str) -> bool:
    """True for the name of a repository or a file in it: "owner/name:file".

    >>> [is_repository(name) for name in ("me/deblur", "me/deblur:gopro.pth", "gopro.pth")]
    [True, True, False]
    """
    repository, colon, file = name.partition(":")
    return bool(_REPOSITORY.fullmatch(repository)) and bool(file) == bool(colon)


def download(name: str) -> Path:
    """Download a checkpoint from the Hugging Face Hub, or read it from the cache.

    Args:
        name: "owner/name" of a repository with one checkpoint (in any number of formats), or
            "owner/name:path/of/file".

    Raises:
        CheckpointError: huggingface_hub is not installed, the Hub cannot be reached or does not
            have the file, or the repository has several checkpoints.
    """
    hub = imported("huggingface_hub", f"{name}: no such file, and it cannot be downloaded")
    repository, _, file = name.partition(":")
    try:
        files = hub.list_repo_files(repository) if not file or file.endswith(INDEX) else []
        file = file or _only_checkpoint(repository, files)
        if file.endswith(INDEX):
            stem, suffix = PurePosixPath(file.removesuffix(INDEX)).parts[-1].rsplit(".", 1)
            for shard in files:
                if re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.{suffix}", Path(shard).name):
                    hub.hf_hub_download(repository, shard)
        return Path(hub.hf_hub_download(repository, file))
    except CheckpointError:
        raise
    except Exception as error:  # errors of the Hub, the connection, the file system
        raise CheckpointError(
            f"{name}: no such file, and it cannot be downloaded from the Hugging Face Hub "
            f"({type(error).__name__}: {brief(error)})"
        ) from None


def _only_checkpoint(repository: str, files: Iterable[str]) -> str:
    files = [file for file in files if not _SHARD.search(file)]
    checkpoints = [PurePosixPath(file) for file in files if file.endswith((*SUFFIXES, INDEX))]
    # safetensors files take precedence over the same checkpoint in another format
    safe = {path.with_suffix("") for path in checkpoints if path.suffix == ".safetensors"}
    candidates = [
        str(path)
        for path in checkpoints
        if path.suffix == ".safetensors" or path.with_suffix("") not in safe
    ]
    if not candidates:
        raise CheckpointError(f"{repository}: the repository has no {', '.join(SUFFIXES)} file")
    if len(candidates) > 1:
        raise CheckpointError(
            f"{repository}: the repository has {len(candidates)} checkpoints, "
            f"{few_names(candidates, 8)}; choose one, such as {repository}:{candidates[0]}"
        )
    return candidates[0]
