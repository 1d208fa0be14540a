import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from skimage.data import astronaut

from glocal.data.degrade import (
    DEGRADATIONS,
    defocus_blur,
    degrade,
    gaussian_noise,
    haze,
    jpeg,
    motion_blur,
    poisson_noise,
)
from glocal.data.random_fields import SmoothFields, average_at_offsets, to_uniform
from glocal.errors import ArgumentError
from glocal.images import image_files as images
from glocal.images.image_files import Image

BLURS = {"motion": motion_blur, "defocus": defocus_blur}


def photograph(height=150, width=200, channels=3):
    return astronaut()[:height, 100 : 100 + width, :channels] / 255


# --- what holds for all of them --------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_the_shape_stays_and_the_image_is_not_changed(kind, channels):
    image = photograph(channels=channels)
    before = image.copy()
    degraded = degrade(image, kind, seed=1)
    assert (degraded.shape, degraded.dtype) == (image.shape, np.float32)
    assert np.isfinite(degraded).all()
    assert np.abs(degraded - image).mean() > 1e-3
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_one_seed_gives_one_result_on_any_number_of_threads(kind):
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(degrade(photograph(), kind, seed=7))
    finally:
        torch.set_num_threads(threads)
    assert all((result == results[0]).all() for result in results)
    if kind != "jpeg":
        assert (degrade(photograph(), kind, seed=8) != results[0]).any()


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_global_generators_are_left_alone(kind):
    def states():
        return np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    degrade(photograph(40, 50), kind)
    assert states() == before


@pytest.mark.parametrize("kind", ["motion", "defocus", "noise", "poisson", "haze"])
def test_strength_0_changes_nothing(kind):
    image = photograph().astype(np.float32)
    degraded = degrade(image, kind, 0)
    np.testing.assert_allclose(degraded, image, atol=1e-6)
    assert not np.shares_memory(degraded, image)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_more_strength_does_more_harm(kind):
    image = photograph()
    low, high = (0.4, 1.6) if kind != "jpeg" else (1.6, 0.4)
    default = DEGRADATIONS[kind].default
    errors = [
        np.square(degrade(image, kind, share * default, seed=3) - image).mean()
        for share in (low, high)
    ]
    assert errors[1] > 1.5 * errors[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (130, 7)])
@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_any_size(kind, size):
    degraded = degrade(np.full((*size, 3), 0.5), kind)
    assert degraded.shape == (*size, 3)
    assert np.isfinite(degraded).all()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 4)), {"kind": "noise"}, r"\(h, w, 1\) or \(h, w, 3\), got shape \(4, 4\)"),
        (np.zeros((4, 4, 4)), {"kind": "haze"}, r"got shape \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), {"kind": "jpeg"}, r"floats in \[0, 1\], got uint8"),
        (
            np.zeros((4, 4, 3)),
            {"kind": "rain"},
            "unknown degradation 'rain'; use one of motion, defocus, noise",
        ),
        (
            np.zeros((4, 4, 3)),
            {"kind": "motion", "strength": 65},
            r"strength of motion must be 0 to 64 \(longest path in pixels\), got 65",
        ),
        (np.zeros((4, 4, 3)), {"kind": "jpeg", "strength": 0}, "jpeg must be 1 to 100"),
        (np.zeros((4, 4, 3)), {"kind": "noise", "strength": float("nan")}, "got nan"),
    ],
)
def test_impossible_arguments_are_refused(image, options, message):
    with pytest.raises(ArgumentError, match=message):
        degrade(image, **options)


# --- smooth maps and averages ----------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 75, 149, 310])  # on the knots and between them
def test_smooth_maps_are_standard_normal(row):
    image = np.zeros((400, 3, 1), np.float32)
    drawn = [
        SmoothFields(2, image, seed).rows(range(row, row + 1))[:, 0, 1] for seed in range(2000)
    ]
    values = torch.stack(drawn)
    assert values.mean(0).abs().max() < 0.1
    assert (values.var(0) - 1).abs().max() < 0.15
    assert abs(torch.corrcoef(values.T)[0, 1]) < 0.1


def test_smooth_maps_are_smooth():
    maps = SmoothFields(4, np.zeros((700, 600, 1), np.float32), seed=0).rows(range(700))
    assert maps.shape == (4, 700, 600)
    assert maps.diff(dim=1).abs().max() < 0.03
    assert maps.diff(dim=2).abs().max() < 0.03
    assert (maps.amax((1, 2)) - maps.amin((1, 2))).min() > 1.5


def test_smooth_maps_are_the_same_band_by_band():
    image = np.zeros((400, 90, 1), np.float32)
    maps = SmoothFields(3, image, seed=5)
    bands = [maps.rows(range(top, min(400, top + 130))) for top in range(0, 400, 130)]
    assert torch.equal(torch.cat(bands, dim=1), maps.rows(range(400)))


def test_normal_values_become_even_ones():
    even = to_uniform(torch.randn(100_000, generator=torch.Generator().manual_seed(0)))
    shares = torch.histc(even, 10, 0, 1) / len(even)
    assert (shares - 0.1).abs().max() < 0.01


