"""The errors that glocal raises on purpose.

::

    GlocalError
    ├── ArgumentError       an argument has a wrong value (also a ValueError)
    ├── ScanError           a network does not run at the sizes of a scan
    ├── ConversionError     a global operation cannot be made local
    ├── CheckpointError     a file of weights cannot be read or fits no known network
    ├── ImageError          an image file cannot be read or written, or has a wrong layout
    └── VideoError          a video file cannot be read or written

    GlocalWarning           the result is correct, but an option was not followed exactly

Every message says in one or two lines what was got, where, and what to do. The command line
prints it without a traceback and exits with a non-zero status.
"""

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "ConversionError",
    "GlocalError",
    "GlocalWarning",
    "ImageError",
    "ScanError",
    "VideoError",
]


class GlocalError(Exception):
    """Base class of all errors that glocal raises on purpose."""


class ArgumentError(GlocalError, ValueError):
    """An argument has a wrong value."""


class ScanError(GlocalError):
    """A network does not run at the sizes of a scan, or runs different operations."""


class ConversionError(GlocalError):
    """A global operation cannot be made local."""


class CheckpointError(GlocalError):
    """A file of weights cannot be read, or fits no known network."""


class ImageError(GlocalError):
    """An image file cannot be read or written, or an image has a wrong layout."""


class VideoError(GlocalError):
    """A video file cannot be read or written."""


class GlocalWarning(UserWarning):
    """The result is correct, but an option was not followed exactly."""
