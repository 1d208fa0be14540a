"""Names in checkpoints that say what the tensors below them are.

The one table of entries, prefixes and counters that training code and libraries write. Patterns
are those of `fnmatch`, in lower case; the case of a name does not matter.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

__all__ = [
    "FP8_EXTRAS",
    "FP8_SCALES",
    "INFIXES",
    "Role",
    "is_counter",
    "is_passed_over",
    "role_of",
]


class Role(IntEnum):
    """What weights are; smaller ones are preferred."""

    AVERAGED = 0
    GENERATOR = 1
    NETWORK = 2
    UNAVERAGED = 3
    COMPANION = 4


@dataclass(frozen=True)
class _Row:
    role: Role
    patterns: tuple[str, ...]


# The first row that matches a name decides; names in no row are those of a network.
_ROLES = (
    _Row(
        Role.COMPANION,
        (
            *("d", "d_*", "dis", "disc*", "*discriminator*", "*critic*", "net_d*", "netd*"),
            *("*loss*", "criterion*", "*percept*", "*vgg*", "*lpips*", "dists*", "*inception*"),
            *("net_f", "netf", "*extractor*", "arcface*"),
            *("metric*", "*_metric*", "*psnr*", "*ssim*"),
        ),
    ),
    _Row(
        Role.UNAVERAGED,
        ("non_ema*", "no_ema*", "*_no_ema", "*_non_ema", "current_model_state", "online_model"),
    ),
    _Row(
        Role.AVERAGED,
        (
            *("*ema", "ema_*", "*_ema_*", "*-ema", "ema-*", "emamodel", "*.ema"),
            *("swa", "swa_*", "*_swa", "averaged*", "*_averaged", "average_*", "*_average"),
            *("avg", "avg_*", "*_avg", "shadow", "shadow_params"),
        ),
    ),
    _Row(
        Role.GENERATOR,
        ("g", "g_*", "gen", "gen_*", "*generator*", "net_g*", "netg*", "*_g"),
    ),
)

# A bare tensor of this name marks the state dict that holds it. mmengine swaps the values of
# `state_dict` and `ema_state_dict` when it saves, and keeps `steps` in the latter.
_MARKS = {"n_averaged": Role.AVERAGED, "steps": Role.UNAVERAGED}

# State of training, where nothing is looked for.
_PASSED_OVER = (
    *("*optimizer*", "optim", "optim_*", "*_optim", "opt", "opt_*", "*_opt", "*scheduler*", "lr_*"),
    *("scaler", "*_scaler", "gradscaler", "rng*", "*_rng*", "exp_avg*", "param_groups"),
    *("hyper_parameters", "loops", "datamodule*"),
)

# Last components of the keys of single numbers that are no weights: profilers (thop, ptflops),
# averages (torch, ema_pytorch, latent diffusion, mmengine), training loops.
_COUNTERS = (
    *("total_ops", "total_params", "__flops__", "__params__", "flops_count"),
    *("n_averaged", "initted", "num_updates", "decay", "ema_decay", "ema_step"),
    *("step", "steps", "step_counter", "global_step", "iter", "epoch", "_iteration"),
)

INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""Parts of keys that torch.compile, FSDP and activation checkpoints insert anywhere."""

FP8_SCALES = ("weight_scale", "scale_weight", "weight_scale_inv")
"""Names beside `weight` of the factors that its float8 values are multiplied by."""

FP8_EXTRAS = ("scale_input", "input_scale", "scaled_fp8")
"""Names that come with scaled float8 weights and matter to computations in float8 only."""


def role_of(names: Iterable[str], marks: Iterable[str] = ()) -> Role:
    """Return what the weights below nested entries are.

    >>> role_of(["state_dict", "generator_ema"]), role_of(["net_d_ema"])
    (<Role.AVERAGED: 0>, <Role.COMPANION: 4>)

    Args:
        names: of the entries, and of prefixes of keys, from the outermost.
        marks: keys without dots of the state dicts on the way.
    """
    marked = [_MARKS[mark] for mark in marks if mark in _MARKS]
    roles = {_role_of(name) for name in names} - {Role.NETWORK}
    if Role.COMPANION in roles:
        return Role.COMPANION
    return marked[-1] if marked else min(roles, default=Role.NETWORK)


def _role_of(name: str) -> Role:
    return next((row.role for row in _ROLES if _matches(name, row.patterns)), Role.NETWORK)


def is_passed_over(name: str) -> bool:
    """True for an entry of the state of training, such as an optimizer's.

    >>> [is_passed_over(name) for name in ("optimizer_states", "opt_g", "params")]
    [True, True, False]
    """
    return _matches(name, _PASSED_OVER)


def is_counter(key: str) -> bool:
    """True if a single number of this name is no weight.

    >>> [is_counter(key) for key in ("conv.total_ops", "bn.num_batches_tracked")]
    [True, False]
    """
    return key.rpartition(".")[2] in _COUNTERS


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return _any_of(patterns).match(name.lower()) is not None


@cache  # files have up to 100,000 names
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns)))
