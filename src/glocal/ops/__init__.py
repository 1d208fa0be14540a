"""Local operations: each global operation of the field, over the window of every pixel.

Pure functions of tensors. A map is (b, c, h, w); `window` is (height, width) in pixels of
that map. The window of a pixel is the nearest one that lies wholly inside the map, so border
pixels share the result of the nearest interior window (TLC, arXiv 2112.04491, section 3).

A statistic comes back as a map that *broadcasts* against the input: (b, c, h, w), with size 1
on every axis that the window covers. Where it covers both, the result is the global one. Without
gradients it is a `WindowMap`, which is a full map only where somebody asks for one.

With precision "fast", sums, means and moments are those of windows on a coarse grid, exact there,
and interpolated between. A window moved by one pixel changes a mean by at most the range of the
map ÷ window, so that a fast mean lies within range · (sy / 2ky + sx / 2kx) of the exact one, for
windows (ky, kx) and grid steps (sy, sx) = window / 16, rounded down: at most 1/16 of the range,
and far less where the map is not made to reach it. Programs that are traced or compiled are exact.

Numerics: sums run over pairs of neighbours of doubling length, so that a window's sum never
holds a term from outside it, nothing is subtracted, and the rounding error grows with
log(window) and not with the image. Half precision accumulates in float32; second moments are
centred and accumulate in float64.
"""

from glocal.ops.attention import local_channel_attention
from glocal.ops.norms import local_group_norm, local_instance_norm, local_layer_norm
from glocal.ops.statistics import local_max, local_mean, local_moments, local_norm, local_sum
from glocal.ops.unfold import fold_windows, unfold_windows, window_pixels

__all__ = [
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
