"""Weights as files store them, in full precision, or refused if they hold no dense values."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from glocal.errors import CheckpointError
from glocal.networks.checkpoints.names import FP8_EXTRAS, FP8_SCALES
from glocal.texts import short_name

__all__ = ["full_precision", "is_float8"]

_MOST_REPEATED, _SPARE = 2, 2**20  # bytes of tensors for each byte of storage, and beyond


def is_float8(tensor: Tensor) -> bool:
    """True for values of a float8 type."""
    return tensor.dtype.is_floating_point and tensor.element_size() == 1


def full_precision(path: Path, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict whose float8 and quantised tensors are in float32.

    Factors stored beside a float8 weight (one, or one for each output channel) are multiplied
    with it and left out. Other tensors stay as they are.

    >>> import torch
    >>> weight = torch.tensor([[2.0], [4.0]]).to(torch.float8_e4m3fn)
    >>> state = {"a.weight": weight, "a.weight_scale": torch.tensor([0.5, 2.0])}
    >>> full_precision(Path("a.pth"), state)
    {'a.weight': tensor([[1.],
            [8.]])}

    Args:
        path: of the file, for errors.
        state_dict: tensors by their keys.

    Raises:
        CheckpointError: the factors belong to blocks of a weight, or a tensor has no dense values,
            or the file holds only a small part of the values that its tensors repeat.
    """
    for key, tensor in state_dict.items():
        if form := _unusable(tensor):
            raise CheckpointError(
                f"{path}: {short_name(key)} is {form}; save the dense weights of the network"
            )
    _check_repeated(path, state_dict)
    if not any(is_float8(tensor) or tensor.is_quantized for tensor in state_dict.values()):
        return dict(state_dict)
    extras = {key for key in state_dict if key.rpartition(".")[2] in FP8_EXTRAS}
    result = {}
    for key, tensor in state_dict.items():
        if tensor.is_quantized:
            result[key] = tensor.dequantize()
        elif is_float8(tensor) and key not in extras:
            scale = _scale_key(key, state_dict)
            result[key] = tensor.float()
            if scale is not None:
                result[key] *= _factors(path, key, tensor, state_dict[scale].float())
                extras.add(scale)
        else:
            result[key] = tensor
    return {key: tensor for key, tensor in result.items() if key not in extras}


def _unusable(tensor: Tensor) -> str:
    """What a tensor is that holds no dense values; empty for others."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({str(tensor.layout).removeprefix('torch.')})"
    return "on the meta device and holds no values" if tensor.is_meta else ""


def _check_repeated(path: Path, state_dict: Mapping[str, Tensor]) -> None:
    """Check that views of little storage do not stand for far more values."""
    seen: set[int] = set()
    stored = stated = 0
    for key, tensor in state_dict.items():
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            stored += storage.nbytes()
        stated += tensor.numel() * tensor.element_size()
        if stated > _MOST_REPEATED * stored + _SPARE:
            raise CheckpointError(
                f"{path}: {short_name(key)} has the shape {tuple(tensor.shape)[:8]}, but the file "
                "repeats a few values in its place; save contiguous weights"
            )


def _scale_key(key: str, state_dict: Mapping[str, Tensor]) -> str | None:
    module, dot, name = key.rpartition(".")
    names = (f"{module}{dot}{scale}" for scale in FP8_SCALES if name == "weight")
    return next((scale for scale in names if scale in state_dict), None)


def _factors(path: Path, key: str, weight: Tensor, scale: Tensor) -> Tensor:
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.numel() == len(weight):
        return scale.reshape(-1, *(1,) * (weight.dim() - 1))
    raise CheckpointError(
        f"{path}: {short_name(key)} has float8 values with factors for blocks, of shape "
        f"{tuple(scale.shape)}, which are not read; convert it to float32 first"
    )
