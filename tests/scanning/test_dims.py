"""Roles and factors of dims, through views, permutations and broadcasting."""

import pytest

from glocal.scanning.dims import (
    Factor,
    dims_of_shapes,
    inherit,
    map_size,
    permuted,
    product,
    regroup,
    role,
    roles,
)
from glocal.scanning.recorder import Call, Ref

RUNS = [(16, 24), (32, 24), (16, 48)]  # the three runs: (height, width)


def dims(shape):
    """Dims from a function of (h, w)."""
    return dims_of_shapes(*(shape(*size) for size in RUNS))


def view(source, target):
    """The dims of x.view(target) for x of shape source, both functions of (h, w)."""
    return regroup(dims(source), dims(target))


def sizes(dim):
    return [factor.sizes for factor in dim]


def call(name, **arguments):
    return Call(name, False, name, "", "", arguments, ())


def operand(made):
    return Ref(tuple(product(dim)[0] for dim in made), (), 0), made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((3, 3, 3), ""),
        ((16, 32, 16), "H"),
        ((24, 24, 48), "W"),
        ((384, 768, 768), "HW"),
        ((16, 31, 16), "H"),  # any change counts
        ((16, 8, 16), "H"),
    ],
)
def test_role(given, expected):
    assert role(given) == expected


def test_roles_are_those_of_all_factors():
    assert roles(dims(lambda h, w: (1, 3, h, w))) == {"H", "W"}
    assert roles(dims(lambda h, w: (1, 3, h * w))) == {"H", "W"}
    assert roles(dims(lambda h, w: (1, 3, h, 7))) == {"H"}
    assert roles(()) == set()


def test_dims_of_shapes_have_one_factor():
    (batch, rows) = dims(lambda h, w: (2, h))
    assert batch == (Factor((2, 2, 2)),)
    assert rows == (Factor((16, 32, 16)),)


def test_product_of_no_factors_is_one():
    assert product(()) == (1, 1, 1)
    assert product((Factor((2, 4, 2)), Factor((3, 3, 6)))) == (6, 12, 12)


# views


def test_flattening_keeps_height_and_width_as_factors():
    _, pixels = view(lambda h, w: (3, h, w), lambda h, w: (3, h * w))
    assert [role(factor.sizes) for factor in pixels] == ["H", "W"]


def test_unflattening_restores_the_dims():
    flat = view(lambda h, w: (3, h, w), lambda h, w: (3, h * w))
    assert regroup(flat, dims(lambda h, w: (3, h, w))) == dims(lambda h, w: (3, h, w))


def test_unflattening_a_dim_of_unknown_factors_keeps_the_sizes():
    restored = view(lambda h, w: (3, h * w), lambda h, w: (3, h, w))
    assert [product(dim) for dim in restored] == [(3, 3, 3), (16, 32, 16), (24, 24, 48)]


