"""Networks in onnxruntime and OpenVINO: results, refusals, stored files."""

import copy
import importlib.util
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from versions import crops_in_onnx, needs_onnx, needs_torch_2_7

import glocal
from glocal.engines import engine as engine_module
from glocal.engines import runtimes
from glocal.engines.engine import engine_for
from glocal.engines.network_files import network_key
from glocal.errors import ArgumentError, GlocalWarning
from glocal.images import image_files as images
from glocal.images.files import cache_folder
from glocal.images.image_files import Image
from glocal.inference.options import Tiles
from glocal.runs.batches import restore_together
from glocal.runs.folder import restore_file

pytestmark = needs_onnx

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="not installed: openvino"
)
ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]
TRAIN = 32


class Net(nn.Module):
    """A gate by a pool and an instance norm; a second result for `output`."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.last = nn.Conv2d(6, channels, 3, padding=1)
        self.pool, self.norm = nn.AdaptiveAvgPool2d(1), nn.InstanceNorm2d(6)

    def forward(self, x):
        y = self.first(x)
        y = y * (3 * self.pool(y)).sigmoid()
        return x + 0.3 * self.last(self.norm(y))


class TwoResults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        y = self.first(x)
        return y, x + y


class Halves(nn.Module):
    """Takes even sizes only: the file does too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.down, self.up = nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, x):
        return x + self.up(self.down(x))[..., : x.shape[-2], : x.shape[-1]]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Files that the tests of this module share."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "glocal"


@pytest.fixture(scope="module")
def windows():
    return glocal.localize(Net(), TRAIN, statistics="windows", verify=False)


@pytest.fixture(scope="module")
def crops():
    return glocal.localize(Net(), TRAIN, statistics="crops", verify=False)


def photo(height, width, channels=3, seed=0):
    """Dark on the left, bright on the right, so that windows differ."""
    image = 0.3 * np.random.default_rng(seed).random((height, width, channels), np.float32)
    image[:, width // 2 :] += 0.5
    return image


def both(model, image, engine, **options):
    """The results of torch and of an engine that did not leave the work to torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", GlocalWarning)
        found = glocal.restore(model, image, runtime=engine, **options)
    return glocal.restore(model, image, **options), found


def close(pair, tolerance=1e-4):
    np.testing.assert_allclose(*pair, atol=tolerance, rtol=0)
    return True


@pytest.fixture
def torch_is_idle(monkeypatch):
    """Fails a test in which torch computes a network's forward, from the call on."""

    def forbid():
        monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: pytest.fail("torch ran"))

    return forbid


# ---- results


@pytest.mark.parametrize("engine", ENGINES)
def test_windows(windows, engine):
    assert close(both(windows, photo(70, 91), engine))
    assert close(both(windows, photo(40, 33), engine))


