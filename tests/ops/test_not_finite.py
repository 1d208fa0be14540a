"""One value that is not finite stays within the windows that hold it."""

import pytest
import torch
from torch import Tensor, nn

import glocal
from glocal import ops
from glocal.ops.windows import Size


def attention(x: Tensor, window: Size, precision: str) -> Tensor:
    heads = x.unflatten(1, (2, -1))
    made = ops.local_channel_attention(heads, 0.5 * heads + 0.1, heads, torch.ones(2, 1, 1), window)
    return made.flatten(1, 2)


OPERATIONS = {
    "mean": ops.local_mean,
    "sum": ops.local_sum,
    "max": lambda x, window, precision: ops.local_max(x, window),
    "norm": ops.local_norm,
    "first moment": lambda x, w, precision: ops.local_moments(x, w, precision=precision)[0],
    "second moment": lambda x, w, precision: ops.local_moments(x, w, precision=precision)[1],
    "moments of groups": lambda x, w, precision: ops.local_moments(
        x, w, groups=2, precision=precision
    )[1],
    "instance norm": lambda x, w, precision: ops.local_instance_norm(x, w, precision=precision),
    "group norm": lambda x, w, precision: ops.local_group_norm(x, 2, w, precision=precision),
    "layer norm": lambda x, w, precision: ops.local_layer_norm(x, w, precision=precision),
    "attention": attention,
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "exact") for name in OPERATIONS)]
    + [(name, "fast") for name in OPERATIONS if name not in ("max", "attention")],
)
def test_a_value_stays_within_its_windows(name, precision, memory_format, dtype, value) -> None:
    fast = precision == "fast"
    window, size, at = ((32, 48), (150, 180), (70, 90)) if fast else ((7, 9), (40, 53), (20, 30))
    torch.manual_seed(0)
    x = (torch.rand(1, 4, *size, dtype=dtype) + 3).contiguous(memory_format=memory_format)
    spoiled = x.clone()
    spoiled[0, 1, at[0], at[1]] = value
    operation = OPERATIONS[name]
    got, wanted = operation(spoiled, window, precision), operation(x, window, precision)
    # windows of attention overlap, and a pixel sees each that holds it; grids lie between pixels
    reach = [n if name == "attention" else n // 2 + fast * (n // 16) for n in window]
    far = torch.ones(size, dtype=torch.bool)
    rows, columns = (slice(a - n, a + n + 1) for a, n in zip(at, reach, strict=True))
    far[rows, columns] = False
    # the mean of the whole map no longer centres the values, which costs digits
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(got[..., far], wanted[..., far], rtol=tolerance, atol=tolerance)
    assert not torch.isfinite(got[0, :, at[0], at[1]]).all()


def test_a_converted_network_keeps_a_value_where_it_is() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.conv(x.mean((2, 3), keepdim=True)).sigmoid()

    torch.manual_seed(0)
    local = glocal.localize(Gate().eval(), 16, window=16)
    x = torch.rand(1, 3, 20, 90)
    spoiled = x.clone()
    spoiled[0, 0, 10, 40] = torch.nan
    with torch.inference_mode():
        got, wanted = local(spoiled), local(x)
    assert torch.isfinite(got[..., 57:]).all()
    torch.testing.assert_close(got[..., 57:], wanted[..., 57:])
    torch.testing.assert_close(got[..., :24], wanted[..., :24])
    assert not torch.isfinite(got[..., 40]).all()
