"""What reductions reduce, read from their arguments."""

import pytest
import torch
import torch.nn.functional as F
from captured import capture_function, nodes_of

from glocal.conversion.rewrite.block import MapDims
from glocal.conversion.rewrite.nodes import REDUCTIONS, operation
from glocal.conversion.rewrite.reductions import Reduction, norm_groups
from glocal.errors import ConversionError

NCHW = MapDims(2, 3)

OF = {  # a reduction: kind, dims, keepdim, options
    "mean": (lambda x: x.mean((2, 3)), "mean", (2, 3), False, {}),
    "mean of negative dims": (lambda x: x.mean((-1, -2), keepdim=True), "mean", (3, 2), True, {}),
    "mean of one dim": (lambda x: x.mean(-1), "mean", (3,), False, {}),
    "sum of all": (lambda x: x.sum(), "sum", (0, 1, 2, 3), False, {}),
    "amax": (lambda x: x.amax((2, 3)), "amax", (2, 3), False, {}),
    "amin": (lambda x: x.amin((2, 3)), "amin", (2, 3), False, {}),
    "max": (lambda x: x.max(3).values, "amax", (3,), False, {}),
    "min": (lambda x: x.min(2, keepdim=True).values, "amin", (2,), True, {}),
    "std": (lambda x: x.std((2, 3)), "std", (2, 3), False, {"correction": 1}),
    "std, biased": (
        lambda x: x.std((2, 3), unbiased=False), "std", (2, 3), False, {"correction": 0}
    ),
    "var, corrected": (
        lambda x: x.var((2, 3), correction=3), "var", (2, 3), False, {"correction": 3}
    ),
    "var_mean": (
        lambda x: torch.var_mean(x, (2, 3), correction=0)[0], "var", (2, 3), False,
        {"correction": 0},
    ),
    "norm": (lambda x: x.norm(dim=(2, 3)), "norm", (2, 3), False, {"order": 2}),
    "vector_norm": (
        lambda x: torch.linalg.vector_norm(x, 1, (2, 3)), "norm", (2, 3), False, {"order": 1}
    ),
    "logsumexp": (lambda x: x.logsumexp((2, 3)), "logsumexp", (2, 3), False, {}),
    "adaptive mean": (lambda x: F.adaptive_avg_pool2d(x, 1), "mean", (2, 3), True, {}),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, 1), "amax", (2, 3), True, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", OF)
def test_of(name):
    function, *wanted = OF[name]
    block = capture_function(lambda m, x: function(x))
    node = next(n for n in block.graph.nodes if operation(n) in REDUCTIONS)
    made = Reduction.of(block, node)
    assert [made.kind, made.dims, made.keepdim, made.options] == wanted


def test_a_norm_of_another_order_has_no_local_form():
    block = capture_function(lambda m, x: torch.linalg.vector_norm(x, 3, (2, 3)))
    (node,) = nodes_of(block, "linalg_vector_norm")
    with pytest.raises(ConversionError, match="norm of order 3"):
        Reduction.of(block, node)


@pytest.mark.parametrize(
    ("dims", "keepdim", "shape", "wanted"),
    [
        ((2, 3), True, (2, 4, 6, 5), (4, 1, 1)),
        ((2, 3), False, (2, 4, 6, 5), (4,)),
        ((1, 2, 3), False, (2, 4, 6, 5), ()),
        ((1, 2, 3), True, (2, 4, 6, 5), (1, 1, 1)),
        ((2,), False, (2, 4, 30), (4,)),
    ],
)
def test_shape_of_the_result(dims, keepdim, shape, wanted):
    reduction = Reduction("mean", dims, keepdim)
    assert reduction.item_shape(shape) == wanted
    assert torch.zeros(shape).mean(dims, keepdim).shape[1:] == wanted


@pytest.mark.parametrize(
    ("dims", "where", "rank", "wanted"),
    [
        ((2, 3), NCHW, 4, []),
        ((1, 2, 3), NCHW, 4, [1]),
        ((1, 2, 3), MapDims(1, 2), 4, [1]),  # channels last: (n, h, w, c) as (n, c, h, w)
        ((1, 2), MapDims(1, 1), 3, [1]),  # tokens (n, h * w, c)
        ((1,), MapDims(1, 1, channels=4), 2, [1]),  # (n, c * h * w)
        ((1, 3), MapDims(3, 3), 4, [1]),
    ],
)
def test_other_dims_in_a_map_with_rows_and_columns_last(dims, where, rank, wanted):
    assert Reduction("mean", dims, True).reduced_channels(where, rank) == wanted


@pytest.mark.parametrize(
    ("dims", "reason"),
    [((0, 2, 3), "maximum over the images of a batch"), ((1,), "over neither rows nor columns")],
)
def test_dims_that_have_no_local_form(dims, reason):
    with pytest.raises(ConversionError, match=reason):
        Reduction("amax", dims, True).check(NCHW)
    Reduction("amax", (1, 2, 3), True).check(NCHW)


@pytest.mark.parametrize(
    ("first", "second", "keepdim", "wanted"),
    [((3,), (2,), False, (2, 3)), ((2,), (2,), False, (2, 3)), ((2,), (3,), True, (2, 3))],
)
def test_two_reductions_of_one_axis_each(first, second, keepdim, wanted):
    half, other = (Reduction("mean", dims, keepdim) for dims in (first, second))
    assert half.is_over_one_axis(NCHW)
    both = half.with_second(other, rank=4)
    assert both == Reduction("mean", wanted, keepdim)
    assert not both.is_over_one_axis(NCHW)


def test_two_reductions_of_different_kinds_are_not_one():
    with pytest.raises(ConversionError, match="mean over one axis of the map and maximum over"):
        Reduction("mean", (3,), False).with_second(Reduction("amax", (2,), False), rank=4)


@pytest.mark.parametrize(
    ("function", "groups"),
    [
        (lambda m, x: F.instance_norm(x), 4),
        (lambda m, x: F.group_norm(x, 2), 2),
        (lambda m, x: F.layer_norm(x, x.shape[1:]), 1),
        (lambda m, x: F.layer_norm(x, x.shape[2:]), 4),
        (lambda m, x: F.layer_norm(x.flatten(2), [x.shape[2] * x.shape[3]]), 4),
        (lambda m, x: F.layer_norm(x.flatten(1), [4 * x.shape[2] * x.shape[3]]), 1),
        (lambda m, x: F.layer_norm(x.unflatten(1, (2, 2)), (2, *x.shape[2:])), 2),
        (lambda m, x: F.layer_norm(x.movedim(1, -1), (*x.shape[2:], 4)), 1),
    ],
)
def test_groups_of_norms(function, groups):
    block = capture_function(function)
    (node,) = block.globals
    assert norm_groups(block, node) == groups
