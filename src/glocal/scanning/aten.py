"""The dims along which each aten operation mixes values, as tables of names."""

from collections.abc import Sequence

from glocal.scanning.recorder import Call, Ref

__all__ = [
    "CUTS",
    "FACTORIES",
    "FOURIER",
    "INDEXING",
    "SELECTING",
    "TRANSPOSING",
    "VIEWS",
    "has_weights",
    "is_known",
    "mixed_dims",
]

# Mix values along the dims in their argument `dim`; along all dims if it is absent.
_ALONG_DIM = frozenset(
    "mean sum amax amin std var var_mean std_mean linalg_vector_norm norm prod logsumexp max min "
    "argmax argmin aminmax all any nansum nanmean median nanmedian mode count_nonzero kthvalue "
    "_softmax _log_softmax _safe_softmax cumsum cumprod logcumsumexp cummax cummin sort argsort "
    "topk _fft_r2c _fft_c2c _fft_c2r".split()
)
# Operations that use the last dim if `dim` is absent.
_LAST_BY_DEFAULT = frozenset("topk sort argsort kthvalue".split())
# Matrix products: the dims that they contract, by argument.
_MATMUL = {
    "mm": (("self", -1), ("mat2", 0)),
    "addmm": (("mat1", -1), ("mat2", 0)),
    "bmm": (("self", -1), ("mat2", -2)),
    "baddbmm": (("batch1", -1), ("batch2", -2)),
    "mv": (("self", -1), ("vec", 0)),
    "dot": (("self", 0), ("tensor", 0)),
}
_BATCH_NORM = frozenset(
    "native_batch_norm _native_batch_norm_legit cudnn_batch_norm miopen_batch_norm "
    "_batch_norm_with_update".split()
)
_CONVOLUTION = frozenset(
    "convolution convolution_overrideable mkldnn_convolution cudnn_convolution".split()
)

SELECTING = frozenset("topk sort argsort kthvalue argmax argmin median nanmedian mode".split())
"""Operations that select values by rank."""
FOURIER = frozenset("_fft_r2c _fft_c2c _fft_c2r".split())
"""Fourier transforms."""
TRANSPOSING = frozenset("permute transpose t rot90".split())
"""Operations that change the order of dims."""
VIEWS = frozenset("view _unsafe_view _reshape_alias squeeze unsqueeze".split())
"""Operations that merge and split dims and keep the order of values."""
INDEXING = frozenset("select slice index index_select gather narrow unfold".split())
"""Operations that select values by position."""
CUTS = frozenset("select slice narrow split split_with_sizes unbind chunk".split())
"""Operations that take a part of one dim."""
FACTORIES = frozenset(
    "zeros_like empty_like rand_like randn_like new_zeros new_ones new_empty new_full "
    "new_empty_strided".split()
)
"""Operations that take only the shape of their operand. A sum of `ones_like` counts pixels."""

# Read a bounded neighbourhood of each output pixel, or move values without mixing them.
_LOCAL = frozenset(
    "avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool2d_with_indices "
    "max_pool3d_with_indices max_unpool2d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_max_pool2d upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
    "_upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d cat stack split split_with_sizes unbind chunk expand "
    "repeat clone copy alias detach permute transpose t _to_copy lift_fresh pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle im2col col2im flip roll rot90 "
    "grid_sampler_2d grid_sampler_3d _native_batch_norm_legit_no_training tril triu diagonal "
    "index_put scatter scatter_add scatter_reduce index_add index_copy index_fill index_reduce "
    "take slice_scatter select_scatter zeros_like ones_like new_empty_strided empty_strided "
    "empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full zeros ones "
    "empty full arange linspace fill zero scalar_tensor rand randn embedding prelu "
    "_prelu_kernel native_dropout bernoulli lerp real imag view_as_real view_as_complex complex "
    "glu _conj polar hardswish log_sigmoid_forward rrelu_with_noise special_expit "
    "masked_fill".split()
)
_KNOWN = (
    _ALONG_DIM | set(_MATMUL) | _BATCH_NORM | _CONVOLUTION | VIEWS | INDEXING | _LOCAL
    | {"native_layer_norm", "native_group_norm"}
)  # fmt: skip


def is_known(call: Call) -> bool:
    """Whether `mixed_dims` is complete for the call; else what it mixes is unknown."""
    if call.name == "as_strided":  # else what it reads depends on how the memory is laid out
        return call.outputs[:1] == (call.arguments["self"].shape,)
    return call.pointwise or call.name in _KNOWN or call.name.startswith("_scaled_dot_product")


def has_weights(call: Call, from_input: Sequence[bool]) -> bool:
    """Whether a call mixes channels or neighbours by weights, as a layer does.

    Args:
        call: the call.
        from_input: for each tensor that it reads, whether that depends on the network's input.
    """
    if call.name in _CONVOLUTION:
        return True
    return call.name in (*_MATMUL, "native_layer_norm") and not all(from_input)


def mixed_dims(call: Call) -> list[tuple[Ref, tuple[int, ...]]]:
    """Return the tensors whose values a call mixes, each with the dims that it mixes.

    A dim may count from the end. Neighbourhoods of a bounded size (convolution, pooling) are not
    mixing, and neither are operations that `is_known` does not know.
    """
    arguments = call.arguments
    name = call.name

    def rank(argument: str) -> int:
        return len(arguments[argument].shape)

    by_name: list[tuple[str, tuple[int, ...]]] = []
    if name in _ALONG_DIM:
        # max(a, b) of two tensors is element by element, but not every torch tags it pointwise.
        if "other" not in arguments:
            default = -1 if name in _LAST_BY_DEFAULT else None
            dim = arguments.get("dim", default)
            if dim is None or dim == []:
                dim = list(range(rank("self")))
            by_name = [("self", (dim,) if isinstance(dim, int) else tuple(dim))]
    elif name in _MATMUL:
        by_name = [(argument, (dim,)) for argument, dim in _MATMUL[name]]
    elif name in _BATCH_NORM:
        if arguments.get("training", True):
            by_name = [("input", (0, *range(2, rank("input"))))]
    elif name == "native_layer_norm":
        by_name = [("input", tuple(range(-len(arguments["normalized_shape"]), 0)))]
    elif name == "native_group_norm":
        by_name = [("input", tuple(range(1, rank("input"))))]
    elif name in _CONVOLUTION:
        by_name = [("input" if "input" in arguments else "self", (1,))]
    elif name.startswith("_scaled_dot_product"):
        by_name = [("query", (-1,)), ("key", (-1, -2)), ("value", (-2,))]
    return [
        (ref, dims) for argument, dims in by_name if isinstance(ref := arguments[argument], Ref)
    ]
