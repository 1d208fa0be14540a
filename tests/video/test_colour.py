import numpy as np
import pytest
import torch

from glocal.errors import VideoError
from glocal.video.colour import Conversion, conversion_for
from glocal.video.pixel_format import PixelFormat

pytest.importorskip("av")

FORMATS = [
    PixelFormat("yuv", bits, halvings)
    for bits in (8, 10, 12)
    for halvings in ((0, 0), (0, 1), (1, 1))
] + [PixelFormat("grey", 10), PixelFormat("rgb", 8), PixelFormat("rgb", 10)]


def random_planes(pixels: PixelFormat, size: tuple[int, int], *, legal: bool) -> list[np.ndarray]:
    random, peak = np.random.default_rng(0), 2**pixels.bits
    low, high = (peak * 3 // 8, peak * 5 // 8) if legal else (0, peak)
    shapes = [size]
    if pixels.kind == "rgb":
        shapes = [size] * 3
    elif pixels.kind == "yuv":
        shapes += [tuple(-(-n >> h) for n, h in zip(size, pixels.halvings, strict=True))] * 2
    dtype = np.uint8 if pixels.bits == 8 else np.uint16
    return [random.integers(low, high, shape, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize("pixels", FORMATS, ids=str)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(12, 16), (11, 15)])
def test_a_picture_that_is_left_alone_keeps_every_sample(pixels, full, size) -> None:
    conversion = Conversion(pixels, full=full)
    planes = random_planes(pixels, size, legal=False)
    seen = conversion.seen(planes)
    assert seen.shape == (1 if pixels.kind == "grey" else 3, *size)
    assert 0 <= seen.min() <= seen.max() <= 1
    for own, back in zip(planes, conversion.carried_back(planes, seen, seen), strict=True):
        np.testing.assert_array_equal(own, back)


@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_colours_are_those_of_the_standard(matrix: int, full: bool, bits: int) -> None:
    """Against the definition in float64: E'Y = Kr R + Kg G + Kb B, and its differences."""
    red, blue = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
                 9: (0.2627, 0.0593)}[matrix]  # fmt: skip
    rgb = np.random.default_rng(0).random((3, 8, 8))
    y = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    cb, cr = (rgb[2] - y) / (2 * (1 - blue)), (rgb[0] - y) / (2 * (1 - red))
    top, unit = 2**bits - 1, 2 ** (bits - 8)
    spans = (top, 0, top, 128 * unit) if full else (219 * unit, 16 * unit, 224 * unit, 128 * unit)
    coded = [y * spans[0] + spans[1], cb * spans[2] + spans[3], cr * spans[2] + spans[3]]
    dtype = np.uint8 if bits == 8 else np.uint16
    planes = [each.round().clip(0, top).astype(dtype) for each in coded]
    pixels = PixelFormat("yuv", bits)
    conversion = conversion_for(pixels, matrix, 2 if full else 1, 480)
    seen = conversion.seen(planes).numpy()
    assert np.abs(seen - rgb).max() < 2.5 / (219 * unit)  # samples are rounded
    larger = torch.from_numpy(rgb).float().repeat_interleave(2, -1).repeat_interleave(2, -2)
    enlarged = conversion.carried_back(planes, torch.from_numpy(seen), larger)
    for own, back in zip(planes, enlarged, strict=True):
        assert np.abs(own.astype(int) - back[::2, ::2].astype(int)).max() <= 1


def test_a_change_reaches_luma_and_chroma() -> None:
    pixels = PixelFormat("yuv", 8, (1, 1))
    conversion = conversion_for(pixels, 1, 1, 480)
    planes = random_planes(pixels, (16, 16), legal=True)
    seen = conversion.seen(planes)
    brighter = conversion.carried_back(planes, seen, seen + 10 / 219)
    np.testing.assert_array_equal(brighter[0], planes[0] + 10)
    np.testing.assert_array_equal(brighter[1], planes[1])
    redder = conversion.carried_back(planes, seen, seen + torch.tensor([0.1, 0, 0])[:, None, None])
    assert (redder[2] > planes[2]).all()
    assert (redder[1] < planes[1]).all()


def test_smooth_chroma_goes_up_and_down_unchanged() -> None:
    """Along a ramp, the samples between are interpolated where they lie: at the left."""
    pixels = PixelFormat("yuv", 10, (1, 1))
    conversion = conversion_for(pixels, 1, 1, 480)
    ramp = np.tile(np.arange(300, 300 + 8 * 16, 16, dtype=np.uint16), (8, 1))
    planes = [np.full((16, 16), 500, np.uint16), np.full((8, 8), 512, np.uint16), ramp]
    seen = conversion.seen(planes)
    steps = torch.diff(seen[0], dim=-1)[:, :-2]
    assert torch.allclose(steps, steps[:1, :1].expand_as(steps), atol=1e-5)


def test_tags_that_are_missing_are_as_players_assume() -> None:
    pixels = PixelFormat("yuv", 8, (1, 1))
    assert conversion_for(pixels, 2, 0, 1080).red == 0.2126
    assert conversion_for(pixels, 2, 0, 576).red == 0.299
    assert not conversion_for(pixels, 2, 0, 576).full
    assert conversion_for(PixelFormat("rgb", 8), 0, 0, 576).full


def test_unknown_matrices_are_refused() -> None:
    with pytest.raises(VideoError, match=r"matrix \(number 14 of H.273\) is not supported"):
        conversion_for(PixelFormat("yuv", 10), 14, 1, 2160)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("yuyv422", "yuv422p"),
        ("yuv411p", "yuv422p"), ("yuv440p", "yuv444p"), ("yuv410p", "yuv420p"),
        ("yuv420p9le", "yuv420p9le"), ("rgb24", "gbrp"), ("yuva420p", "yuv420p"),
        ("gray", "gray"), ("gray12le", "gray12le"), ("pal8", "gbrp"),
    ],
)  # fmt: skip
def test_formats_are_kept_or_become_finer(name: str, kept: str) -> None:
    names = {"yuv420p", "yuv422p", "yuv444p", "yuv420p9le", "yuv420p10le", "gbrp", "gray",
             "gray12le"}  # fmt: skip
    found = PixelFormat.of(name).within(names)
    assert found is not None
    assert found.name == kept
