"""Functions that are decomposed during capture compute the same."""

import pytest
import torch
import torch.nn.functional as F

from glocal.conversion.rewrite.decompositions import Decompositions

FUNCTIONS = {
    "einsum_sum": lambda x: torch.einsum("bchw->bc", x),
    "einsum_sum_of_list": lambda x: torch.einsum("bchw->bch", [x]),
    "einsum_product": lambda x: torch.einsum("bchw,bc->bchw", x, x[..., 0, 0]),
    "einsum_transposed_sum": lambda x: torch.einsum("bchw->cb", x),
    "einsum_contraction": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "einsum_ellipsis": lambda x: torch.einsum("...w->...", x),
    "cosine": lambda x: F.cosine_similarity(x, x.flip(1), dim=1),
    "cosine_of_nothing": lambda x: F.cosine_similarity(x * 0, x),
    "batch_norm_of_one": lambda x: F.batch_norm(
        x.view(1, -1, 5, 6), None, None, x[:, :, 0, 0].flatten(), x[:, :, 1, 1].flatten(), True
    ),
    "batch_norm_of_one_with_repeated_statistics": lambda x: F.batch_norm(
        x.view(1, -1, 5, 6), torch.zeros(6).double(), torch.ones(6).double(), training=True
    ),
    "std_mean": lambda x: torch.stack(torch.std_mean(x, (2, 3), keepdim=True)),
    "std_mean_biased": lambda x: torch.stack(torch.std_mean(x, dim=-1, unbiased=False)),
    "std_mean_of_all": lambda x: torch.stack(torch.std_mean(x, False)),
    "var_mean": lambda x: torch.stack(torch.var_mean(x, (2, 3), False, True)),
    "var_mean_corrected": lambda x: torch.stack(torch.var_mean(x, dim=(2, 3), correction=2)),
    "broadcast_tensors": lambda x: torch.stack(torch.broadcast_tensors(x, x[..., :1], x[:1])),
    "batch_norm_of_many": lambda x: F.batch_norm(x, None, None, training=True),
    "fixed_pools": lambda x: F.avg_pool2d(x, 2) + F.max_pool2d(x, (2, 2)) + F.lp_pool2d(x, 2, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_unchanged(name):
    function = FUNCTIONS[name]
    x = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    wanted = function(x)
    with Decompositions():
        torch.testing.assert_close(function(x), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pool", [F.avg_pool2d, F.max_pool2d, lambda x, k: F.lp_pool2d(x, 2, k)])
def test_pools_of_the_whole_map_serve_every_size(pool):
    class Pool(torch.nn.Module):
        def forward(self, x):
            with Decompositions():
                return pool(x, x.shape[2:])

    dynamic = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        Pool(), (torch.rand(2, 3, 5, 6),), dynamic_shapes=(dynamic,), strict=False
    )
    x = torch.rand(2, 3, 8, 4)
    torch.testing.assert_close(program.module()(x), pool(x, x.shape[2:]))
