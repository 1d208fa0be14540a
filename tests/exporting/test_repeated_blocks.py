"""Blocks that repeat are captured once, and written with their own weights."""

import pytest
import torch
from oracles import randomise
from torch import nn
from versions import needs_onnx, needs_torch_2_7

import glocal
from glocal.exporting.export import export
from glocal.exporting.repeated_blocks import called_instead, capture_blocks


class Block(nn.Module):
    def __init__(self, channels=4, scale=1.0):
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("shift", torch.randn(channels, 1, 1))

    def forward(self, x):
        signal, gate = self.conv(x).chunk(2, 1)
        y = signal * gate
        return x + self.scale * y * self.gate(y) * self.beta + self.shift


class Net(nn.Module):
    def __init__(self, *scales):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.ModuleList(Block(scale=scale) for scale in scales)
        self.tail = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        y = self.head(x)
        for i, block in enumerate(self.blocks):
            y = block(y)
            if i == 0:
                y = nn.functional.avg_pool2d(y, 2)  # later blocks see another size
        return self.tail(y)


def blocks_of(net):
    with torch.no_grad():
        return capture_blocks(net, torch.rand(1, 3, 32, 40))


def test_blocks_of_one_configuration_are_captured_once():
    (found,) = blocks_of(randomise(Net(1.0, 1.0, 2.0, 1.0).eval()))
    assert found.paths == ("blocks.0", "blocks.1", "blocks.3")
    assert found.channels == 4


def test_a_block_with_a_hook_stands_for_itself():
    net = Net(1.0, 1.0, 1.0).eval()
    net.blocks[1].register_forward_hook(lambda module, args, made: made + 1)
    (found,) = blocks_of(net)
    assert found.paths == ("blocks.0", "blocks.2")


def test_a_block_that_changes_the_size_or_takes_more_is_left_alone():
    class Two(Net):
        def forward(self, x):
            y = self.head(x)
            return self.tail(self.blocks[1](self.blocks[0](y), scale=2))

    class TwoArguments(Block):
        def forward(self, x, scale=1):
            return super().forward(x) * scale

    net = Two().eval()
    net.blocks = nn.ModuleList([TwoArguments(), TwoArguments()])
    assert blocks_of(net.eval()) == ()


def test_the_network_is_itself_afterwards():
    net = randomise(Net(1.0, 1.0).eval())
    x = torch.rand(1, 3, 32, 40)
    with torch.no_grad():
        before = net(x)
        with called_instead(net, blocks_of(net)), pytest.raises(NotImplementedError):
            net(x)
        assert torch.equal(net(x), before)
    assert all("forward" not in vars(module) for module in net.modules())


@needs_onnx
@needs_torch_2_7("its ONNX files take fewer sizes")
def test_every_block_has_its_own_weights(tmp_path):
    import onnx

    net = randomise(Net(1.0, 1.0, 2.0, 1.0).eval())
    exported = export(glocal.localize(net, 16), tmp_path / "net.onnx")
    assert exported.difference < 1e-5
    model = onnx.load(exported.path)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    # The halves of each block's convolution are computed, not cut out of its result.
    assert "Split" not in exported.operators
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"blocks.1.beta", "blocks.3.beta"} <= names  # that of blocks.0 has another window


@needs_onnx
def test_a_written_file_tells_nothing_of_its_writer(tmp_path):
    exported = export(glocal.localize(Net(1.0, 1.0).eval(), 16), tmp_path / "net.onnx")
    content = exported.path.read_bytes()
    assert b"site-packages" not in content
    assert str(tmp_path).encode() not in content
    assert b"forward(" not in content
