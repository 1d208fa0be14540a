"""The errors glocal raises for a user's mistake or an impossible request.

::

    GlocalError
    ├── ArgumentError       an argument has a wrong value (also a ValueError)
    ├── ScanError           a network could not be run for scanning
    ├── ConversionError     a global operation cannot be made local
    ├── CheckpointError     a file of weights cannot be read or fits no known network
    └── ImageError          an image file cannot be read or written, or has a wrong layout

    GlocalWarning           the result is right, but was not made quite as asked

Every message says what was got, where, and what to do, in one or two lines; the command
line prints it without a traceback and exits with a non-zero status.
"""

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConversionError",
    "GlocalError",
    "GlocalWarning",
    "ImageError",
    "ScanError",
]


class GlocalError(Exception):
    """Base of every error that glocal raises on purpose."""


class ArgumentError(GlocalError, ValueError):
    """An argument has a value that cannot be used."""


class ScanError(GlocalError):
    """A network could not be run at the sizes a scan needs."""


class ConversionError(GlocalError):
    """A global operation cannot be converted to its local form."""


class CheckpointError(GlocalError):
    """A file of weights cannot be read, or fits no known network."""


class ImageError(GlocalError):
    """An image cannot be read, written, or handled as it is."""


class GlocalWarning(UserWarning):
    """What was asked is done, though not quite in the way that was asked."""
