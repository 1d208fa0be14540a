"""Choose what computes a network: torch, or an engine that runs its exported file."""

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from glocal.conversion.two_passes import two_passes_of
from glocal.devices import check_dtype
from glocal.engines.engine import engine_for
from glocal.engines.network_files import network_key
from glocal.engines.runtimes import ENGINES, Runtime, check_installed, installed
from glocal.errors import ArgumentError, GlocalError, GlocalWarning
from glocal.images.files import cache_folder, make_private_folder, write_whole
from glocal.inference.allocator import kept_memory
from glocal.inference.colours import Colours, Grey, colours_for, taken_channels
from glocal.inference.inputs import Extra
from glocal.inference.placing import device_of, resolve_dtype
from glocal.inference.runner import ModelRunner
from glocal.json_files import JsonError, read_json
from glocal.ops.windows import Size
from glocal.provenance import machine_name
from glocal.scanning.modules import eval_mode
from glocal.texts import size_text

__all__ = ["Fastest", "described_runtime", "fastest", "model_runner"]

MOST_SIDE = 512
"""Side of the largest image that runtimes are compared on: times of larger ones are in
proportion."""

LEAST_SIDE = 128
"""Side of the smallest one."""

_ENOUGH_S = 2.0
"""A run that takes longer is measured once."""


@dataclass(frozen=True)
class Fastest:
    """Which runtime is the fastest for a network, a machine and a size.

    Attributes:
        size: (height, width) of the image.
        seconds: expected for it, by runtime: to compile the network for its size, and to run.
    """

    size: Size
    seconds: dict[str, float]

    @property
    def runtime(self) -> Runtime:
        """The fastest one."""
        names: tuple[Runtime, ...] = ("torch", *ENGINES)
        return min((n for n in names if n in self.seconds), key=self.seconds.__getitem__)

    def __str__(self) -> str:
        """Return the expected times in words."""
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.seconds.items())
        return f"{times} expected for {size_text(self.size)}"


def model_runner(
    model: nn.Module,
    image_channels: int,
    size: Size,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    output: int | str | None = None,
    channels: int | None = None,
    grey: Grey = "channels",
    extras: tuple[Extra, ...] = (),
    runtime: Runtime = "torch",
    strength: float = 1.0,
    report: Callable[[str], None] | None = None,
) -> ModelRunner:
    """Return a runner, with options of `restore`.

    Args:
        model: the network.
        image_channels: of the images.
        size: (height, width) of the images, for which "auto" chooses a runtime.
        dtype, device, output, channels, grey, runtime, strength: as for `restore`.
        extras: inputs beside the image.
        report: called with a line about work that is done once for a network.

    Raises:
        ArgumentError: torch cannot use the device, the network cannot run in this dtype on it or
            on these channels, the runtime is not installed, or the strength is not in [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ArgumentError(f"strength={strength}; give a share of the result, 0 to 1")
    check_installed(runtime)
    where, computed = device_of(model, device), resolve_dtype(model, dtype)
    check_dtype(where, resolve_dtype(model, None), computed)
    colours: Colours = "same"
    if not extras:  # the call of the network shows whether it takes them
        taken = channels or taken_channels(model, image_channels)
        colours = colours_for(image_channels, taken, grey)
    runner = ModelRunner(
        model,
        computed,
        where,
        output,
        colours,
        extras,
        image_channels,
        strength=strength,
    )
    if runtime == "torch":
        return runner
    if not _may_run_engines(runner):
        if runtime != "auto":
            warnings.warn(
                f"{runtime} runs networks of float32 weights on the CPU only, in float32 or "
                "bfloat16, on an image alone, whose outputs have no names; continuing in torch",
                GlocalWarning,
                stacklevel=3,
            )
        return runner
    if runtime == "auto":
        runtime = fastest(model, runner.taken_channels, size, runner.dtype, report).runtime
    if runtime in ENGINES:
        runner.engine = engine_for(model, runtime, runner.taken_channels, runner.dtype, report)
    return runner


def described_runtime(model: nn.Module, image_channels: int, size: Size, **options: Any) -> str:
    """Prepare a run and return what will compute the network, in words.

    Args and errors are those of `model_runner`.
    """
    runner = model_runner(model, image_channels, size, **options)
    engine = runner.engine
    name = "torch" if engine is None else f"{engine.name} {installed()[engine.name]}"
    if options["runtime"] != "auto" or not installed() or not _may_run_engines(runner):
        return name
    found = fastest(model, runner.taken_channels, size, runner.dtype)
    return f"{name}, the fastest: {found}"


def _may_run_engines(runner: ModelRunner) -> bool:
    weights = resolve_dtype(runner.model, None)
    return (
        runner.device.type == "cpu"
        and weights == torch.float32
        and runner.dtype in (torch.float32, torch.bfloat16)
        and not runner.extras
        and not isinstance(runner.output, str)
    )


def fastest(
    model: nn.Module,
    channels: int,
    size: Size,
    dtype: torch.dtype = torch.float32,
    report: Callable[[str], None] | None = None,
) -> Fastest:
    """Compare the installed runtimes on noise; the result is kept in the user's cache folder.

    Args:
        model: the network, in float32 on the CPU.
        channels: that it takes.
        size: (height, width) of the images. Sizes between two powers of two share a measurement,
            and so do all larger ones than `MOST_SIDE` squared.
        dtype: that they compute in, float32 or bfloat16.
        report: called with one line before work that takes a while.
    """
    side = 2 ** math.ceil(math.log2(max(1, math.prod(size))) / 2)
    passes = two_passes_of(model)
    side = min(max(side, LEAST_SIDE, *(passes.crop if passes else ())), MOST_SIDE)
    engines = installed()
    machine = machine_name(torch.device("cpu")), torch.get_num_threads()
    parts = network_key(model, channels), engines, machine, side, str(dtype)
    known = cache_folder("runtimes") / f"{sha256(json.dumps(parts).encode()).hexdigest()}.json"

    def expected(measured: Mapping[str, tuple[float, float]]) -> Fastest:
        share = math.prod(size) / side**2
        return Fastest(size, {name: a + b * share for name, (a, b) in measured.items()})

    with suppress(OSError, JsonError):
        found = expected(read_json(known, dict[str, tuple[float, float]]))
        if "torch" in found.seconds:
            return found
    if engines and report is not None:
        report(f"measuring torch, {', '.join(engines)}, once for this network and machine")
    torch_alone = ModelRunner(model, dtype, torch.device("cpu"), output=0)
    runners: dict[str, ModelRunner] = {"torch": torch_alone}
    for engine_name in engines:
        if engine_name == "onnxruntime" and dtype != torch.float32:
            continue
        engine = engine_for(model, engine_name, channels, dtype, report)
        if engine is not None:
            runners[engine_name] = replace(torch_alone, engine=engine)
    image = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    measured: dict[str, tuple[float, float]] = {}
    with eval_mode(model, torch_alone.device), torch.inference_mode(), kept_memory():
        for name, runner in runners.items():
            run = partial(runner.restore, image)
            first, later = _seconds(run, 1), _seconds(run, 2)
            # torch has nothing to compile: its first run was slow because it allocated memory
            measured[name] = 0.0 if name == "torch" else max(0.0, first - later), later
    with suppress(GlocalError):  # measured again the next time
        make_private_folder(known.parent, GlocalError)
        write_whole(known, json.dumps(measured), GlocalError)
    return expected(measured)


def _seconds(run: Callable[[], object], most: int) -> float:
    """The shortest of at most so many runs, or of one that is long."""
    found: list[float] = []
    while len(found) < most and sum(found) < _ENOUGH_S:
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return min(found)
