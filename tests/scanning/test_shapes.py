"""Result shapes that are computed once must be those of torch."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from glocal.scanning.shapes import ShapeMemo

F = torch.nn.functional


class Memoised(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.memo = ShapeMemo()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.memo.run(func, args, kwargs or {})


def seen(result):
    leaves = result if isinstance(result, tuple | list) else (result,)
    return [(type(t), t.shape, t.stride(), t.dtype, t.device) for t in leaves]


CALLS = {
    "add a number": lambda x: x + 1,
    "add a boolean": lambda x: x.long() + True,
    "add another dtype": lambda x: x.half() + x,
    "mean": lambda x: x.mean((2, 3), keepdim=True),
    "mean of doubles": lambda x: x.mean((2, 3), dtype=torch.float64),
    "compare": lambda x: x > 0,
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bicubic": lambda x: F.interpolate(x, size=(5, 6), mode="bicubic"),
    "convolution": lambda x: F.conv2d(x, x.new_empty(6, 4, 3, 3), padding=1),
    "concatenation": lambda x: torch.cat([x, x], 1),
    "std_mean": lambda x: torch.std_mean(x, (2, 3)),
    "split": lambda x: x.split(2, 1),
    "view": lambda x: x.permute(0, 2, 3, 1),
    "matmul": lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CALLS)
def test_known_results_are_those_of_torch(name, layout):
    x = torch.empty(2, 4, 8, 6, device="meta").to(memory_format=layout)
    wanted = seen(CALLS[name](x))
    with Memoised():
        first, again = CALLS[name](x), CALLS[name](x)
    assert seen(first) == wanted
    assert seen(again) == wanted


def test_arguments_of_another_type_are_other_arguments():
    x = torch.empty(3, device="meta", dtype=torch.int64)
    with Memoised():
        results = [x * number for number in (1, 1.0, True)]
    assert [r.dtype for r in results] == [torch.int64, torch.float32, torch.int64]


def test_views_and_writes_keep_their_memory():
    x = torch.empty(2, 4, device="meta")
    with Memoised():
        views = [x.view(8), x.view(8)]
        written = x.add_(1)
    assert all(view.untyped_storage()._cdata == x.untyped_storage()._cdata for view in views)
    assert written is x


def test_values_are_computed_every_time():
    x = torch.arange(4.0)
    with Memoised():
        first = x * 2
        again = (x + 1) * 2
    assert first.tolist() == [0, 2, 4, 6]
    assert again.tolist() == [2, 4, 6, 8]