def test_a_constant_outer_part_of_an_axis_is_a_grid():
    (outer,), (inner,) = view(lambda h, w: (h,), lambda h, w: (4, h // 4))
    assert (outer.grid, outer.cell) == ("H", "")
    assert (inner.grid, inner.cell) == ("", "")
    assert role(inner.sizes) == "H"


def test_a_constant_inner_part_of_an_axis_is_a_cell():
    (outer,), (inner,) = view(lambda h, w: (w,), lambda h, w: (w // 8, 8))
    assert role(outer.sizes) == "W"
    assert (outer.grid, outer.cell) == ("", "")
    assert (inner.grid, inner.cell) == ("", "W")


@pytest.mark.parametrize("parts", [lambda h, w: (4, h // 4), lambda h, w: (h // 4, 4)])
def test_parts_of_an_axis_that_are_merged_again_are_the_axis(parts):
    split = view(lambda h, w: (h,), parts)
    assert regroup(split, dims(lambda h, w: (h,))) == dims(lambda h, w: (h,))


def test_a_split_of_channels_is_no_grid():
    for (factor,) in view(lambda h, w: (12,), lambda h, w: (3, 4)):
        assert (factor.grid, factor.cell) == ("", "")


def test_dims_of_size_one_take_no_factor():
    made = view(lambda h, w: (1, 3, h), lambda h, w: (1, 1, 3, h, 1))
    assert [product(dim) for dim in made] == [
        (1, 1, 1),
        (1, 1, 1),
        (3, 3, 3),
        (16, 32, 16),
        (1, 1, 1),
    ]


def test_sizes_that_do_not_divide_give_the_target():
    target = dims(lambda h, w: (4, 3 * h // 4))
    assert regroup(dims(lambda h, w: (3, h)), target) == target


def test_a_view_with_missing_factors_gives_the_target():
    target = dims(lambda h, w: (h, w))
    assert regroup(dims(lambda h, w: (h,)), target) == target


# other operations


@pytest.mark.parametrize(
    ("made", "order"),
    [
        (call("permute", dims=[0, -1, 1, 2]), [0, 3, 1, 2]),
        (call("transpose", dim0=1, dim1=-1), [0, 3, 2, 1]),
        (call("transpose", dim0=-2, dim1=-1), [0, 1, 3, 2]),
    ],
)
def test_permuted(made, order):
    given = dims(lambda h, w: (2, 3, h, w))
    assert permuted(made, given) == tuple(given[d] for d in order)


def test_t_swaps_two_dims_and_keeps_one():
    two = dims(lambda h, w: (h, w))
    assert permuted(call("t"), two) == two[::-1]
    assert permuted(call("t"), two[:1]) == two[:1]


def test_inherit_takes_the_factors_of_an_input_of_that_size():
    flat = view(lambda h, w: (3, h, w), lambda h, w: (3, h * w))
    (plain,) = dims(lambda h, w: (h * w,))
    assert inherit(plain, -1, [operand(flat)]) == flat[1]


def test_inherit_counts_from_the_end_as_broadcasting_does():
    flat = view(lambda h, w: (h, w), lambda h, w: (h * w,))
    (plain,) = dims(lambda h, w: (h * w,))
    assert inherit(plain, -1, [operand(flat)]) == flat[0]
    assert inherit(plain, -2, [operand(flat)]) == plain  # the input has one dim


def test_inherit_keeps_a_dim_that_no_input_has():
    (plain,) = dims(lambda h, w: (h // 2,))
    assert inherit(plain, -1, [operand(dims(lambda h, w: (h,)))]) == plain
    assert inherit(plain, -1, []) == plain


def test_inherit_prefers_grids_then_more_factors():
    plain = dims(lambda h, w: (4,))
    grid = view(lambda h, w: (h,), lambda h, w: (4, h // 4))[:1]
    assert inherit(plain[0], -1, [operand(plain), operand(grid)]) == grid[0]
    flat = view(lambda h, w: (h, w), lambda h, w: (h * w,))
    (pixels,) = dims(lambda h, w: (h * w,))
    assert inherit(pixels, -1, [operand((pixels,)), operand(flat)]) == flat[0]


H_W = ((16, 32, 16), (24, 24, 48))


@pytest.mark.parametrize(
    "made",
    [
        dims(lambda h, w: (2, 3, h, w)),
        dims(lambda h, w: (2, h, w, 3)),
        view(lambda h, w: (3, h, w), lambda h, w: (3, h * w)),
        view(lambda h, w: (h, w), lambda h, w: (h // 8, 8, w // 8, 8)),
        view(lambda h, w: (h, w), lambda h, w: (4, h // 4, 4, w // 4)),
    ],
)
def test_map_size_is_height_and_width(made):
    assert map_size([operand(made)]) == H_W


def test_map_size_of_the_first_operand_that_has_both():
    small = dims(lambda h, w: (h // 2, w // 2))
    given = [operand(dims(lambda h, w: (3,))), operand(small), operand(dims(lambda h, w: (h, w)))]
    assert map_size(given) == ((8, 16, 8), (12, 12, 24))


def test_map_size_is_none_without_both_axes():
    assert map_size([operand(dims(lambda h, w: (3, h)))]) is None
    assert map_size([operand(dims(lambda h, w: (3, h * w)))]) is None  # one size, no factors
    assert map_size([]) is None
