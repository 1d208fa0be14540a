"""Metrics by SciPy, scikit-image, or plain loops over windows.

Images are float64 arrays (h, w, c) in [0, 1]; colour has three channels.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2ycbcr
from skimage.metrics import structural_similarity

Image = NDArray[np.float64]


def psnr(restored: Image, target: Image) -> float:
    """PSNR in dB with a peak of 1, from an exact sum."""
    errors = [(a - b) ** 2 for a, b in zip(restored.flat, target.flat, strict=True)]
    error = math.fsum(errors) / len(errors)
    return math.inf if error == 0 else -10 * math.log10(error)


def luma(image: Image) -> Image:
    """Y of YCbCr in [16/255, 235/255], (h, w, 1); a grey image is its own luma."""
    return rgb2ycbcr(image)[..., :1] / 255 if image.shape[2] == 3 else image


def ssim(restored: Image, target: Image) -> float:
    """SSIM of scikit-image: the mean over the windows inside the image."""
    return float(
        structural_similarity(
            restored,
            target,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=2,
        )
    )


def ssim_3d(restored: Image, target: Image) -> float:
    """SSIM with SciPy's Gaussian filter over all three axes, borders replicated."""

    def mean(x: Image) -> Image:
        return gaussian_filter(x, 1.5, truncate=3.5, mode="nearest")

    mu, nu = mean(restored), mean(target)
    var_mu = mean(restored**2) - mu**2
    var_nu = mean(target**2) - nu**2
    covariance = mean(restored * target) - mu * nu
    c1, c2 = 0.01**2, 0.03**2
    values = ((2 * mu * nu + c1) * (2 * covariance + c2)) / (
        (mu**2 + nu**2 + c1) * (var_mu + var_nu + c2)
    )
    return float(values.mean())


def ssim_window_by_window(restored: Image, target: Image) -> float:
    """SSIM by equations 13 to 16 of Wang et al. (2004), one window at a time."""
    x = np.arange(-5, 6)
    weights = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    weights /= weights.sum()
    height, width, channels = target.shape
    values = []
    for c in range(channels):
        for top in range(height - 10):
            for left in range(width - 10):
                a = restored[top : top + 11, left : left + 11, c]
                b = target[top : top + 11, left : left + 11, c]
                mu, nu = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mu) ** 2).sum(), (weights * (b - nu) ** 2).sum()
                covariance = (weights * (a - mu) * (b - nu)).sum()
                luminance = (2 * mu * nu + 0.01**2) / (mu**2 + nu**2 + 0.01**2)
                structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
                values.append(luminance * structure)
    return float(np.mean(values))
