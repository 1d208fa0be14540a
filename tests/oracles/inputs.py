"""Test images whose statistics vary from place to place, and random weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

DENSE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def ramp_noise(b: int, c: int, h: int, w: int, seed: int = 0) -> Tensor:
    """A ramp plus noise of varying strength: float64 (b, c, h, w), about [0, 1].

    Distant windows differ in mean and variance, so that a statistic of the wrong window fails a
    test.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.linspace(0, 1, h, dtype=torch.float64)[:, None]
    x = torch.linspace(0, 1, w, dtype=torch.float64)
    slope = torch.rand(3, b, c, 1, 1, generator=generator, dtype=torch.float64)
    ramp = 0.15 + 0.4 * slope[0] * y + 0.4 * slope[1] * x
    amplitude = 0.02 + 0.15 * (x * (1 - slope[2]) + (1 - y) * slope[2])
    noise = torch.randn(b, c, h, w, generator=generator, dtype=torch.float64)
    return ramp + amplitude * noise


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give all parameters and running statistics random values in place; returns the module.

    The scale of each kind of parameter keeps activations in range. Tied parameters get one value.
    Values are drawn in float64 with a separate generator: torch's global generator stays as it was,
    and the values do not depend on the dtype. Other buffers (masks, index tables) are constants of
    the network and stay.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: set[int] = set()
    with torch.no_grad():
        for owner in module.modules():
            for name, parameter in owner.named_parameters(recurse=False):
                if id(parameter) not in drawn:
                    drawn.add(id(parameter))
                    kind = _kind_in(owner, name, parameter)
                    parameter.copy_(_draw(kind, parameter.shape, generator))
            for name, buffer in owner.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    buffer.copy_(_draw(name, buffer.shape, generator))
    return module


def random_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """A random float64 state dict with these shapes, distributed as by `randomise`.

    A weight of shape (1,) is the slope of a PReLU. All slopes have one value, because MPRNet has
    one PReLU under many keys.
    """
    generator = torch.Generator().manual_seed(seed)
    slope = _draw("slope", (1,), generator)
    state = {}
    for key, shape in shapes.items():
        name = key.rpartition(".")[2]
        if name == "weight":
            name = "dense" if len(shape) > 1 else "slope" if shape == (1,) else "scale"
        state[key] = slope.clone() if name == "slope" else _draw(name, shape, generator)
    return state


def _kind_in(owner: nn.Module, name: str, parameter: Tensor) -> str:
    if name in ("beta", "gamma", "temperature") or name.endswith("bias"):
        return name
    if isinstance(owner, nn.PReLU):
        return "slope"
    one_axis = parameter.numel() == max(parameter.shape, default=1)
    return "scale" if one_axis and not isinstance(owner, DENSE) else "dense"


def _draw(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    match kind:
        case "slope":  # of a PReLU
            return 0.25 + 0.05 * noise.clamp(-2, 2)
        case "scale":  # of a normalisation
            return 1 + 0.2 * noise.clamp(-2, 2)
        case (
            "beta" | "gamma"
        ):  # of a residual branch: with the initial 0 of NAFNet, the branch has no effect
            return noise.sign() * 0.3 * (1 + 0.3 * noise.abs().clamp(max=2))
        case "temperature" | "running_var":
            return (0.3 * noise).exp()
        case "dense":
            return noise / (noise.numel() / shape[0]) ** 0.5
        case _:  # biases, running_mean
            return 0.1 * noise
