"""How far samples of several channels are from reference samples, in deviations of these."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Values", "distance", "mean_shift", "varying", "wasserstein"]

Values: TypeAlias = NDArray[np.float64]
"""(samples, channels)."""

_ROUNDING = 1e-6  # of a channel's own mean: a smaller deviation is float32's rounding
_SILENCE = 1e-7  # of the largest value in any channel, likewise


def varying(reference: Values) -> NDArray[np.bool_]:
    """Which channels vary over the reference samples by more than rounding."""
    noise = np.maximum(_ROUNDING * np.abs(reference.mean(0)), _SILENCE * np.abs(reference).max())
    varies: NDArray[np.bool_] = reference.std(0) > noise
    return varies


def wasserstein(a: Values, b: Values) -> NDArray[np.float64]:
    """Wasserstein-1 distance of each channel: the area between the two distribution functions.

    >>> wasserstein(np.array([[0.0], [1.0]]), np.array([[5.0], [6.0], [7.0]])).tolist()
    [5.5]

    Args:
        a, b: of as many channels; the numbers of samples may differ.
    """
    values = np.concatenate([a, b])
    weights = np.concatenate([np.full(len(a), 1 / len(a)), np.full(len(b), -1 / len(b))])
    order = values.argsort(0)
    gaps = np.diff(np.take_along_axis(values, order, 0), axis=0)
    area: NDArray[np.float64] = (np.abs(weights[order].cumsum(0)[:-1]) * gaps).sum(0)
    return area


def distance(reference: Values, values: Values) -> float:
    """Mean over channels of the Wasserstein-1 distance ÷ the deviation over the reference.

    Channels that do not vary there are left out; nan where none does.
    """
    used = varying(reference)
    return _mean(wasserstein(reference[:, used], values[:, used]) / reference[:, used].std(0))


def mean_shift(reference: Values, values: Values) -> float:
    """Mean over channels of |mean − mean over the reference| ÷ deviation; else as `distance`."""
    used = varying(reference)
    shift = np.abs(values[:, used].mean(0) - reference[:, used].mean(0))
    return _mean(shift / reference[:, used].std(0))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
