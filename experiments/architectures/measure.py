"""Convert one network with `glocal.localize`, compare it, and return its record."""

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import glocal
from glocal.errors import GlocalError

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Bound of the largest difference relative to the largest value."""
RULES = {rule.name for rule in glocal.DEFAULT_RULES}


class Subject(Protocol):
    """The attributes that `cases.Case` and `official.Recipe` share."""

    image_channels: int
    inputs: Callable[[int, int], tuple[Tensor, ...]] | None

    @property
    def train_size(self) -> tuple[int, int]: ...


def size(subject: Subject, factor: int = 1) -> tuple[int, int]:
    """`factor` times the height of the training crops, and their width."""
    height, width = subject.train_size
    return factor * height, width


def allow_unmatched_torchvision() -> None:
    """Make spandrel importable beside a torchvision that was built for another torch."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        allow_unmatched_torchvision.library = library  # definitions last as long as this object


def randomise(network: nn.Module) -> None:
    """Set random weights at the scale of their fan-in; no parameter stays at zero or one."""
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    with torch.no_grad():
        for module in network.modules():
            for parameter in module.parameters(recurse=False):
                if not parameter.is_floating_point():
                    continue
                if 0 in parameter.stride():  # an expanded start, of one value in memory
                    parameter.data = parameter.data.contiguous()
                if isinstance(module, nn.Linear | nn.Conv2d) and parameter.ndim > 1:
                    parameter.copy_(noise(parameter) / parameter[0].numel() ** 0.5)
                elif parameter.numel() == 1 or parameter.std() == 0:
                    parameter.add_(0.1 * noise(parameter))


def image(subject: Subject, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Arguments of forward: a ramp with noise that grows along it, and a mask if required."""
    torch.manual_seed(1)
    ramp = torch.linspace(0.1, 0.8, height)[:, None] * torch.linspace(0.3, 1, width)
    noisy = ramp * (1 + 0.4 * torch.randn(1, subject.image_channels, height, width))
    extra = subject.inputs(height, width)[1:] if subject.inputs else ()
    return tuple(t.to(dtype) for t in (noisy.clamp(0, 1), *extra))


def outputs(network: nn.Module, arguments: tuple[Tensor, ...]) -> list[Tensor]:
    torch.manual_seed(2)  # some draw noise as they run
    with torch.no_grad():
        results = network(*(t.clone() for t in arguments))  # some write to their input
    return [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor)]


def difference(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference of all outputs, each relative to its largest value."""
    pairs = list(zip(got, wanted, strict=True))
    errors = [(a - b).abs().max() / b.abs().max().clamp_min(1e-30) for a, b in pairs]
    return float(torch.stack(errors).max())  # NaN if any is


def one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, GlocalError) else f"{type(error).__name__}: {text}"[:400]


def measure(
    subject: Subject,
    network: nn.Module,
    theirs: str,
    their_local: Callable[[dict[str, Tensor]], nn.Module] | None = None,
    local_leaves: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The record of one network, as complete as possible.

    Args:
        subject: training size and inputs.
        network: with its initial weights.
        theirs: a part of the paths of the network's source files.
        their_local: (weights) → the authors' own local version of the network.
        local_leaves: module paths that it leaves global.
    """
    randomise(network)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    record: dict[str, Any] = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "stage": "scan",
    }
    sized: dict[str, Any] = {"example": subject.inputs} if subject.inputs else {}
    begin = time.process_time()
    try:
        local = glocal.localize(network, subject.train_size, allow_global=True, **sized)
    except Exception as error:  # not only GlocalError: a bug of glocal is a finding too
        square, higher = (
            runs(network, image(subject, *size(subject, n), torch.float32)) for n in (1, 2)
        )
        return record | failure(error, theirs) | {"fixed_size": square and not higher}
    record["seconds"] = round(time.process_time() - begin, 2)
    modules = dict(network.named_modules())
    record["rows"] = [
        {
            "path": row.path,
            "module": type(modules[row.path]).__name__,
            "operation": row.operation,
            "line": row.line,
            "feature": row.feature,
            "status": row.status,
            "by": "none" if row.status != "local" else "rule" if row.how in RULES else "rewrite",
            "how": row.how,
        }
        for row in glocal.plan_of(local).rows
    ]
    record["stage"] = "equality"
    try:
        dtype, error = equality(subject, network, local)
        record["dtype"] = str(dtype).removeprefix("torch.")
        record["difference"] = error
        if any(row["status"] == "local" for row in record["rows"]):
            record["equal"] = error <= TOLERANCE[dtype]
        if their_local:
            twice = image(subject, *size(subject, 2), dtype)
            record["stage"] = "the authors' local version"
            options = {"keep_global": local_leaves, "allow_global": True, **sized}
            ours = (
                glocal.localize(network, subject.train_size, **options) if local_leaves else local
            )
            torch.set_default_dtype(dtype)  # some create tensors as they run
            pair = [outputs(n.to(dtype), twice) for n in (ours, their_local(weights))]
            torch.set_default_dtype(torch.float32)
            record["their_local"] = difference(*pair)
        record["stage"] = "twice the height"
        twice = image(subject, *size(subject, 2), torch.float32)
        network, local = network.float(), local.float()
        record["effect"] = difference(outputs(local, twice), outputs(network, twice))
        record["stage"] = "done"
    except Exception as error:  # the failure of the network is the finding
        record |= failure(error, theirs)
    return record


def runs(network: nn.Module, arguments: tuple[Tensor, ...]) -> bool:
    """True if the network runs with these arguments."""
    try:
        outputs(network, arguments)
    except Exception:  # networks raise anything
        return False
    return True


def equality(subject: Subject, network: nn.Module, local: nn.Module) -> tuple[torch.dtype, float]:
    """Difference of converted and original at the training size, in the widest dtype that runs."""
    for dtype in (torch.float64, torch.float32):
        arguments = image(subject, *size(subject), dtype)
        try:
            wanted = outputs(network.to(dtype), arguments)
        except RuntimeError:  # the network creates float32 tensors
            if dtype == torch.float32:
                raise
            continue
        return dtype, difference(outputs(local.to(dtype), arguments), wanted)
    raise AssertionError


def failure(error: BaseException, theirs: str) -> dict[str, str]:
    """The error, and the line of the network's source that raised it."""
    inner = error.__cause__ or error
    frames = traceback.extract_tb(inner.__traceback__)
    at = ([frame for frame in frames if theirs in frame.filename] or frames)[-1]
    return {"error": one_line(error), "cause": f"{Path(at.filename).name}:{at.lineno}, {at.name}"}
