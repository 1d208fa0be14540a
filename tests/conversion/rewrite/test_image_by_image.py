"""Graphs of one image run on a batch as on each image."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glocal.conversion.rewrite import capture
from glocal.conversion.rewrite.arguments import BatchError
from glocal.errors import ConversionError
from glocal.scanning.trace import Spec

CHANNELS = 4
RUNS = [
    ((Spec((1, CHANNELS, *size), torch.float32),), {}) for size in ((12, 16), (76, 16), (12, 80))
]


class Block(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.fc = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x):
        return self.function(self, x)


def loop_of_vectors(m, x):
    return torch.stack([t * m.fc(t.mean((1, 2)))[:, None, None] for t in x])


def loop_of_maps(m, x):
    return torch.cat([m.conv(x[i : i + 1]) for i in range(x.size(0))])


def loop_of_attention(m, x):
    out = []
    for i in range(x.shape[0]):
        tokens = x[i].permute(1, 2, 0).reshape(-1, CHANNELS)
        weights = (tokens.t() @ tokens / tokens.shape[0]).softmax(-1)
        out.append((m.fc(tokens) @ weights).transpose(0, 1).reshape(x[i].shape))
    return torch.stack(out, 0)


def loop_of_convolutions(m, x):
    return torch.stack([F.pad(m.conv(t), (0, 0, 0, 0)).relu() + t.flip(0) for t in x.unbind(0)])


def loop_of_colours(m, x):
    matrices = m.fc(x.mean((2, 3)))
    return torch.stack(
        [(x[i].permute(1, 2, 0) * matrices[i]).permute(2, 0, 1) for i in range(len(x))]
    )


def folded(m, x):
    b, c, h, w = x.shape
    return F.instance_norm(m.conv(x).reshape(1, b * c, h, w)).view(b, c, h, w)


def chunks(m, x):
    parts = [t.chunk(2, 0) for t in x]
    return torch.stack([torch.cat([b, a], 0).clamp(min=0) for a, b in parts])


FUNCTIONS = [
    loop_of_vectors,
    folded,
    chunks,
    *(
        pytest.param(function, marks=pytest.mark.slow)
        for function in (loop_of_maps, loop_of_attention, loop_of_convolutions, loop_of_colours)
    ),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_graph_of_one_image_runs_on_a_batch(function):
    module = Block(function).eval()
    block = capture(module, RUNS, image_by_image=True)
    assert not block.folds_batch
    for size in ((3, CHANNELS, 9, 7), (1, CHANNELS, 10, 20)):
        x = torch.randn(size)
        values = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        given = [
            values[block.parameters[n.name]] if n.name in block.parameters
            else block.constants.get(n.name, x)
            for n in block.graph.find_nodes(op="placeholder")
        ]  # fmt: skip
        graph = torch.fx.GraphModule(nn.Module(), block.graph)
        with torch.no_grad():
            got, wanted = graph(*given)[0], module(x)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_loop_over_the_batch_fixes_the_batch_size():
    with pytest.raises(BatchError, match=r"the batch size into a constant"):
        capture(Block(loop_of_maps), RUNS)


def test_operations_that_it_cannot_follow_are_refused_by_name():
    def sorts_images(m, x):
        return torch.stack([x[i] for i in range(x.shape[0])]).sort(0)[0]

    with pytest.raises(ConversionError, match=r"sort handles the images of a batch"):
        capture(Block(sorts_images), RUNS, image_by_image=True)