def test_averages_are_those_of_scipys_interpolation():
    rng = np.random.default_rng(0)
    image = rng.random((150, 13, 3)).astype(np.float32)  # two bands
    shifts = rng.uniform(-9, 9, (4, 2, 150, 13)).astype(np.float32)

    def offsets(rows):
        for dy, dx in torch.from_numpy(shifts):
            yield dy[rows.start : rows.stop], dx[rows.start : rows.stop]

    at = np.indices((150, 13)) + shifts
    expected = np.stack(
        [
            # reflected about the outer edge of the outermost pixels
            np.mean([map_coordinates(image[..., c], tap, order=1, mode="reflect") for tap in at], 0)
            for c in range(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(average_at_offsets(image, offsets), expected, atol=2e-5)


# --- blur ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BLURS)
def test_blur_moves_and_brightens_nothing(name):
    y, x = np.mgrid[:160, :220] / 220
    ramp = np.stack([x, y, np.full_like(x, 0.3)], axis=-1)
    blurred = BLURS[name](ramp, 9, seed=2)
    inside = slice(12, -12)
    # a hundredth of a pixel: 1/220 from pixel to pixel
    np.testing.assert_allclose(blurred[inside, inside], ramp[inside, inside], atol=0.01 / 220)


@pytest.mark.parametrize(("name", "reach"), [("motion", 10 / 2 * 1.1 + 1), ("defocus", 10 + 1)])
def test_blur_reaches_as_far_as_it_says(name, reach):
    points = np.zeros((300, 400, 1))
    points[20::40, 20::40] = 1
    blurred = BLURS[name](points, 10, seed=4)[..., 0]
    y, x = np.nonzero(blurred)
    distance = np.hypot((y - 20 + 20) % 40 - 20, (x - 20 + 20) % 40 - 20)
    assert distance.max() <= reach
    assert distance.max() > 0.6 * reach
    spots = blurred[: 280 // 40 * 40].reshape(7, 40, 10, 40).sum((1, 3))
    np.testing.assert_allclose(spots, 1, atol=0.25)  # where the kernels change, so does the sum
    assert abs(spots.mean() - 1) < 0.02


@pytest.mark.parametrize("name", BLURS)
def test_blur_varies_over_the_image(name):
    board = np.indices((600, 800)).sum(0) // 4 % 2
    blurred = BLURS[name](board[..., None].astype(float), DEGRADATIONS[name].default, seed=1)
    contrast = blurred.reshape(15, 40, 20, 40).std((1, 3))
    assert contrast.max() > 0.4  # of 0.5: nearly sharp
    assert contrast.min() < 0.2


def test_a_disc_is_evenly_bright():
    points = np.zeros((480, 480, 1))
    points[30::60, 30::60] = 1
    blurred = defocus_blur(points, 9, seed=0)[..., 0].astype(float)
    spots = blurred.reshape(8, 60, 8, 60).swapaxes(1, 2).reshape(64, 60, 60)
    spot = spots[np.argmin(spots.max((1, 2)))]  # where the disc is largest
    distance = np.hypot(*(np.indices(spot.shape) - 30))
    # the mean square distance of a disc is r²/2
    radius = np.sqrt(2 * (spot * distance**2).sum() / spot.sum())
    assert 7 < radius < 9.6
    flat = spot[distance < radius - 2]
    assert flat.mean() == pytest.approx(1 / (np.pi * radius**2), rel=0.1)
    assert flat.min() > 0.5 * flat.mean()
    assert flat.max() < 1.5 * flat.mean()


# --- noise -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_gaussian_noise_has_its_deviation_at_every_brightness(level):
    noise = gaussian_noise(np.full((200, 300, 3), level), 25) - level
    assert noise.mean() == pytest.approx(0, abs=0.001)
    assert noise.std() == pytest.approx(25 / 255, rel=0.01)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1] == pytest.approx(
        0, abs=0.02
    )


def test_poisson_noise_grows_with_the_root_of_brightness():
    for level in (0.0, 0.25, 1.0):
        noisy = poisson_noise(np.full((200, 300, 1), level), 15)
        assert noisy.mean() == pytest.approx(level, abs=0.001)
        assert noisy.std() == pytest.approx(15 / 255 * level**0.5, rel=0.02)


def test_poisson_noise_counts_photons():
    counts = poisson_noise(np.full((20, 30, 1), 0.5), 100) * (255 / 100) ** 2
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)


# --- haze and JPEG ---------------------------------------------------------------------------


def test_haze_is_that_of_the_scattering_model():
    image = photograph(300, 250)
    black, white = haze(np.zeros_like(image), 1.5, 3), haze(np.ones_like(image), 1.5, 3)
    through = white.astype(float) - black
    airlight = (black / (1 - through)).mean()
    assert 0.8 <= airlight <= 1
    expected = image * through + airlight * (1 - through)
    np.testing.assert_allclose(haze(image, 1.5, 3), expected, atol=1e-5)
    assert through.min() >= np.exp(-1.5) - 1e-6
    assert through.max() < 1
    assert through[:30].mean() < through[-30:].mean() - 0.1


def test_twice_the_scattering_squares_what_comes_through():
    black, white = np.zeros((60, 50, 1)), np.ones((60, 50, 1))
    through, squared = (haze(white, s, 5) - haze(black, s, 5) for s in (0.7, 1.4))
    np.testing.assert_allclose(squared, through**2, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_a_file(channels, tmp_path):
    samples = astronaut()[:100, 100:220, :channels]
    images.write(tmp_path / "a.jpg", Image(samples), quality=30)
    expected = images.read(tmp_path / "a.jpg").pixels / 255
    np.testing.assert_allclose(jpeg(samples / 255, 30), expected, atol=1e-6)


def test_jpeg_clips_what_is_out_of_range():
    image = np.full((16, 16, 3), 1.4)
    image[8:] = -0.3
    degraded = jpeg(image, 100)
    assert degraded[0].min() > 0.95
    assert degraded[-1].max() < 0.05
