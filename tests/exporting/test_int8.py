"""Exported files in 8-bit integers."""

import numpy as np
import pytest
import torch
from torch import nn
from versions import crops_in_onnx, needs_onnx

import glocal
from glocal.errors import ArgumentError
from glocal.exporting.capture import CapturedProgram
from glocal.exporting.int8 import MOST_PARTS, calibration_parts

pytestmark = needs_onnx


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        y = self.depthwise(self.first(x))
        return x + 0.2 * self.last(y * self.pool(y))


def photographs(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


def run_of(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*inputs):
        fed = dict(zip(names, (np.asarray(x) for x in inputs), strict=True))
        return session.run(None, fed)

    return run


@pytest.mark.parametrize("statistics", ["windows", pytest.param("crops", marks=crops_in_onnx)])
def test_dense_convolutions_compute_in_8_bits(statistics, tmp_path):
    import onnx

    local = glocal.localize(Net(), 32, statistics=statistics, verify=False)
    path = tmp_path / "net.onnx"
    exported = glocal.export(local, path, calibrate=photographs((70, 90), (64, 64)))
    files = [path] if statistics == "windows" else [path, exported.crops]
    assert exported.int8.convolutions == (2 if statistics == "windows" else 3)
    assert exported.int8.parts == 2
    assert 30 < exported.int8.psnr < 80
    for file in files:
        model = onnx.load(file)
        assert all(op.domain in ("", "ai.onnx") for op in model.opset_import)
        properties = {each.key: each.value for each in model.metadata_props}
        assert "glocal_plan" in properties
        assert int(properties["glocal_int8"]) > 0
        integers = [x for x in model.graph.initializer if x.data_type == onnx.TensorProto.INT8]
        assert integers
    assert not [path for path in tmp_path.iterdir() if path not in files]
    if statistics == "windows":
        for size in ((33, 40), (100, 131)):  # any size, as in float32
            image = torch.rand(1, 3, *size)
            found = torch.from_numpy(run_of(path)(image)[0])
            with torch.no_grad():
                assert (found - local(image)).abs().max() < 0.05


def test_a_fixed_size_is_calibrated_at_that_size(tmp_path):
    local = glocal.localize(Net(), 32, statistics="windows", verify=False)
    given = photographs((100, 100), (40, 40))
    exported = glocal.export(local, tmp_path / "n.onnx", size=(64, 80), calibrate=given)
    assert exported.int8.parts == 5  # the second one is too small
    with pytest.raises(ArgumentError, match="none of the 1 photographs to calibrate with has 3 ch"):
        glocal.export(local, tmp_path / "m.onnx", size=(64, 80), calibrate=given[1:])
    assert not (tmp_path / "m.onnx").exists()


def test_other_formats_are_refused(tmp_path):
    local = glocal.localize(Net(), 32, statistics="windows", verify=False)
    with pytest.raises(ArgumentError, match=r"8-bit integers need an \.onnx file"):
        glocal.export(local, tmp_path / "n.pt2", calibrate=photographs((40, 40)))


def test_parts_are_spread_over_all_photographs():
    images = [torch.full((1, 3, 600, 700), i / 100) for i in range(60)]
    sizes = CapturedProgram(None, 8, 17)
    parts = calibration_parts(images, 3, sizes, (1, 1))
    assert len(parts) == MOST_PARTS
    assert {part.shape for part in parts} == {(1, 3, 256, 256)}
    assert len({float(part.mean()) for part in parts}) == MOST_PARTS
    small = calibration_parts([torch.zeros(1, 3, 100, 61)], 3, sizes, (1, 1))
    assert [tuple(part.shape) for part in small] == [(1, 3, 96, 56)] * 5
