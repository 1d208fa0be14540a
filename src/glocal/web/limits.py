"""The limits of a server, each an option of ``glocal serve``."""

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What one server accepts.

    Attributes:
        nbytes: most bytes of a photograph.
        pixels: most pixels of a photograph.
        queue: most jobs that wait or run.
        jobs_per_client: most jobs of one network address that wait or run.
        seconds: most seconds that a job may run.
        memory: most bytes of memory of a worker; None for no limit. Measured on Linux alone.
        keep_s: seconds after which finished jobs are deleted.
    """

    nbytes: int = 200_000_000
    pixels: int = 64_000_000
    queue: int = 100
    jobs_per_client: int = 20
    seconds: float = 3600.0
    memory: int | None = None
    keep_s: float = 7 * 24 * 3600.0
