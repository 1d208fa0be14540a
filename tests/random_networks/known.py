"""Spellings that are not converted rightly yet.

A test fails when one of them has become right: take it out then.
"""

_REASONS: dict[str, tuple[str, ...]] = {
    "goes by tiles; the same statistic by mean goes by windows": (
        "matmul with ones",
        "energy by einsum",
        "softmax pooling by einsum",
        "mean of channel products",
    ),
    "the tensor keeps the pixels of the whole map": ("sum ÷ tensor of n",),
    "stays global, and the plan says nothing": (
        "NumPy mean",
        "gate in a hook",
        "modules in a plain list",
        "modules in a plain dict",
        "forward replaced on the instance",
        "pool kernel follows the map",
        "pool kernel grows, no padding counted",
        "flipped map",
        "rolled map",
        "mirrored grid_sample",
    ),
    "stays global: the scan looks at eval mode": ("instance norm in train mode",),
    "does not run under inference_mode above the window": (
        "variance by pool modules",
        "std_mean",
        "deviation by hand",
        "contrast pooling",
        "contrast-aware attention",
        "instance norm in two steps, square",
        "instance norm in three steps",
        "instance norm, variance of the centred map",
        "instance norm of channels last",
        "instance norm by sums",
        "group norm of a flat map, two steps",
        "layer norm of C, H, W by hand",
        "rescaled layer norm",
    ),
    "the law of windows does not hold for a statistic of a map that has a statistic in it": (
        "instance norm in two steps",
        "instance norm in place",
        "instance norm by pool modules",
        "min-max in two steps",
    ),
    "window sums of booleans are booleans": (
        "sum of booleans",
        "masked mean",
    ),
    "the padded map is taken for the map": (
        "mean of a padded map",
        "mean padded to a multiple",
    ),
    "a crop is taken for a smaller copy of the map": (
        "mean of the left half",
        "mean without the border",
        "total variation",
    ),
    "clamp with a tensor cannot be written into the local graph": ("clamp by a tensor",),
    "two blocks with one repr are taken for one": ("two blocks of one repr",),
    "the local gate does not work in place": ("pool and gate in place, value ignored",),
    "cannot be copied after a call with gradients": (
        "old weight norm",
        "old spectral norm",
    ),
}

KNOWN_WRONG: dict[str, str] = {name: reason for reason, names in _REASONS.items() for name in names}
"""Spelling → what happens. Networks with one of these are left out of `make test`."""
