"""Say where in the user's code an exception comes from."""

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from glocal.errors import GlocalError
from glocal.shortages import shortage_text
from glocal.texts import one_line

__all__ = ["causes", "failure", "full_traceback", "user_line"]

_GLOCAL = Path(__file__).parents[1]
_OURS = (str(Path(torch.__file__).parent), str(_GLOCAL))
# Networks of glocal count as the user's code; what loads networks does not.
_NETWORKS = str(_GLOCAL / "networks")
_LOADERS = tuple(
    str(_GLOCAL / "networks" / name) for name in ("checkpoints", "fetching", "loading.py")
)
_STANDARD = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
_GENERATED = ("<string>", "<eval_with_key", "<frozen", "<lambdif")
_INSTALLED = ("site-packages", "dist-packages")
_SYMPY = "site-packages/sympy"

MOST = 200
"""Characters of a message that are shown."""


def failure(error: BaseException) -> str:
    """Return an error in one line: its type, its message, and the user's line.

    An error that glocal raised is its message alone, a shortage of the machine is named.

    >>> failure(KeyError("weight")), failure(AssertionError()), failure(GlocalError("too small"))
    ("KeyError: 'weight'", 'AssertionError', 'too small')
    """
    # the message of a syntax error ends with its place, as the result does
    text = error.msg if isinstance(error, SyntaxError) else one_line(error)
    kind = type(error).__name__
    if isinstance(error, GlocalError):
        return text
    if short := shortage_text(error):
        return short
    said = text if text == kind else f"{kind}: {text[:MOST]}"
    line = user_line(error)
    return f"{said} ({line})" if line else said


def user_line(error: BaseException) -> str:
    """Return the user's line that caused an error, "file.py:12"; empty if unknown.

    The user's are all lines but those of torch, glocal and Python. A line of another installed
    package counts if there is none outside the installed packages.
    """
    chain = list(causes(error))
    for each in chain:
        if isinstance(each, SyntaxError) and each.filename:
            return f"{Path(each.filename).name}:{each.lineno}"
    for wanted in (_is_users_own, _is_users):
        for each in chain:
            for frame in reversed(traceback.extract_tb(each.__traceback__)):
                if wanted(frame.filename):
                    return f"{Path(frame.filename).name}:{frame.lineno}"
    return next(_guard_lines(chain), "")


def full_traceback(error: BaseException) -> str:
    """Return the traceback of an error and of all of its causes, hidden ones too."""
    for each in causes(error):
        each.__suppress_context__ = False
    return "".join(traceback.format_exception(error)).rstrip()


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, the first cause first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return reversed(chain)


def _is_users(filename: str) -> bool:
    if filename.startswith(_NETWORKS):
        return not filename.startswith(_LOADERS)
    is_installed = any(name in filename for name in _INSTALLED)
    return not (
        filename.startswith(_OURS + _GENERATED)
        or (filename.startswith(_STANDARD) and not is_installed)
        or _SYMPY in filename
    )


def _is_users_own(filename: str) -> bool:
    return _is_users(filename) and not any(name in filename for name in _INSTALLED)


def _guard_lines(chain: list[BaseException]) -> Iterator[str]:
    """Yield the lines that fixed a size, for an error that is raised after the run.

    torch records them with the guards of its shape environment, which a frame of the traceback
    still refers to.
    """
    for each in chain:
        for frame, _ in traceback.walk_tb(each.__traceback__):
            for value in list(frame.f_locals.values()):
                if isinstance(value, FakeTensorMode) and value.shape_env is not None:
                    for guard in value.shape_env.guards:
                        place = getattr(guard.sloc, "framework_loc", None)
                        if isinstance(place, traceback.FrameSummary) and _is_users(place.filename):
                            yield f"{Path(place.filename).name}:{place.lineno}"
