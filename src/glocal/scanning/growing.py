"""Integer arguments that change with the image size, and so make a call global.

A kernel, a stride or a number of cells that follows the image mixes more pixels of a larger image.
"""

from fractions import Fraction
from typing import Any

from glocal.scanning.effects import PADS, Calls
from glocal.scanning.recorder import Call, Ref

__all__ = ["growing_argument"]

# Pixels that sizes which are rounded, or grow by a margin, may differ from a share of the map.
_MARGIN = 2

_POOLS = frozenset(
    "avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool2d_with_indices max_pool3d_with_indices "
    "im2col col2im convolution convolution_overrideable mkldnn_convolution cudnn_convolution "
    "max_unpool2d".split()
)
# Integer arguments that may change with the image, because the shape of the output or the code
# below accounts for them.
_SIZES = {
    **dict.fromkeys(
        "view _unsafe_view _reshape_alias expand as_strided zeros ones empty full rand randn "
        "new_zeros new_ones new_empty new_full new_empty_strided empty_strided resize "
        "_reshape_copy".split(),
        frozenset(["size", "stride", "storage_offset"]),
    ),
    **dict.fromkeys(["slice", "slice_scatter"], frozenset(["start", "end"])),
    **dict.fromkeys(["select", "select_scatter"], frozenset(["index"])),
    "split": frozenset(["split_size"]),
    "split_with_sizes": frozenset(["split_sizes"]),
    "constant_pad_nd": frozenset(["pad"]),
    **dict.fromkeys(PADS, frozenset(["padding"])),
    "roll": frozenset(["shifts"]),
    "col2im": frozenset(["output_size"]),
    "max_unpool2d": frozenset(["output_size"]),
    "unfold": frozenset(["size"]),
    "repeat": frozenset(["repeats"]),
    "native_layer_norm": frozenset(["normalized_shape"]),
    "native_group_norm": frozenset(["N", "C", "HxW", "group"]),
    **dict.fromkeys(["arange", "linspace", "fill", "scalar_tensor", "masked_fill"], None),
}


def growing_argument(calls: Calls) -> str | None:
    """Why an integer argument that changes between the runs makes a call global."""
    call = calls[0]
    if call.name == "unfold" and call.arguments["size"] != calls[1].arguments["size"]:
        count = call.arguments["dimension"]
        if len({each.outputs[0][count] for each in calls}) > 1:
            return "its windows grow with the image"
    weight = call.arguments.get("weight")
    if (
        "convolution" in call.name
        and isinstance(weight, Ref)
        and any(weight.shape[2:] != each.arguments["weight"].shape[2:] for each in calls[1:])
    ):
        return "its kernel grows with the image"
    allowed = _SIZES.get(call.name, frozenset[str]())
    if _resamples(call):
        return _growing_cells(calls)
    if call.pointwise or allowed is None:
        return None
    for name, value in call.arguments.items():
        values = (value, *(other.arguments.get(name) for other in calls[1:]))
        if name in allowed or not _is_int(value) or all(v == value for v in values[1:]):
            continue
        if call.name in _POOLS:
            what = {"kernel_size": "kernel", "dilation": "kernel"}.get(name, name)
            return f"its {what} grows with the image"
        return f"its argument '{name}' changes with the image size"
    return None


def _resamples(call: Call) -> bool:
    return "adaptive" in call.name or call.name.startswith(("upsample", "_upsample"))


def _growing_cells(calls: Calls) -> str | None:
    """Whether a resized map has another scale at another image size."""
    (ref, *_), out = calls[0].refs(), calls[0].outputs[0]
    for d in range(2, len(ref.shape)):
        for other in calls[1:]:
            n, m = ref.shape[d], other.refs()[0].shape[d]
            if n == m:
                continue
            share = Fraction(other.outputs[0][d] - out[d], m - n)
            if share and abs(out[d] - share * n) > _MARGIN:
                return "the scale by which it resizes the map changes with the image size"
    return None


def _is_int(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(each, int) for each in value)
    return isinstance(value, int)
