"""The tables of aten operations, against torch: names exist, and values mix along the dims named.

More than 300 lines: tests mirror the modules, one file for each.

Which dims an operation mixes is measured: change one value of an input, and see whether the output
changes at another place along that dim.
"""

import math

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from glocal.scanning import aten
from glocal.scanning.aten import is_known, mixed_dims
from glocal.scanning.recorder import Call, Ref, operation_name

SHAPE = (2, 3, 2, 4)


def x(*shape):
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(0)).double()


def call_of(overload, *args, **kwargs):
    """The call as the recorder writes it, without outputs."""
    names = (argument.name for argument in overload._schema.arguments)
    arguments = dict(zip(names, args, strict=False)) | kwargs
    refs = tree_map_only(torch.Tensor, lambda t: Ref(tuple(t.shape), (), 0), arguments)
    pointwise = torch.Tag.pointwise in overload.tags
    return Call(operation_name(overload), pointwise, "", "", "", refs, ())


def mixed(overload, *args, **kwargs):
    """`mixed_dims` by argument name, with dims from the start."""
    call = call_of(overload, *args, **kwargs)
    names = {id(ref): name for name, ref in call.arguments.items()}
    return {
        names[id(ref)]: {dim % len(ref.shape) for dim in dims} for ref, dims in mixed_dims(call)
    }


def measured(function, given):
    """The dims of `given` along which its values change outputs at other places.

    A dim of the output that has size 1 is another place for all values but the first.
    """

    def outputs(t):
        return [leaf for leaf in tree_leaves(function(t)) if torch.is_tensor(leaf)]

    before, found = outputs(given), set()
    assert all(len(out.shape) == given.ndim for out in before)
    for place in torch.cartesian_prod(*map(torch.arange, given.shape)):
        for change in (-9.0, 9.0):  # to the lowest rank, and to the highest
            changed = given.clone()
            changed[tuple(place)] += change
            for a, b in zip(before, outputs(changed), strict=True):
                where = (a != b).logical_and(~(a.isnan() & b.isnan())).nonzero()
                found |= {d for d in range(given.ndim) for p in where if p[d] != place[d]}
    return found


OPS = torch.ops.aten

# Operations along given dims: overload, arguments after the tensor for dims 2 and 3 or for dim 2.
SEVERAL = {
    OPS.mean.dim: ((2, 3), True),
    OPS.sum.dim_IntList: ((2, 3), True),
    OPS.nansum.default: ((2, 3), True),
    OPS.nanmean.default: ((2, 3), True),
    OPS.amax.default: ((2, 3), True),
    OPS.amin.default: ((2, 3), True),
    OPS.logsumexp.default: ((2, 3), True),
    OPS.linalg_vector_norm.default: (2, (2, 3), True),
    OPS.norm.ScalarOpt_dim: (2, (2, 3), True),
}
CORRECTED = (
    OPS.std.correction,
    OPS.var.correction,
    OPS.var_mean.correction,
    OPS.std_mean.correction,
)
ONE = {
    OPS.prod.dim_int: (2, True),
    OPS.max.dim: (2, True),
    OPS.min.dim: (2, True),
    OPS.argmax.default: (2, True),
    OPS.argmin.default: (2, True),
    OPS.all.dim: (2, True),
    OPS.any.dim: (2, True),
    OPS.median.dim: (2, True),
    OPS.nanmedian.dim: (2, True),
    OPS.mode.default: (2, True),
    OPS.kthvalue.default: (2, 2, True),
    OPS._softmax.default: (2, False),
    OPS._log_softmax.default: (2, False),
    OPS._safe_softmax.default: (2,),
    OPS.cumsum.default: (2,),
    OPS.cumprod.default: (2,),
    OPS.logcumsumexp.default: (2,),
    OPS.cummax.default: (2,),
    OPS.cummin.default: (2,),
    OPS.sort.default: (2,),
    OPS.argsort.default: (2,),
    OPS.topk.default: (3, 2),
    OPS._fft_r2c.default: ([2], 0, True),
    OPS._fft_c2c.default: ([2], 0, True),
    OPS._fft_c2r.default: ([2], 0, 6),
}
BOOLEAN = {OPS.all.dim, OPS.any.dim}


def prepared(overload, t):
    if overload in BOOLEAN:
        return t > (0 if overload is OPS.any.dim else -1)
    if overload in (OPS._fft_c2c.default, OPS._fft_c2r.default):
        return t.to(torch.complex128)
    return t


@pytest.mark.parametrize("overload", SEVERAL, ids=str)
def test_reductions_of_several_dims(overload):
    args = SEVERAL[overload]
    assert mixed(overload, x(), *args) == {"self": {2, 3}}
    assert measured(lambda t: overload(t, *args), x()) == {2, 3}


