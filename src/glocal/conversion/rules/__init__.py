"""Rules that replace common modules with a global operation by their local form.

`localize` tries the rules of `DEFAULT_RULES` in order; the first match wins, so blocks come before
the layers that they may contain. Put your own rules first: `rules=(mine, *DEFAULT_RULES)`.
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
