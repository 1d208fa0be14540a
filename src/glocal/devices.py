"""The devices of torch: which there are, whether one can be used, and its memory.

Nothing here names one vendor's API: a backend is reached by `torch.get_device_module`, and what its
module does not offer counts as unknown.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from glocal.errors import ArgumentError
from glocal.texts import one_line

__all__ = [
    "MemoryStatistics",
    "best_device",
    "check_dtype",
    "described",
    "device_name",
    "has_float64",
    "keep_random_states",
    "present",
    "release_unused",
    "usable_device",
]

_KINDS = ("cuda", "xpu", "mps")
"""Kinds of accelerators in the order of preference, after the one that torch itself names."""

_PEAK = "max_memory_allocated"


def present() -> list[torch.device]:
    """The devices that torch can compute on, best first; the CPU is the last."""
    found = (torch.device(kind, index) for kind in _kinds() for index in range(_count(kind)))
    return [*found, torch.device("cpu")]


def best_device() -> torch.device:
    """The device that "auto" stands for: the first accelerator, or the CPU.

    >>> str(best_device()) in ("cpu", "cuda", "xpu", "mps")
    True
    """
    return torch.device(present()[0].type)


def usable_device(device: torch.device | str | int) -> torch.device:
    """Return a device after a look at whether torch can use it; "auto" is the best one.

    >>> usable_device("cpu"), usable_device(torch.device("cpu"))
    (device(type='cpu'), device(type='cpu'))

    Raises:
        ArgumentError: torch knows no such device, finds none, or cannot compute on it.
    """
    if device == "auto":
        return best_device()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # names that torch is about to remove
            chosen = torch.device(device)
    except Exception:  # torch raises several kinds, and an internal assertion
        raise ArgumentError(f"{device!r} is not a device of torch; {_choices()}") from None
    if chosen.type == "cpu":
        return torch.device("cpu")
    number = _count(chosen.type)
    if chosen.type in _kinds() and not number:
        raise ArgumentError(f"device {device}: torch finds no {chosen.type} device; {_choices()}")
    if number and (chosen.index or 0) >= number:
        raise ArgumentError(
            f"device {device}: torch finds {number} {chosen.type} device"
            f"{'s' if number > 1 else ''}, numbered from 0; {_choices()}"
        )
    try:
        torch.zeros(1, device=chosen).cpu()
    except Exception as error:  # a backend may raise anything
        why = f"torch cannot compute on it ({one_line(error)[:100]})"
        raise ArgumentError(f"device {device}: {why}; {_choices()}") from None
    return chosen


def check_dtype(device: torch.device, weights: torch.dtype, computed: torch.dtype) -> None:
    """Check that a network can compute in a dtype on a device.

    Args:
        device: where it runs.
        weights: dtype of its parameters.
        computed: dtype that it computes in; another one than that of the weights needs autocast.

    Raises:
        ArgumentError: the device has no float64, or torch no autocast for the device and dtype.
    """
    if weights == torch.float64 and not has_float64(device):
        raise ArgumentError(f"device {device} has no float64; call float() on the network first")
    if computed == weights:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns, and would compute in float32
            torch.autocast(device.type, computed)
    except (RuntimeError, AssertionError, UserWarning):
        name = str(computed).removeprefix("torch.")
        raise ArgumentError(
            f"dtype {name}: torch cannot run a float32 network in {name} on {device.type}; "
            "use float32"
        ) from None


def has_float64(device: torch.device) -> bool:
    """True if a device computes in float64; Metal and some of Intel's GPUs do not."""
    return device.type in ("cpu", "cuda", "meta") or _computes_in_float64(device)


def device_name(device: torch.device) -> str:
    """The name of an accelerator, its device's own where torch knows no name."""
    return str(getattr(_properties(device), "name", device))


def described(device: torch.device) -> str:
    """A device as text: with its instructions, or its name and memory where torch knows them."""
    if device.type == "cpu":
        return f"cpu: {torch.backends.cpu.get_cpu_capability()}"
    about = _properties(device)
    known = [about.name] if hasattr(about, "name") else []
    if hasattr(about, "total_memory"):
        known.append(f"{about.total_memory / 2**30:.0f} GiB")
    return f"{device}: {', '.join(known)}" if known else str(device)


class MemoryStatistics:
    """What torch's allocator reports of a device other than the CPU; None where unknown."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._module = device, _module(device.type)

    def used(self) -> int | None:
        """Bytes of existing tensors."""
        used: int | None = self._read("memory_allocated")
        return used

    def free(self) -> int | None:
        """Bytes that can be allocated: free on the device, or kept by the allocator."""
        free_and_total = self._read("mem_get_info")
        reserved, used = self._read("memory_reserved"), self.used()
        if free_and_total is None or reserved is None or used is None:
            return None
        free: int = free_and_total[0] + reserved - used
        return free

    def reset_peak(self) -> int | None:
        """Reset the recorded peak; return the bytes of existing tensors, None without a record."""
        if not all(hasattr(self._module, n) for n in ("reset_peak_memory_stats", _PEAK)):
            return None
        self._read("reset_peak_memory_stats")
        return self.used()

    def peak(self) -> int | None:
        """Most bytes of tensors at once since the reset."""
        peak: int | None = self._read(_PEAK)
        return peak

    def _read(self, name: str) -> Any:
        function = getattr(self._module, name, None)
        try:
            return None if function is None else function(self._device)
        except (RuntimeError, NotImplementedError):  # a driver without this figure
            return None


def release_unused(device: torch.device) -> None:
    """Return memory that torch keeps for later use to the device; nothing to do on the CPU."""
    empty = getattr(_module(device.type), "empty_cache", None)
    if device.type != "cpu" and empty is not None:
        empty()


@contextmanager
def keep_random_states() -> Iterator[None]:
    """Restore torch's random states of all devices after the block."""
    cpu = torch.get_rng_state()
    modules: list[tuple[torch.device, Any]] = [(d, _module(d.type)) for d in present()[:-1]]
    states = [module.get_rng_state(device) for device, module in modules]
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        for (device, module), state in zip(modules, states, strict=True):
            module.set_rng_state(state, device)


def _choices() -> str:
    *others, cpu = present()
    return f"use {' or '.join(map(str, (cpu, *others)))}"


def _kinds() -> tuple[str, ...]:
    """Kinds of accelerators, best first; torch names that of a backend which was added to it."""
    named = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return tuple(dict.fromkeys((*((named.type,) if named else ()), *_KINDS)))


def _properties(device: torch.device) -> Any:
    """What torch knows of an accelerator; None if nothing."""
    read = getattr(_module(device.type), "get_device_properties", None)
    return None if read is None else read(device)


def _count(kind: str) -> int:
    """How many devices of a kind torch finds; 0 for a kind that it cannot list."""
    if kind == "mps":  # torch.mps counts one wherever it is built in
        return int(torch.backends.mps.is_available())
    module = _module(kind)
    if module is None or not hasattr(module, "device_count"):
        return 0
    is_available = getattr(module, "is_available", lambda: True)
    return int(module.device_count()) if is_available() else 0


def _module(kind: str) -> Any:
    """Torch's module for a kind of device, such as torch.cuda; None if it has none."""
    try:
        return torch.get_device_module(kind)
    except (RuntimeError, AttributeError, ImportError):
        return None


@lru_cache
def _computes_in_float64(device: torch.device) -> bool:
    try:
        return bool((torch.ones(1, dtype=torch.float64, device=device) + 1).cpu().item() == 2)
    except Exception:  # a backend may raise anything
        return False
