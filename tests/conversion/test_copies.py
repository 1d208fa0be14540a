import torch

from glocal.conversion.copies import Copies


def test_a_tensor_is_copied_once_until_it_is_written_to():
    with torch.inference_mode():  # where tensors do not count their versions
        x, copies = torch.arange(6.0).reshape(2, 3), Copies()
        first = copies.of(x)
        assert copies.of(x.view(2, 3)) is first
        assert first.data_ptr() != x.data_ptr()
        assert torch.equal(copies.of(x[:, :2]), x[:, :2])
        x += 1
        second = copies.of(x)
        assert second is not first
        assert torch.equal(second, first + 1)
