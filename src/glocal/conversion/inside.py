"""Find a converted network inside the modules that wrap it: DataParallel, EMA, Sequential, ..."""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

from torch import nn

from glocal.conversion.train_size import carried_train_size
from glocal.errors import GlocalError
from glocal.ops.crops import Recording, running
from glocal.ops.windows import Size
from glocal.scanning.example import scan_network
from glocal.scanning.modules import ancestors
from glocal.scanning.plan import Plan

__all__ = [
    "PLAN",
    "converted_inside",
    "converted_network",
    "known_train_size",
    "own_plan",
    "unwrapped",
]

PLAN = "glocal_plan"
"""Attribute of a converted network: its `Plan`."""

_MIXING: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""By wrapper, whether its own code mixes pixels."""


def own_plan(model: nn.Module) -> Plan | None:
    """Return the plan that a network itself carries, or None."""
    plan = vars(model).get(PLAN)
    return plan if isinstance(plan, Plan) else None


def converted_inside(model: nn.Module) -> tuple[str, nn.Module] | None:
    """Return path and module of the first converted network in a model, or None.

    The model itself has the path "".
    """
    return next(_converted(model), None)


def converted_network(model: nn.Module) -> nn.Module | None:
    """Return the converted network that a model is, or wraps and adds nothing global to.

    >>> converted_network(nn.Sequential(nn.Conv2d(3, 3, 1))) is None
    True

    Returns:
        None if the model has no converted network, several, or global operations outside it.
    """
    found = list(_converted(model))
    if len(found) != 1:
        return None
    path, inner = found[0]
    return None if path and _mixes_outside(model, path, inner) else inner


def known_train_size(model: nn.Module) -> Size | None:
    """Return the training size of a converted network, or the one that a network carries."""
    found = converted_inside(model)
    plan = own_plan(found[1]) if found else None
    return carried_train_size(model) if plan is None else plan.train_size


def _converted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((path, module) for path, module in model.named_modules() if own_plan(module))


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers of torch that only call it.

    >>> unwrapped(nn.DataParallel(nn.Identity()))
    Identity()
    """
    while _forwards(model):
        (model,) = model._modules.values()  # type: ignore[assignment]
    return model


def _mixes_outside(model: nn.Module, path: str, inner: nn.Module) -> bool:
    """True if a wrapper's own code has global operations, or cannot be scanned."""
    if unwrapped(model) is unwrapped(inner):
        return False
    if model not in _MIXING:
        plan = own_plan(inner)
        assert plan is not None
        try:
            with running(Recording()):  # a network with statistics from crops runs once
                operations = scan_network(model, plan.train_size, None).operations
        except GlocalError:
            _MIXING[model] = True
        else:
            _MIXING[model] = any(path not in ancestors(each.path) for each in operations)
    return _MIXING[model]


_WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule", "AveragedModel")


def _forwards(module: nn.Module) -> bool:
    """True for a module of torch that calls the only module it has."""
    if module._forward_hooks or module._forward_pre_hooks or len(module._modules) != 1:
        return False
    is_torch = type(module).__module__.split(".")[0] == "torch"
    return type(module) is nn.Sequential or (is_torch and type(module).__name__ in _WRAPPERS)