@pytest.mark.parametrize("overload", CORRECTED, ids=str)
def test_moments(overload):
    assert mixed(overload, x(), (2, 3), correction=0) == {"self": {2, 3}}
    assert measured(lambda t: overload(t, (2, 3), correction=0, keepdim=True), x()) == {2, 3}


@pytest.mark.parametrize("overload", ONE, ids=str)
def test_operations_along_one_dim(overload):
    args = ONE[overload]
    given = x(2, 2, 4, 2)
    assert mixed(overload, given, *args) == {"self": {2}}
    assert measured(lambda t: overload(prepared(overload, t), *args), given) == {2}


def test_operations_with_keyword_dims():
    assert mixed(OPS.aminmax.default, x(), dim=2) == {"self": {2}}
    assert measured(lambda t: OPS.aminmax(t, dim=2, keepdim=True), x(2, 2, 4, 2)) == {2}
    assert mixed(OPS.count_nonzero.dim_IntList, x(), (2, 3)) == {"self": {2, 3}}
    counted = measured(lambda t: OPS.count_nonzero(t > 0, (2, 3))[..., None, None], x())
    assert counted == {2, 3}


@pytest.mark.parametrize(
    ("overload", "args"),
    [
        (OPS.mean.default, ()),
        (OPS.sum.default, ()),
        (OPS.max.default, ()),
        (OPS.sum.dim_IntList, ([],)),
        (OPS.amax.default, ([],)),
        (OPS.var.correction, (None,)),
    ],
    ids=str,
)
def test_no_dim_is_all_dims(overload, args):
    assert mixed(overload, x(), *args) == {"self": {0, 1, 2, 3}}


@pytest.mark.parametrize(
    ("overload", "args"),
    [
        (OPS.topk.default, (2,)),
        (OPS.kthvalue.default, (2,)),
        (OPS.sort.default, ()),
        (OPS.argsort.default, ()),
    ],
    ids=str,
)
def test_no_dim_is_the_last_in_torchs_signature(overload, args):
    assert mixed(overload, x(), *args) == {"self": {3}}
    (dim,) = [a for a in overload._schema.arguments if a.name == "dim"]
    assert dim.default_value == -1


def test_the_larger_of_two_tensors_mixes_nothing():
    assert mixed(OPS.max.other, x(), x()) == {}


MATMUL = {
    OPS.mm.default: ((x(2, 3), x(3, 4)), {"self": {1}, "mat2": {0}}),
    OPS.addmm.default: ((x(4), x(2, 3), x(3, 4)), {"mat1": {1}, "mat2": {0}}),
    OPS.bmm.default: ((x(5, 2, 3), x(5, 3, 4)), {"self": {2}, "mat2": {1}}),
    OPS.baddbmm.default: (
        (x(5, 2, 4), x(5, 2, 3), x(5, 3, 4)),
        {"batch1": {2}, "batch2": {1}},
    ),
    OPS.mv.default: ((x(2, 3), x(3)), {"self": {1}, "vec": {0}}),
    OPS.dot.default: ((x(3), x(3)), {"self": {0}, "tensor": {0}}),
}


@pytest.mark.parametrize("overload", MATMUL, ids=str)
def test_matrix_products_mix_what_they_contract(overload):
    args, expected = MATMUL[overload]
    assert mixed(overload, *args) == expected
    contracted = {
        args[place].shape[dim]
        for place, argument in enumerate(overload._schema.arguments)
        for dim in expected.get(argument.name, ())
    }
    assert contracted == {3}
    assert 3 not in overload(*args).shape


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_mixes_in_training_only(training):
    running = (torch.zeros(3).double(), torch.ones(3).double())

    def norm(t):
        moments = [value.clone() for value in running]
        return OPS.native_batch_norm(t, None, None, *moments, training, 0.1, 1e-5)[0]

    expected = {0, 2, 3} if training else set()
    overload = OPS.native_batch_norm.default
    got = mixed(overload, x(), None, None, *running, training, 0.1, 1e-5)
    assert got == ({"input": expected} if training else {})
    assert measured(norm, x()) == expected


@pytest.mark.parametrize(
    ("overload", "args"),
    [
        (OPS._native_batch_norm_legit.no_stats, (None, None, True, 0.1, 1e-5)),
        (OPS._native_batch_norm_legit.default, (None, None, None, None, True, 0.1, 1e-5)),
        (OPS.cudnn_batch_norm.default, (None, None, None, None, True, 0.1, 1e-5)),
        (OPS.miopen_batch_norm.default, (None, None, None, None, True, 0.1, 1e-5)),
        (OPS._batch_norm_with_update.default, (None, None, None, None, 0.1, 1e-5)),
    ],
    ids=str,
)
def test_other_batch_norms_mix_alike(overload, args):
    assert mixed(overload, x(), *args) == {"input": {0, 2, 3}}


