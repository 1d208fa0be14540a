"""What the oldest supported torch cannot do."""

import pytest
import torch

torch_2_6 = torch.__version__.startswith("2.6")


def needs_torch_2_7(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(torch_2_6, reason=f"torch 2.6: {reason}")
