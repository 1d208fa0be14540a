"""The two graphs of a network with statistics from crops compute what it computes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import randomise
from torch import nn
from versions import crops_in_onnx, needs_onnx, needs_torch_2_7

import glocal
from glocal.conversion.two_passes import two_passes_of
from glocal.exporting.export import export
from glocal.exporting.files import load
from glocal.exporting.two_graphs import run_both
from glocal.networks import HINet, NAFNet, Restormer
from glocal.ops.crops import CropGrid, mix_between
from glocal.ops.interpolation import interpolation_weights
from glocal.ops.program_map import ProgramAxis, ProgramGrid, hat_weights, mix
from glocal.ops.windows import AxisWindows

TRAIN = 20
SIZES = ((20, 20), (20, 41), (33, 20), (43, 51))
RUNNER = Path(__file__).parents[2] / "examples" / "run_crops_onnx.py"


class Attention(nn.Module):
    """Transposed attention in a form that no rule knows, so that it is rewritten."""

    def forward(self, x):
        flat = x.flatten(2)
        return ((flat @ flat.mT / flat.shape[-1]).softmax(-1) @ flat).view_as(x)


class Rank(nn.Module):
    """A statistic that is selected by rank, then squashed."""

    def forward(self, x):
        return x * x.flatten(2).amax(-1).sigmoid()[..., None, None]


class Gates(nn.Module):
    """A norm, and gates that are not linear in the pooled values."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.maximum = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Conv2d(4, 4, 1), nn.ReLU())
        self.inner = nn.Sequential(Attention(), Rank())
        self.tail = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        y = self.norm(self.head(x))
        y = y * self.average(4 * y) + y * self.maximum(y)
        return x + self.tail(self.inner(y))


