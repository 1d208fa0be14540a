"""The errors that an answer reports, each with its status."""

from glocal.errors import GlocalError

__all__ = [
    "NoSuchError",
    "NotAllowedError",
    "NotReadyError",
    "RefusedError",
    "TooLargeError",
    "TooManyError",
    "UnreadableError",
]


class RefusedError(GlocalError):
    """A request that the server does not follow."""

    status = 422


class NotAllowedError(RefusedError):
    """It asks for what this client or this server may not have."""

    status = 403


class NoSuchError(RefusedError):
    """It names what does not exist."""

    status = 404


class NotReadyError(RefusedError):
    """It asks for the result of a job that has none, or not yet."""

    status = 409


class TooLargeError(RefusedError):
    """A photograph has more bytes or pixels than the server takes."""

    status = 413


class UnreadableError(RefusedError):
    """A file is no image that can be read."""

    status = 415


class TooManyError(RefusedError):
    """The queue is full, or the client has too many jobs in it."""

    status = 429