def test_layer_norm_mixes_the_normalized_dims():
    overload = OPS.native_layer_norm.default
    assert mixed(overload, x(), [2, 4], None, None, 1e-5) == {"input": {2, 3}}
    assert measured(lambda t: overload(t, [2, 4], None, None, 1e-5)[0], x()) == {2, 3}


def test_group_norm_mixes_channels_and_pixels():
    overload = OPS.native_group_norm.default
    assert mixed(overload, x(), None, None, 2, 3, 8, 1, 1e-5) == {"input": {1, 2, 3}}
    assert measured(lambda t: overload(t, None, None, 2, 3, 8, 1, 1e-5)[0], x()) == {1, 2, 3}


CONVOLUTION = (None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)


@pytest.mark.parametrize(
    ("overload", "args", "tensor"),
    [
        (OPS.convolution.default, CONVOLUTION, "input"),
        (OPS.convolution_overrideable.default, CONVOLUTION, "input"),
        (OPS.mkldnn_convolution.default, (None, (0, 0), (1, 1), (1, 1), 1), "self"),
        (OPS.cudnn_convolution.default, ((0, 0), (1, 1), (1, 1), 1, False, False, True), "self"),
    ],
    ids=str,
)
def test_convolutions_mix_channels(overload, args, tensor):
    assert mixed(overload, x(), x(3, 3, 1, 1), *args) == {tensor: {1}}


def test_a_pixel_wise_convolution_mixes_channels_alone():
    weight = x(3, 3, 1, 1)
    assert measured(lambda t: OPS.convolution(t, weight, *CONVOLUTION), x()) == {1}


@pytest.mark.parametrize(
    "overload",
    [
        OPS._scaled_dot_product_attention_math.default,
        OPS._scaled_dot_product_flash_attention.default,
        OPS._scaled_dot_product_flash_attention_for_cpu.default,
        OPS._scaled_dot_product_efficient_attention.default,
        OPS._scaled_dot_product_cudnn_attention.default,
    ],
    ids=str,
)
def test_attention_mixes_tokens_and_channels(overload):
    query, key, value = (x(2, 2, tokens, 4) for tokens in (3, 5, 5))
    got = mixed(overload, query, key, value)
    assert got == {"query": {3}, "key": {2, 3}, "value": {2}}
    assert is_known(call_of(overload, query, key, value))


@pytest.mark.parametrize("name", sorted(aten._LOCAL))
def test_local_operations_mix_nothing(name):
    assert mixed_dims(Call(name, False, "", "", "", {"self": Ref(SHAPE, (), 0)}, ())) == []
    assert is_known(Call(name, False, "", "", "", {}, ()))


TABLES = {
    name: table
    for name, table in vars(aten).items()
    if isinstance(table, frozenset | set | dict) and not name.startswith("__")
}


@pytest.mark.parametrize("table", TABLES)
def test_every_name_is_an_operation_of_aten(table):
    assert [name for name in TABLES[table] if not hasattr(OPS, name)] == []


def test_every_operation_along_dims_is_tested():
    keyword = {"aminmax", "count_nonzero"}
    tested = {operation_name(overload) for overload in (*SEVERAL, *CORRECTED, *ONE)}
    assert tested | keyword == aten._ALONG_DIM
    assert {operation_name(overload) for overload in MATMUL} == set(aten._MATMUL)


def test_tables_of_one_effect_do_not_overlap():
    tables = (
        aten._ALONG_DIM, set(aten._MATMUL), aten._BATCH_NORM, aten._CONVOLUTION, aten.VIEWS,
        aten.INDEXING, aten._LOCAL,
    )  # fmt: skip
    assert sum(map(len, tables)) == len(set().union(*tables))


def test_pointwise_operations_are_known_and_mix_nothing():
    call = call_of(OPS.mul.Tensor, x(), x())
    assert is_known(call)
    assert mixed_dims(call) == []


def test_an_operation_in_no_table_is_unknown():
    assert not is_known(Call("histc", False, "", "", "", {}, ()))


def test_measured_finds_what_a_shift_mixes():
    """The measure itself, on an operation with a known answer."""
    assert measured(lambda t: t.roll(1, 2), x()) == {2}
    assert measured(lambda t: t * math.pi, x()) == set()