class Small(nn.Module):
    """A gate and a norm, captured in a few seconds."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
        self.norm = nn.InstanceNorm2d(3)

    def forward(self, x):
        return self.norm(x) + x * self.gate(x)


def image(size, batch=1):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, *size, generator=generator) + torch.linspace(0, 1, size[1])


def local_of(network, **options):
    options = {"statistics": "crops", **options}
    return glocal.localize(randomise(network).eval(), TRAIN, **options)


def check(exported, local, sizes=SIZES, batches=(1, 2), tolerance=1e-5):
    """Both files together give the result of the network, which is not that of windows."""
    run = run_both(two_passes_of(local), load(exported.crops), load(exported.path))
    for size in sizes:
        for batch in batches:
            x = image(size, batch)
            with torch.no_grad():
                (got,), wanted = run(x), local(x)
            assert got.shape == wanted.shape
            assert (got - wanted).abs().max() < tolerance * wanted.abs().max(), size


@pytest.fixture(scope="module")
def small():
    return local_of(Small(), stride=0.75)


@pytest.fixture(scope="module")
def pt2(small, tmp_path_factory):
    return export(small, tmp_path_factory.mktemp("pt2") / "net.pt2")


@pytest.fixture(scope="module")
def onnx_file(small, tmp_path_factory):
    return export(small, tmp_path_factory.mktemp("onnx") / "net.onnx")


# ---- the weights


@pytest.mark.parametrize("size", [20, 21, 41, 50])
@pytest.mark.parametrize("small", [5, 20, 40])
def test_weights_are_those_of_eager_mode(size, small):
    for stride in (0.5, 1.0, 2.0):
        grid = CropGrid.on((size, TRAIN), (TRAIN, TRAIN), stride)
        length = size * small // TRAIN
        known, _ = grid.axes((small, small), (length, small))
        rows, columns = (torch.tensor(n).double() for n in (grid.rows, grid.columns))
        found, one = ProgramGrid(rows, columns, (TRAIN, TRAIN)).axes((small, small), (length, 9))
        assert torch.equal(one.weights, torch.ones(9, 1).double())
        if known.count > 1:
            assert found.pixels().tolist() == known.pixels()
            wanted = interpolation_weights(known, rows)
            torch.testing.assert_close(found.weights, wanted, rtol=0, atol=1e-14)
        assert (found.weights >= 0).all()
        torch.testing.assert_close(found.weights.sum(1), torch.ones(length).double())


def test_maps_of_one_grid_share_their_axes():
    grid = ProgramGrid(torch.tensor([0.0, 9.0]), torch.tensor([0.0]), (16, 16))
    first, again, other = (grid.axes((8, n), (20, 30)) for n in (8, 8, 4))
    assert first == again
    assert first[0] is other[0]
    assert first[1] != other[1]


def test_mixing_by_one_product_is_mixing_crop_by_crop():
    torch.manual_seed(0)
    matrices = torch.rand(3, 4, 2, 2, 5, 6).double()
    v = torch.rand(2, 2, 6, 21, 30).double()
    centres = ((1.5, 9.0, 17.5), (3.0, 10.0, 20.0, 28.0))
    known = [AxisWindows(n, len(c), centres=c) for n, c in zip((21, 30), centres, strict=True)]
    axes = []
    for n, c in zip((21, 30), centres, strict=True):
        middles = torch.tensor(c).double()
        weights = hat_weights(middles, n)
        axes.append(ProgramAxis(n, len(c), middles=middles, weights=weights))
    torch.testing.assert_close(mix(matrices, v, *axes), mix_between(matrices, v, *known))


# ---- both graphs together


def test_the_pt2_files_compute_what_the_network_computes(small, pt2):
    assert pt2.sizes == ((20, 20), (20, 33), (47, 33))
    check(pt2, small)


@needs_torch_2_7("onnxruntime refuses the file at some sizes")
@crops_in_onnx
@needs_onnx
def test_the_onnx_files_compute_what_the_network_computes(small, onnx_file):
    check(onnx_file, small)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["pt2", pytest.param("onnx", marks=[needs_onnx, crops_in_onnx])])
def test_gates_and_rewritten_blocks(suffix, tmp_path):
    local = local_of(Gates())
    assert {row.source for row in glocal.plan_of(local).rows} == {"crops"}
    check(export(local, tmp_path / f"net.{suffix}"), local)


def test_some_modules_on_windows(tmp_path):
    local = local_of(Small(), statistics="auto")
    assert {row.source for row in glocal.plan_of(local).rows} == {"crops", "windows"}
    check(export(local, tmp_path / "net.pt2"), local)


NETWORKS = {
    "NAFNet": lambda: NAFNet(width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1]),
    "HINet": lambda: HINet(wf=4, depth=2, hin_position_left=0, hin_position_right=1),
    "Restormer": lambda: Restormer(
        dim=4, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 1, 1, 1]
    ),
}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("HINet", "pt2"),
        pytest.param("NAFNet", "onnx", marks=needs_onnx),
        pytest.param("HINet", "onnx", marks=[needs_onnx, pytest.mark.long]),
        pytest.param("Restormer", "onnx", marks=[needs_onnx, pytest.mark.long]),
    ],
)
def test_published_networks(name, suffix, tmp_path):
    local = local_of(NETWORKS[name]())
    exported = export(local, tmp_path / f"net.{suffix}")
    check(exported, local, sizes=((20, 41), (43, 51)), batches=(1,), tolerance=3e-5)


def test_a_fixed_size(small, tmp_path):
    exported = export(small, tmp_path / "net.pt2", size=(20, 45))
    assert exported.sizes == ((20, 45),)
    check(exported, small, sizes=((20, 45),))


@pytest.mark.slow
@needs_torch_2_7("a size of 1 is compiled apart")
def test_both_programs_compile_whole(small, pt2):
    torch._dynamo.reset()
    crops, whole = (
        torch.compile(torch.export.load(path).module(), backend="eager", fullgraph=True)
        for path in (pt2.crops, pt2.path)
    )
    run = run_both(two_passes_of(small), crops, lambda x, r, c, *v: [whole(x, r, c, list(v))])
    for size in SIZES:
        x = image(size, 2)
        with torch.no_grad():
            torch.testing.assert_close(run(x)[0], small(x), rtol=1e-5, atol=1e-5)


# ---- what is written


def test_both_pt2_files_say_what_they_are(small, pt2):
    assert pt2.crops == pt2.path.with_name("net-crops.pt2")
    assert sorted(file.name for file in pt2.path.parent.iterdir()) == ["net-crops.pt2", "net.pt2"]
    for path in (pt2.path, pt2.crops):
        torch.export.load(path, extra_files=(said := {"glocal.json": ""}))
        facts = json.loads(said["glocal.json"])
        assert facts["glocal_train_size"] == "20x20"
        assert facts["glocal_stride"] == "0.75"
        assert facts["glocal_statistics"] == "statistic_0 statistic_1 statistic_2"
        assert facts["glocal_image_file"] == "net.pt2"
        assert facts["glocal_crops_file"] == "net-crops.pt2"
        assert glocal.Plan.from_json(facts["glocal_plan"]) == glocal.plan_of(small)


@crops_in_onnx
@needs_onnx
def test_both_onnx_files_name_their_inputs_and_outputs(onnx_file):
    import onnx

    def named(values):
        return {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    whole, crops = (onnx.load(path) for path in (onnx_file.path, onnx_file.crops))
    for model in (whole, crops):
        onnx.checker.check_model(model)
        assert {node.domain for node in model.graph.node} == {""}
    assert named(crops.graph.input) == {"crops": ["crops", 3, 20, 20]}
    assert named(crops.graph.output) == {f"statistic_{i}": ["crops", 3, 1, 1] for i in range(3)}
    assert named(whole.graph.input) == {
        "image": ["batch", 3, "height", "width"],
        "rows": ["rows"],
        "columns": ["columns"],
    } | {f"statistic_{i}": ["rows", "columns", "batch", 3, 1, 1] for i in range(3)}
    assert list(named(whole.graph.output).values()) == [["batch", 3, "height", "width"]]
    # The second pass computes no statistic.
    assert not {node.op_type for node in whole.graph.node} & {"ReduceMean", "GlobalAveragePool"}


@crops_in_onnx
@needs_onnx
@pytest.mark.parametrize("size", [(20, 20), (20, 41), (33, 50)])
def test_the_runner_restores_as_glocal_does(small, onnx_file, size, tmp_path):
    x = image(size)[0].permute(1, 2, 0).numpy()
    np.save(tmp_path / "in.npy", x)
    command = [sys.executable, RUNNER, onnx_file.path, tmp_path / "in.npy", tmp_path / "out.npy"]
    subprocess.run(command, check=True)
    wanted = glocal.restore(small, x)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, atol=1e-5)


@crops_in_onnx
@needs_onnx
def test_the_runner_refuses_an_image_below_the_training_size(onnx_file, tmp_path):
    np.save(tmp_path / "in.npy", np.zeros((15, 40, 3), np.float32))
    command = [sys.executable, RUNNER, onnx_file.path, tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "the image has 15x40 pixels; this network takes sizes from 20x20 on, in steps of 1\n"
    )


# ---- what is refused


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_one_program_for_both_passes_is_refused(small):
    with pytest.raises(glocal.GlocalError, match="writes two, one for the crops and one for the"):
        torch.jit.trace(small, (image((20, 41)),))
    with pytest.raises(glocal.GlocalError, match="writes two, one for the crops and one for the"):
        torch.export.export(small, (image((20, 41)),), strict=False)


def test_a_fixed_size_below_the_crops_is_refused(small, tmp_path):
    with pytest.raises(glocal.ArgumentError, match="size=12x40 is smaller than the crops of 20x20"):
        export(small, tmp_path / "net.pt2", size=(12, 40))
    assert not list(tmp_path.iterdir())


def test_a_network_with_other_images_says_so(tmp_path):
    class TwoChannels(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.InstanceNorm2d(2)

        def forward(self, x):
            assert x.shape[1] == 2, "two channels, please"
            return self.norm(x)

    local = glocal.localize(
        TwoChannels(), TRAIN, statistics="crops", example=lambda h, w: torch.rand(1, 2, h, w)
    )
    for given in ({}, {"channels": 3}):
        with pytest.raises(glocal.GlocalError, match=r"channels= .* others: .*two channels"):
            export(local, tmp_path / "net.pt2", **given)
    assert export(local, tmp_path / "net.pt2", channels=2).difference < 1e-5
