"""Slow, obvious float64 references that the fast code is tested against.

Nothing here imports `glocal`: an oracle must not share code with what it tests.

- `ops`: local operations by definition, one window at a time.
- `networks`: the local variants of the published networks, as functions of a state dict.
- `metrics`: metrics by other libraries or by plain loops.
- `shapes`: state-dict keys and shapes of their published checkpoints.
- `inputs`: test images and random weights.
"""

from oracles.inputs import ramp_noise, random_state, randomise
from oracles.networks import (
    baseline_local,
    hinet_local,
    mprnet_local,
    nafnet_local,
    restormer_local,
)
from oracles.ops import (
    at_pixels,
    attention_starts,
    instance_norm_by_sums,
    local_channel_attention,
    local_group_norm,
    local_instance_norm,
    local_layer_norm,
    local_max,
    local_mean,
    local_min,
    local_norm,
    local_std,
    local_var,
    mean_by_sums,
    sliding,
    var_by_sums,
    window_start,
)
from oracles.shapes import (
    baseline_shapes,
    hinet_shapes,
    mprnet_shapes,
    nafnet_shapes,
    restormer_shapes,
)

__all__ = [
    "at_pixels",
    "attention_starts",
    "baseline_local",
    "baseline_shapes",
    "hinet_local",
    "hinet_shapes",
    "instance_norm_by_sums",
    "local_channel_attention",
    "local_group_norm",
    "local_instance_norm",
    "local_layer_norm",
    "local_max",
    "local_mean",
    "local_min",
    "local_norm",
    "local_std",
    "local_var",
    "mean_by_sums",
    "mprnet_local",
    "mprnet_shapes",
    "nafnet_local",
    "nafnet_shapes",
    "ramp_noise",
    "random_state",
    "randomise",
    "restormer_local",
    "restormer_shapes",
    "sliding",
    "var_by_sums",
    "window_start",
]
