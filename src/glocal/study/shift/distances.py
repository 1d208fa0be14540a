"""Distances between samples of several channels.

The unit is the standard deviation of a reference."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Values", "distance", "mean_shift", "varying", "wasserstein"]

Values: TypeAlias = NDArray[np.float64]
"""(samples, channels)."""

_ROUNDING = 1e-6
"""Relative to a channel's mean: a smaller deviation is float32 rounding."""

_NOISE_FLOOR = 1e-7
"""Relative to the largest value of all channels: a smaller deviation is float32 rounding."""


def varying(reference: Values) -> NDArray[np.bool_]:
    """Return which channels vary over the reference by more than rounding.

    Args:
        reference: (samples, channels).

    Returns:
        (channels,).
    """
    noise = np.maximum(
        _ROUNDING * np.abs(reference.mean(0)), _NOISE_FLOOR * np.abs(reference).max()
    )
    varies: NDArray[np.bool_] = reference.std(0) > noise
    return varies


def wasserstein(a: Values, b: Values) -> NDArray[np.float64]:
    """Return the Wasserstein-1 distance of each channel.

    It is the area between the two cumulative distribution functions.

    >>> wasserstein(np.array([[0.0], [1.0]]), np.array([[5.0], [6.0], [7.0]])).tolist()
    [5.5]

    Args:
        a, b: (samples, channels), of equally many channels; the numbers of samples may differ.

    Returns:
        (channels,), in the unit of the values.
    """
    values = np.concatenate([a, b])
    weights = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    order = values.argsort(0)
    gaps = np.diff(np.take_along_axis(values, order, 0), axis=0)
    area: NDArray[np.float64] = (np.abs(weights[order].cumsum(0)[:-1]) * gaps).sum(0)
    return area


def distance(reference: Values, values: Values) -> float:
    """Return the mean over channels of Wasserstein-1 distance ÷ standard deviation.

    The deviation is that of the reference. Channels that are constant over the reference are
    ignored; the result is nan if all are.
    """
    used = varying(reference)
    return _mean(wasserstein(reference[:, used], values[:, used]) / reference[:, used].std(0))


def mean_shift(reference: Values, values: Values) -> float:
    """Return the mean over channels of |mean − reference mean| ÷ standard deviation.

    Channels are selected as in `distance`.
    """
    used = varying(reference)
    shift = np.abs(values[:, used].mean(0) - reference[:, used].mean(0))
    return _mean(shift / reference[:, used].std(0))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
