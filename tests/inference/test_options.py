"""Values that `Tiles` refuses."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glocal.errors import ArgumentError
from glocal.inference.options import Tiles
from glocal.inference.restore import restore


def photo(*size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tiles", [0, -8, (16, 0), "all"])
def test_impossible_sizes_are_refused(tiles: Any) -> None:
    with pytest.raises(ArgumentError, match="size"):
        restore(nn.Identity(), photo(3, 40, 40), tiles=tiles)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": -1}, "overlap=-1; give pixels"),
        ({"blend": "soft"}, "blend is one of linear, mean, cut, got 'soft'"),
        ({"halo": 8, "overlap": 8}, "have a halo or are blended"),
        ({"halo": 8, "blend": "cut"}, "have a halo or are blended"),
    ],
)
def test_impossible_options_of_tiles_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Tiles(**options)


def test_a_halo_is_pixels() -> None:
    with pytest.raises(ArgumentError, match="halo=-1"):
        Tiles(halo=-1)
