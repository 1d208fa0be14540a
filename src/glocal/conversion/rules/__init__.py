"""The forms of global operation that glocal knows how to make local.

`DEFAULT_RULES` is tried in order and the first that matches wins. Whole blocks come before the
single layers that they may hold. Put your own in front: `rules=(mine, *DEFAULT_RULES)`.
"""

from glocal.conversion.rules.attention import MDTA, SPECTRAL_ATTENTION
from glocal.conversion.rules.norms import GROUP_NORM, INSTANCE_NORM, LAYER_NORM, RESCALE_NORM
from glocal.conversion.rules.pools import AVG_POOL, MAX_POOL
from glocal.conversion.rules.rule import Local, Rule
from glocal.conversion.rules.squeeze import LINEAR_SE, SELECTIVE_FUSION

__all__ = ["DEFAULT_RULES", "Local", "Rule"]

DEFAULT_RULES: tuple[Rule, ...] = (
    MDTA,
    SPECTRAL_ATTENTION,
    LINEAR_SE,
    SELECTIVE_FUSION,
    AVG_POOL,
    MAX_POOL,
    INSTANCE_NORM,
    GROUP_NORM,
    RESCALE_NORM,
    LAYER_NORM,
)
