"""Shortages of the machine, as the libraries report them and as the command line tells them."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from glocal.errors import ImageError
from glocal.images import image_files
from glocal.images.image_files import Image
from glocal.shortages import (
    check_can_allocate,
    is_out_of_memory,
    raise_shortage,
    raise_shortage_of,
    shortage_text,
)

MEMORY = [
    RuntimeError("could not create a primitive"),
    RuntimeError("could not create a primitive descriptor for a convolution"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. can't allocate memory"),
    torch.OutOfMemoryError("no room"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_every_library_s_message_is_a_shortage_of_memory(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert (shortage_text(error) or "").startswith("not enough memory")
    with pytest.raises(MemoryError):
        raise_shortage_of(error)


def test_the_allocator_of_torch_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert shortage_text(caught.value) == "not enough memory (4503599628 MB more are needed)"


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("out of memory"), OSError(2, "none")]
)
def test_other_errors_are_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)
    assert shortage_text(error) is None
    raise_shortage_of(error)


def test_messages_of_libvips_become_errors_of_python() -> None:
    with pytest.raises(MemoryError):
        raise_shortage("vips_tracked: out of memory -- size == 137MB")
    with pytest.raises(OSError, match="open files"):
        raise_shortage("system error: Too many open files")
    raise_shortage("premature end of JPEG image")
    raise_shortage("Failed to allocate memory for to read TIFF directory (0 elements)")  # damage


def test_memory_that_no_machine_has_is_refused_before_it_is_asked_for() -> None:
    check_can_allocate(2**20, "this")
    with pytest.raises(MemoryError, match="for this"):
        check_can_allocate(2**60, "this")


LIMITED = """
import resource, sys
from glocal.images.image_files import read
now = 1024 * next(
    int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]),) * 2)
try:
    read(sys.argv[1])
except MemoryError as error:
    sys.exit(f"memory: {error}")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp"])
def test_a_decoder_that_gets_no_memory_does_not_end_the_process(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"large{suffix}"
    image_files.write(path, Image(np.zeros((4000, 4000, 3), np.uint8)))
    for spare in (2**26, 2**27):  # less than the samples, and than a copy beside them
        ended = subprocess.run(
            [sys.executable, "-c", LIMITED, path, str(spare)], capture_output=True, text=True
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith("memory: "), ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_valid_file_is_not_called_damaged_when_no_more_files_may_be_opened(
    tmp_path: Path,
) -> None:
    import resource

    path = tmp_path / "a.png"
    image_files.write(path, Image(np.zeros((8, 8, 3), np.uint8)))
    image_files.read(path)  # its decoder is loaded
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))  # no file may have its number
    try:
        with pytest.raises(ImageError) as caught:
            image_files.read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "Too many open files" in str(caught.value)
    assert "damaged" not in str(caught.value)
