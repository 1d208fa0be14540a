import numpy as np
import pytest
import torch

from glocal import memory
from glocal.memory import peak_memory

MIB = 2**20


@pytest.fixture
def measured() -> None:
    with peak_memory() as peak:
        pass
    if peak.mib is None:
        pytest.skip("this system does not tell the peak of memory")


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("make", [torch.ones, lambda n: np.ones(n, np.float32)])
def test_memory_that_is_free_again_was_there(make) -> None:
    for size in (64, 16):  # the smaller one after the larger: the peak is reset
        with peak_memory() as peak:
            make(size * MIB // 4)
        assert size - 4 < peak.mib < size + 24


@pytest.mark.usefixtures("measured")
def test_what_was_there_before_does_not_count() -> None:
    there = np.ones(64 * MIB // 8)
    with peak_memory() as peak:
        there += 1
    assert peak.mib < 24


@pytest.mark.usefixtures("measured")
def test_an_error_passes_through_and_is_measured() -> None:
    def fail() -> None:
        np.ones(32 * MIB // 8)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), peak_memory() as peak:
        fail()
    assert peak.mib > 28


def test_where_it_is_not_told_there_is_no_number(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    with peak_memory() as peak:
        pass
    assert peak.mib is None
    with peak_memory("meta") as peak:
        pass
    assert peak.mib is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_what_its_allocator_hands_out() -> None:
    there = torch.ones(64 * MIB // 4, device="cuda")
    with peak_memory("cuda") as peak:
        del there
        torch.ones(32 * MIB // 4, device="cuda")
    assert peak.mib == 0  # less than was there before
    with peak_memory("cuda") as peak:
        torch.ones(32 * MIB // 4, device="cuda")
    assert peak.mib == pytest.approx(32, abs=0.1)