@crops_in_onnx
@pytest.mark.parametrize("engine", ENGINES)
def test_statistics_from_crops(crops, engine):
    assert close(both(crops, photo(70, 91), engine))
    assert close(both(crops, photo(33, 200), engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_is_not_converted(engine):
    assert close(both(Net(), photo(70, 91), engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_computes(windows, engine, torch_is_idle):
    image = photo(64, 72)
    expected = glocal.restore(windows, image)
    glocal.restore(windows, image, runtime=engine)  # the first run may compare with torch
    torch_is_idle()
    assert close((expected, glocal.restore(windows, image, runtime=engine)))


@crops_in_onnx
@pytest.mark.parametrize("engine", ENGINES)
def test_tiles_with_a_halo(windows, crops, engine):
    for model in (windows, crops):
        image = photo(100, 280)
        pair = both(model, image, engine, tiles=Tiles(192, halo=16))
        assert close(pair)


@pytest.mark.parametrize("engine", ENGINES)
def test_blended_tiles(engine):
    assert close(both(Net(), photo(70, 91), engine, tiles=Tiles(32, overlap=8)))


@pytest.mark.parametrize("engine", ENGINES)
def test_integers_grey_images_and_batches(windows, engine):
    eight = (255 * photo(50, 61)).astype(np.uint8)
    theirs, ours = both(windows, eight, engine)
    assert np.abs(theirs.astype(int) - ours).max() <= 1
    grey = both(windows, photo(50, 61, 1)[..., 0], engine)
    assert grey[1].ndim == 2
    assert close(grey)
    batch = torch.rand(3, 3, 40, 47)
    assert close([t.numpy() for t in both(windows, batch, engine)])
    several = [eight, eight[::-1].copy()]
    for one, other in zip(
        restore_together(windows, several),
        restore_together(windows, several, runtime=engine),
        strict=True,
    ):
        assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_the_output_is_chosen(engine):
    model, image = TwoResults(), photo(40, 50)
    for output in (0, 1, -1):
        assert close(both(model, image, engine, output=output))
    with pytest.raises(ArgumentError, match="the network returns 2 outputs"):
        glocal.restore(model, image, runtime=engine)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_streamed_file(windows, engine, tmp_path):
    source = tmp_path / "in.png"
    images.write(source, Image((255 * photo(96, 300)).astype(np.uint8)))
    options = {"stream": True, "tiles": Tiles(192, halo=32)}
    for name in ("torch", engine):
        restore_file(windows, source, tmp_path / f"{name}.png", runtime=name, **options)
    theirs, ours = (images.read(tmp_path / f"{n}.png").pixels for n in ("torch", engine))
    assert np.abs(theirs.astype(int) - ours).max() <= 1


# ---- what torch does instead


def test_torch_runs_what_the_file_does_not_take():
    image = photo(41, 50)
    with pytest.warns(GlocalWarning, match=r"multiples of 2, not 41x50; continuing in torch"):
        found = glocal.restore(Halves(), image, runtime="onnxruntime")
    assert close((glocal.restore(Halves(), image), found))
    assert close(both(Halves(), photo(40, 50), "onnxruntime"))


@pytest.mark.slow
@needs_torch_2_7("its files take fewer sizes")
def test_torch_runs_tiles_of_a_grid_of_windows():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.qkv = nn.Conv2d(3, 12, 1)
            self.last = nn.Conv2d(4, 3, 1)

        def forward(self, x):
            q, k, v = (t.flatten(2) for t in self.qkv(x).chunk(3, 1))
            q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
            mixed = (q @ k.transpose(1, 2)).softmax(-1) @ v
            return x + self.last(mixed.unflatten(2, x.shape[-2:]))

    local = glocal.localize(Attention(), 32, statistics="windows", verify=False)
    image = photo(128, 320)
    assert close(both(local, image, "onnxruntime"))
    with pytest.warns(GlocalWarning, match="a grid of windows depend on their position"):
        tiled = glocal.restore(local, image, runtime="onnxruntime", tiles=Tiles(192, halo=64))
    assert close((glocal.restore(local, image, tiles=Tiles(192, halo=64)), tiled))


def test_torch_runs_other_types_and_devices(windows):
    image = photo(40, 50)
    with pytest.warns(GlocalWarning, match="onnxruntime computes in float32 on CPUs; continuing"):
        glocal.restore(windows, image, runtime="onnxruntime", dtype="bfloat16")
    double = copy.deepcopy(windows).double()
    with pytest.warns(GlocalWarning, match="float32 weights on the CPU only.*continuing in torch"):
        glocal.restore(double, image, runtime="onnxruntime")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glocal.restore(double, image, runtime="auto")


@needs_openvino
def test_bfloat16_is_an_option_of_openvino(windows):
    image = photo(70, 91)
    exact, narrow = (
        both(windows, image, "openvino"),
        both(windows, image, "openvino", dtype="bfloat16"),
    )
    assert close((exact[0], narrow[1]), 0.05)
    assert np.abs(exact[0] - exact[1]).max() < 1e-4


def test_torch_runs_a_network_that_cannot_be_exported():
    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if float(x.sum()) > 0 else x

    image = photo(40, 50)
    with pytest.warns(GlocalWarning, match=r"cannot be exported.*continuing in torch"):
        found = glocal.restore(Branches(), image, runtime="onnxruntime")
    assert close((image + 1, found))


@crops_in_onnx
def test_torch_goes_on_after_an_engine_that_fails(windows, monkeypatch):
    image = photo(40, 50)
    engine_for(windows, "onnxruntime", 3)

    def fail(*_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(engine_module.Engine, "__call__", fail)
    with pytest.warns(GlocalWarning, match=r"onnxruntime failed \(no such kernel\); continuing"):
        found = glocal.restore(windows, image, runtime="onnxruntime")
    assert close((glocal.restore(windows, image), found))


def test_memory_that_runs_out_in_an_engine_makes_tiles_smaller(windows, monkeypatch):
    called = engine_module.Engine.__call__

    def limited(self, x):
        if x.shape[-1] * x.shape[-2] > 128 * 200:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 99")
        return called(self, x)

    monkeypatch.setattr(engine_module.Engine, "__call__", limited)
    image = photo(128, 400)
    with pytest.warns(GlocalWarning, match="not enough memory"):
        found = glocal.restore(
            windows, image, runtime="onnxruntime", tiles=Tiles((128, 256), halo=32)
        )
    assert close((glocal.restore(windows, image), found), 1 / 255)


# ---- names, packages, files


def test_unknown_and_missing_runtimes_are_refused(windows, monkeypatch):
    with pytest.raises(ArgumentError, match="runtime must be one of auto, torch"):
        glocal.restore(windows, photo(9, 9), runtime="tensorrt")
    monkeypatch.setattr(runtimes, "_missing", lambda name: ["openvino"])
    wanted = r'needs the package openvino; install it: pip install "glocal\[openvino\]"'
    with pytest.raises(ArgumentError, match=wanted):
        glocal.restore(windows, photo(9, 9), runtime="openvino")


def test_a_file_is_written_once(windows, cache, monkeypatch):
    image = photo(40, 50)
    glocal.restore(windows, image, runtime="onnxruntime")
    files = sorted(path.name for path in (cache / "networks").glob("*.onnx"))
    assert f"{network_key(windows, 3)}.onnx" in files
    engine_module._ENGINES.clear()  # as in another process
    monkeypatch.setattr(
        "glocal.engines.network_files.export", lambda *_, **__: pytest.fail("again")
    )
    assert close(both(windows, image, "onnxruntime"))
    assert stat.S_IMODE((cache / "networks").stat().st_mode) == 0o700


def test_other_weights_have_another_file(windows):
    changed = glocal.localize(Net(), TRAIN, statistics="windows", verify=False)
    assert network_key(changed, 3) == network_key(windows, 3)
    with torch.no_grad():
        changed.last.weight.mul_(1.5)
    assert network_key(changed, 3) != network_key(windows, 3)
    assert close(both(changed, photo(40, 50), "onnxruntime"))


def test_other_code_has_another_file():
    def forward(self, x):
        return x - 0.3 * self.last(self.norm(self.first(x)))

    def of(**members):
        return type("Net", (Net,), members)()

    assert network_key(of(), 3) != network_key(of(forward=forward), 3)


@pytest.mark.parametrize(
    "statistics", ["windows", pytest.param("crops", marks=[pytest.mark.slow, crops_in_onnx])]
)
def test_a_file_that_is_not_the_network_is_written_again(statistics, cache, windows, crops):
    model = windows if statistics == "windows" else crops
    image = photo(40, 50)
    glocal.restore(model, image, runtime="onnxruntime")
    other = glocal.localize(Net(), TRAIN, statistics=statistics, verify=False)
    with torch.no_grad():
        other.last.weight.mul_(1.1)
        other.first.bias.add_(0.1)
    glocal.restore(other, image, runtime="onnxruntime")
    mine, theirs = (cache / "networks" / f"{network_key(m, 3)}.onnx" for m in (model, other))
    for name in ("", "-crops") if statistics == "crops" else ("",):
        of = [path.with_name(f"{path.stem}{name}.onnx") for path in (mine, theirs)]
        of[0].write_bytes(of[1].read_bytes())
    engine_module._ENGINES.clear()
    assert close(both(model, image, "onnxruntime"))


def test_a_folder_that_others_may_write_to_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder("networks")
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.warns(GlocalWarning, match="other users may write to this folder"):
        glocal.restore(Halves(), photo(40, 50), runtime="onnxruntime")
    assert not list(folder.iterdir())


def test_old_files_are_deleted(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("glocal.engines.network_files.MOST_FILES", 1)
    for scale in (1.0, 2.0):
        model = Halves()
        with torch.no_grad():
            model.up.weight.mul_(scale)
        glocal.restore(model, photo(40, 50), runtime="onnxruntime")
    files = [path.name for path in cache_folder("networks").iterdir()]
    assert sorted(files) == [f"{network_key(model, 3)}.{end}" for end in ("json", "onnx")]


# ---- the fastest


def test_the_fastest_is_measured_once(windows, monkeypatch):
    from glocal.inference import runtime

    said, measured = [], []
    seconds = iter([9.0, 3.0, 5.0, 1.0, 2.5, 2.0])  # of the first and of later runs
    monkeypatch.setattr(
        runtime, "_seconds", lambda run, most: measured.append(run()) or next(seconds)
    )
    monkeypatch.setattr(runtime, "installed", lambda: {"onnxruntime": "1", "openvino": "2"})
    monkeypatch.setattr(
        runtime, "engine_for", lambda model, name, *_: engine_for(model, "onnxruntime", 3)
    )
    found = runtime.fastest(windows, 3, (100, 100), report=said.append)
    # less than the measured 128x128, so that compilation counts for more than runs
    assert found.size == (100, 100)
    assert found.runtime == "openvino"
    share = 100**2 / 128**2
    assert found.seconds["torch"] == pytest.approx(3 * share)
    assert found.seconds["onnxruntime"] == pytest.approx(4 + share)
    assert found.seconds["openvino"] == pytest.approx(0.5 + 2 * share)
    assert "onnxruntime 4.61 s, openvino 1.72 s expected for 100x100" in str(found)
    assert said[0] == "measuring torch, onnxruntime, openvino, once for this network and machine"
    assert runtime.fastest(windows, 3, (100, 100)) == found
    assert len(measured) == 6


def test_large_images_are_worth_a_compilation():
    from glocal.inference.runtime import Fastest

    assert Fastest((9, 9), {"torch": 1.0, "openvino": 1.5}).runtime == "torch"
    assert Fastest((9, 9), {"torch": 9.0, "openvino": 8.5}).runtime == "openvino"


def test_auto_is_torch_without_engines(windows, monkeypatch):
    from glocal.inference import runtime

    monkeypatch.setattr(runtime, "installed", dict)
    assert runtime.described_runtime(windows, 3, (40, 50), runtime="auto") == "torch"
    image = photo(40, 50)
    np.testing.assert_array_equal(
        glocal.restore(windows, image), glocal.restore(windows, image, runtime="auto")
    )


def test_the_cache_is_where_the_user_wants_it(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_folder("checks") == Path("/some/where/glocal/checks")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder("checks") == Path.home() / ".cache/glocal/checks"
