"""Which nodes run on overlapping windows."""

import pytest
import torch
from captured import capture_function, nodes_of

from glocal.conversion.rewrite.nodes import operation
from glocal.conversion.rewrite.regions import regions
from glocal.errors import ConversionError


def tokens(x):
    return x.flatten(2).transpose(1, 2)


def attend(t, like):
    out = (t @ t.transpose(1, 2)).softmax(-1) @ t
    return out.transpose(1, 2).reshape(like.shape)


def grid(m, x):
    """Mix the cells of a 4x4 grid, as the grid half of MAXIM does."""
    b, c, h, w = x.shape
    cells = x.view(b, c, 4, h // 4, 4, w // 4).permute(0, 1, 3, 5, 2, 4).flatten(4)
    mixed = torch.nn.functional.linear(cells, torch.eye(16))
    mixed = mixed.unflatten(4, (4, 4)).permute(0, 1, 4, 2, 5, 3)
    return mixed.reshape(b, c, h, w)


def operations_of(region, block):
    return [operation(n) for n in block.graph.nodes if n in region.nodes]


def test_statistics_need_no_region():
    for function in (lambda m, x: x * x.mean((2, 3), keepdim=True), lambda m, x: m.wide(x)):
        assert regions(capture_function(function)) == []


def test_attention_runs_on_windows_from_map_to_map():
    block = capture_function(lambda m, x: m.wide(attend(tokens(m.conv(x)), x)))
    (region,) = regions(block)
    assert operations_of(region, block) == (
        "matmul softmax matmul transpose view".split()  # tokens (n, h * w, c) are maps
    )
    assert region.map_size == (12, 16)
    assert not region.grid
    assert region.cell(block) == (1, 1)


def test_layers_between_two_attentions_keep_them_apart():
    def two(m, x):
        y = m.wide(attend(tokens(x), x))
        return attend(tokens(y), y)

    first, second = regions(capture_function(two))
    assert not first.nodes & second.nodes


def test_attentions_whose_results_meet_share_their_windows():
    block = capture_function(
        lambda m, x: attend(tokens(m.conv(x)), x) * attend(tokens(m.wide(x)), x)
    )
    (region,) = regions(block)
    assert set(nodes_of(block, "softmax")) <= region.nodes


def test_a_grid_has_windows_of_whole_cells():
    block = capture_function(grid)
    (region,) = regions(block)
    assert region.grid
    assert nodes_of(block, "linear")[0] in region.nodes


@pytest.mark.parametrize(
    "factor",
    [
        lambda x: (x.flatten(2) @ x.flatten(2).mT).diagonal(dim1=1, dim2=2),
        lambda x: torch.einsum("bchw,bdhw->bcd", x, x).mean(2).sigmoid(),
        lambda x: torch.bmm(x.flatten(2), tokens(x)).amax(1).softmax(1),
    ],
)
def test_a_gram_matrix_that_becomes_a_factor_for_each_channel_is_refused(factor):
    with pytest.raises(ConversionError, match="for each pair of channels"):
        regions(capture_function(lambda m, x: x * factor(x)[..., None, None]))
