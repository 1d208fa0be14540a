import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from glocal.errors import ArgumentError
from glocal.metrics import psnr


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_psnr_is_that_of_scikit_image(dtype):
    rng = np.random.default_rng(0)
    if dtype == "float32":
        a, b = (rng.random((9, 11, 3)).astype(dtype) for _ in range(2))
    else:
        a, b = (rng.integers(0, np.iinfo(dtype).max, (9, 11, 3)).astype(dtype) for _ in range(2))
    peak = 1 if dtype == "float32" else np.iinfo(dtype).max
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=peak), abs=1e-6)


def test_equal_images():
    assert psnr(np.zeros((2, 2)), np.zeros((2, 2))) == math.inf


def test_images_that_cannot_be_compared():
    with pytest.raises(ArgumentError, match=r"got \(2, 2\) float64 and \(2, 3\) float64"):
        psnr(np.zeros((2, 2)), np.zeros((2, 3)))
