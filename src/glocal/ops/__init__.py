"""Local operations on tensors: global operations on the window of each pixel.

This room imports `errors` only, and no model. Its functions are pure. A map is (b, c, h, w);
`window` is (height, width) in pixels of that map. The window of a pixel is the nearest one inside
the map, so pixels near a border share the result of the nearest interior window (TLC,
arXiv 2112.04491, section 3).

A statistic is a tensor that *broadcasts* against the input: (b, c, h, w), with size 1 on each axis
that the window covers. Where the window covers both axes, the result is the global one, by the
same kernels of torch. While a program is recorded or compiled for any size, the result always has
the full size.

With `CROPS` for a window, a statistic is that of crops of the input (`crops`), which a
network records in its first pass and interpolates in its second.

With precision "fast", sums, means and moments are exact on a coarse grid of windows and
interpolated in between. A window moved by one pixel changes a mean by at most the range of the
map ÷ window, so a fast mean differs from the exact one by at most range · (sy / 2ky + sx / 2kx),
for windows (ky, kx) and grid steps (sy, sx) = window / 16, rounded down: at most 1/16 of the range.
Recorded and compiled programs are exact.

Numerics: a window's sum adds pairs of runs of doubling length, contains no term from outside the
window and subtracts nothing, so the rounding error grows with log(window) and not with the size of
the image. Half precision accumulates in float32; second moments are centred and accumulate in
float64.

How an operation is computed depends on who computes: `forms` chooses between C++ or torch in eager
mode, the operators of `torch.library` (`operators`), and forms for exporters (`exported`).
"""

from glocal.ops.attention import local_channel_attention
from glocal.ops.norms import local_group_norm, local_instance_norm, local_layer_norm
from glocal.ops.statistics import local_max, local_mean, local_moments, local_norm, local_sum
from glocal.ops.unfold import fold_windows, unfold_windows, window_pixels
from glocal.ops.windows import CROPS, Crops

__all__ = [
    "CROPS",
    "Crops",
    "fold_windows",
    "local_channel_attention",
    "local_group_norm",
    "local_instance_norm",
    "local_layer_norm",
    "local_max",
    "local_mean",
    "local_moments",
    "local_norm",
    "local_sum",
    "unfold_windows",
    "window_pixels",
]
