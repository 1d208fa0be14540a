"""Says what in the user's code prevents the capture of a block.

An error of torch is translated by a table: torch's own text reaches the user only where no row
fits, in quotes.
"""

import re

from glocal.scanning.user_code import user_line

__all__ = ["reason_of"]

# The first row whose pattern is in "type of the error: its text" says why.
_REASONS = (
    (r"not a known type|register a pytree", "its code returns an object of a class that torch "
     "cannot look into"),
    (r"nonzero|UnbackedSymInt|DynamicOutputShape|masked_select|unique", "its code selects values "
     "by a mask or an index list, so that a size depends on the values of tensors"),
    (r"numpy\(\)|to a numpy|__array__|tolist", "its code takes values out of tensors (NumPy)"),
    (r"DataDependent|data-dependent|\bu\d+\b|vr must not be None|_local_scalar_dense|\.item\(\)",
     "its code branches on the values of tensors, or takes a number out of one"),
    (r"batch size", "its code turns the batch size into a constant"),
    (r"Constraints violated|specialized|inequality|cannot be solved|ConstraintViolation",
     "its code turns the image size into a constant"),
    (r"vmap|functorch|BatchedTensor", "its code maps a function over the batch (torch.vmap)"),
    (r"broadcast a dimension|must match the size|[Ss]izes of tensors must match|invalid for input "
     r"of size|shape mismatch|size mismatch|cannot be multiplied|Cannot view a "
     r"tensor|expanded size",
     "its code combines tensors whose sizes do not match at other image sizes"),
    (r"same dtype|expected scalar type|Input type .* and bias type|dtype", "its code mixes the "
     "dtype of its input with another one, so that it runs in one dtype only"),
    (r"same device|on the same device|device", "its code mixes tensors of two devices"),
    (r"assigned during export", "its code stores a tensor in an attribute of a module"),
    (r"mutat|in-?place|leaf Variable", "its code writes to a tensor in place, which cannot be "
     "captured"),
    (r"ScriptModule|torch\.jit|RecursiveScript", "it is compiled by torch.jit"),
    (r"torch\.compile|dynamo|Dynamo", "it is compiled by torch.compile"),
    (r"sparse", "its code uses sparse tensors"),
    (r"UnsupportedOperator", "its code calls an operation that this version of torch cannot "
     "capture"),
    (r"Unsupported input type|unsupported type|Unsupported|pytree", "its code passes or returns "
     "values that are not tensors"),
    (r"custom|torch\.library|NotImplementedError", "its code calls an operation that needs "
     "the values of tensors"),
)  # fmt: skip


def reason_of(error: BaseException, frozen_at: str = "") -> str:
    """Say what in the user's code caused an error of a capture or run, with its line.

    Args:
        error: from torch or from the user's code.
        frozen_at: the line that turned a size into a constant, if that is known.
    """
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frozen = re.findall(r"size\(\)\[(\d+)\]", text) if "Constraints violated" in text else []
    if frozen and set(frozen) == {"0"}:
        text = "batch size"
    why = next((reason for pattern, reason in _REASONS if re.search(pattern, text)), None)
    is_frozen = why is not None and "into a constant" in why
    line = (frozen_at if is_frozen else "") or user_line(error)
    at = f" ({line})" if line else ""
    return f"{why}{at}" if why else f'its code fails{at}: "{text[:120]}"'
