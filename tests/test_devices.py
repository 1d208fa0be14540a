"""Devices: which can be used, in which dtype, and what is known of their memory."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from glocal import devices
from glocal.devices import (
    MemoryStatistics,
    best_device,
    check_dtype,
    described,
    device_name,
    has_float64,
    keep_random_states,
    present,
    release_unused,
    usable_device,
)
from glocal.errors import ArgumentError, GlocalError
from glocal.inference.restore import restore
from glocal.ops.numerics import widest_dtype


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two CUDA devices that torch cannot compute on, with what its module says of them."""
    module = SimpleNamespace(
        device_count=lambda: 2,
        get_device_properties=lambda device: SimpleNamespace(name="H200", total_memory=2**37),
        memory_allocated=lambda device: 100,
        memory_reserved=lambda device: 150,
        mem_get_info=lambda device: (1000, 2000),
        max_memory_allocated=lambda device: 700,
        reset_peak_memory_stats=lambda device: None,
    )
    real = devices._module
    monkeypatch.setattr(devices, "_module", lambda kind: module if kind == "cuda" else real(kind))
    return module


@pytest.mark.parametrize(
    "name", ["gpu", "", "cuda:x", "meta", "privateuseone", "vulkan", "mkldnn", "cuda:99", 99, -1]
)
def test_a_device_that_torch_cannot_use_is_refused_in_one_line(name: str | int) -> None:
    with pytest.raises(ArgumentError, match="use cpu") as caught:
        usable_device(name)
    assert "\n" not in str(caught.value)


def test_a_number_beyond_the_devices_is_refused_with_their_number(fake: Any) -> None:
    with pytest.raises(ArgumentError, match=r"finds 2 cuda devices, .* cpu or cuda:0 or cuda:1$"):
        usable_device("cuda:2")


def test_a_device_that_fails_is_refused_with_torchs_reason(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("no kernel image\n is available")

    monkeypatch.setattr(torch, "zeros", broken)
    with pytest.raises(ArgumentError, match=r"cannot compute on it \(no kernel image is available"):
        usable_device("cuda:1")


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu")])
def test_every_name_of_the_cpu_is_the_cpu(name: str | torch.device) -> None:
    assert usable_device(name) == torch.device("cpu")


def test_auto_is_the_first_accelerator_or_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {"mps": 1}
    monkeypatch.setattr(devices, "_count", lambda kind: counts.get(kind, 0))
    assert usable_device("auto") == best_device() == torch.device("mps")
    counts["xpu"] = 2
    assert usable_device("auto") == torch.device("xpu")
    assert [str(d) for d in present()] == ["xpu:0", "xpu:1", "mps:0", "cpu"]
    counts.clear()
    assert usable_device("auto") == torch.device("cpu")


def test_a_backend_that_was_added_to_torch_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("hpu"))
    monkeypatch.setattr(devices, "_count", lambda kind: int(kind in ("hpu", "cuda")))
    assert best_device() == torch.device("hpu")


def test_a_network_moves_to_usable_devices_only() -> None:
    with pytest.raises(ArgumentError, match=r"device cuda:99: .*use cpu"):
        restore(nn.Identity(), np.zeros((4, 4, 3), np.uint8), device="cuda:99")
    assert restore(nn.Identity(), np.ones((4, 4, 3), np.uint8), device="auto").min() == 1


@pytest.mark.parametrize("kind", ["meta", "cuda", "privateuseone"])
def test_a_dtype_without_autocast_is_refused(kind: str) -> None:
    if kind == "cuda" and torch.cuda.is_available():
        pytest.skip("torch has autocast for CUDA where there is a device")
    with pytest.raises(ArgumentError, match=f"dtype float16: .* on {kind}; use float32"):
        check_dtype(torch.device(kind), torch.float32, torch.float16)
    check_dtype(torch.device(kind), torch.float32, torch.float32)
    check_dtype(torch.device("cpu"), torch.float32, torch.bfloat16)


def test_a_device_without_float64_takes_no_float64_network() -> None:
    device = torch.device("vulkan")  # torch computes nothing on it
    assert has_float64(torch.device("cpu"))
    assert not has_float64(device)
    assert widest_dtype(device) == torch.float32
    with pytest.raises(GlocalError, match="vulkan has no float64; call float"):
        check_dtype(device, torch.float64, torch.float64)


def test_memory_is_what_the_backend_counts(fake: Any) -> None:
    found = MemoryStatistics(torch.device("cuda:0"))
    assert (found.used(), found.free(), found.reset_peak(), found.peak()) == (100, 1050, 100, 700)


def test_memory_that_a_backend_does_not_count_is_unknown(fake: Any) -> None:
    def unsupported(device: torch.device) -> int:
        raise RuntimeError("not supported by the driver")

    fake.mem_get_info = unsupported
    del fake.max_memory_allocated
    found = MemoryStatistics(torch.device("cuda:0"))
    assert (found.used(), found.free(), found.reset_peak(), found.peak()) == (100, None, None, None)
    none = MemoryStatistics(torch.device("vulkan"))
    assert (none.used(), none.free(), none.reset_peak(), none.peak()) == (None,) * 4


def test_kept_memory_is_released_where_the_backend_keeps_any(fake: Any) -> None:
    released = []
    fake.empty_cache = lambda: released.append(True)
    for kind in ("cpu", "vulkan", "cuda"):
        release_unused(torch.device(kind))
    assert released == [True]


def test_devices_are_described(fake: Any) -> None:
    assert described(torch.device("cuda:1")) == "cuda:1: H200, 128 GiB"
    assert device_name(torch.device("cuda:1")) == "H200"
    assert described(torch.device("vulkan")) == device_name(torch.device("vulkan")) == "vulkan"
    assert described(torch.device("cpu")).startswith("cpu: ")


def test_random_states_are_kept_on_every_device(fake: Any) -> None:
    states = {0: 10, 1: 20}
    fake.get_rng_state = lambda device: states[device.index]
    fake.set_rng_state = lambda state, device: states.update({device.index: state})
    before = torch.get_rng_state()
    with keep_random_states():
        states.update({0: 1, 1: 1})
        torch.rand(1)
    assert states == {0: 10, 1: 20}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(autouse=True)
def forget_probes() -> Iterator[None]:
    yield
    devices._computes_in_float64.cache_clear()
