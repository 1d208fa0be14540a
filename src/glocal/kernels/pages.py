"""Large results on huge pages, as NumPy has its arrays.

New memory costs a fault each page when it is first written: at 4 KiB a page that is several times
what a copy of the tensor costs by itself, at 2 MiB next to nothing.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from mmap import PAGESIZE

from torch import Tensor

from glocal.kernels.plain import is_plain

__all__ = ["on_huge_pages"]

LEAST_BYTES = 32 << 20
"""Of a tensor: from here on the C library takes new memory for each. What is smaller lies in memory
that was used before, where huge pages cost more than they save."""
_MADV_HUGEPAGE = 14


def on_huge_pages(out: Tensor) -> Tensor:
    """The same tensor, new and not yet written to, whose memory asks for huge pages.

    Linux may refuse, and elsewhere there are none: only the time it takes differs.
    """
    # other classes than Tensor itself may have no memory of their own
    if type(out) is not Tensor or not is_plain(out) or out.nbytes < LEAST_BYTES:
        return out
    advise = _madvise()
    if advise is not None:
        first, last = out.data_ptr(), out.data_ptr() + out.nbytes
        begin = -(-first // PAGESIZE) * PAGESIZE
        advise(begin, last // PAGESIZE * PAGESIZE - begin, _MADV_HUGEPAGE)
    return out


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        madvise = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return None
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    advise: Callable[[int, int, int], int] = madvise
    return advise
