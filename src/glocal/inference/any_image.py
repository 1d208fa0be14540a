"""The public `restore`: files, Pillow images and lists beside arrays and tensors."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack, overload

import numpy as np
import torch
from torch import Tensor, nn

from glocal.engines.runtimes import Runtime
from glocal.images.image_files import read
from glocal.inference.colours import Grey
from glocal.inference.fallback import Fallback, FallbackLike, restored_with_fallback
from glocal.inference.inputs import InputValue
from glocal.inference.options import TilesLike, as_tiles
from glocal.inference.pillow import is_pillow, restored_pillow
from glocal.inference.restore import restore as restore_pixels
from glocal.inference.run import Progress
from glocal.inference.tensors import AnyImage
from glocal.inference.turns import Ensemble, check_ensemble, mean_over_turns

__all__ = ["RestoreOptions", "restore"]


class RestoreOptions(TypedDict, total=False):
    """Options of `glocal.restore`, which describes them."""

    tiles: TilesLike
    memory: int | None
    dtype: torch.dtype | str | None
    device: torch.device | str | None
    inputs: Mapping[str, InputValue] | None
    output: int | str | None
    channels: int | None
    grey: Grey
    runtime: Runtime
    strength: float
    progress: Progress | None
    report: Callable[[str], None] | None


PathLike: TypeAlias = str | os.PathLike[str]
Each = TypeVar("Each")


@overload
def restore(  # type: ignore[overload-overlap]  # a str is a sequence of str
    model: nn.Module,
    image: PathLike,
    *,
    ensemble: Ensemble = 1,
    fallback: FallbackLike | None = None,
    **options: Unpack[RestoreOptions],
) -> np.ndarray: ...


@overload
def restore(
    model: nn.Module,
    image: Sequence[PathLike],
    *,
    ensemble: Ensemble = 1,
    fallback: FallbackLike | None = None,
    **options: Unpack[RestoreOptions],
) -> list[np.ndarray]: ...


@overload
def restore(
    model: nn.Module,
    image: Sequence[AnyImage],
    *,
    ensemble: Ensemble = 1,
    fallback: FallbackLike | None = None,
    **options: Unpack[RestoreOptions],
) -> list[AnyImage]: ...


@overload
def restore(
    model: nn.Module,
    image: AnyImage,
    *,
    ensemble: Ensemble = 1,
    fallback: FallbackLike | None = None,
    **options: Unpack[RestoreOptions],
) -> AnyImage: ...


def restore(
    model: nn.Module,
    image: Any,
    *,
    ensemble: Ensemble = 1,
    fallback: FallbackLike | None = None,
    **options: Unpack[RestoreOptions],
) -> Any:
    """Restore an image, a file, or a list of them with a network, converted or not.

    >>> import numpy as np
    >>> from torch import nn
    >>> photo = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    >>> restored = restore(nn.Identity(), photo, tiles=16)
    >>> restored.dtype, restored.shape, bool((restored == photo).all())
    (dtype('uint8'), (37, 50, 3), True)
    >>> [each.shape for each in restore(nn.Identity(), [photo, photo[:20]])]
    [(37, 50, 3), (20, 50, 3)]

    If the network refuses a size, the image is reflected up to one that it accepts and cropped
    back: a search below the training size finds the multiples that it needs. An image is reflected
    at all borders for a network whose convolutions leave out pixels. The scale of a
    super-resolution network is read from its output. The network runs in eval mode under
    ``torch.inference_mode``; its training flags are restored afterwards.

    Args:
        model: takes and returns (b, c, h, w) in [0, 1].
        image: a floating tensor (c, h, w) or (b, c, h, w) in [0, 1], or an array (h, w) or
            (h, w, c) of uint8, uint16, or floats in [0, 1], or a Pillow image of mode L, RGB or
            RGBA, whose alpha is kept. Integers are scaled to [0, 1] and back, rounded and
            clamped. Floats are not clamped: a metric may need the overshoot. Values that are not
            finite or beyond 8 are refused, and so are channels that seem to be in the wrong
            place: (3, 400, 600) as an array, (400, 600, 3) as a tensor. A path is read with
            `glocal.read_image`, and its pixels are restored, without alpha. A list is restored
            one by one.
        ensemble: 8 averages the results on the flipped and turned image, which takes 8 times as
            long and usually gains a little; see `glocal.inference.turns`.
        fallback: the original of a converted network. It restores the whole image too, and the
            result fades into its result in areas where the local one has structure of its own,
            such as colour mosaics and checkerboards in flat parts; see `glocal.inference.areas`.
            `report` gets a line that describes them. An image that needs tiles has no full-image
            result and does not fall back, with a warning.
        tiles: how the image is divided: `Tiles`, or its size in pixels alone, a side or (height,
            width). "auto" is the whole image if memory suffices, which is measured on parts of
            large images, and else the largest tiles that fit. None tries the whole image first.
            If memory runs out, tiles with a halo, "auto" and None continue in smaller tiles, and
            on the CPU, with a warning.
        memory: bytes that this process may use on the CPU, or its tensors on another device; by
            default the free memory. "auto" tiles depend on it.
        dtype: that the network computes in, by default the dtype of its parameters. A float32
            network runs in bfloat16 or float16 by autocast.
        device: where the network runs, any device of torch; "auto" is the first GPU, or the CPU
            if there is none. The network is moved there and stays there, or on the CPU if the
            device ran out of memory; the result is on the image's device.
        inputs: what the network takes beside the image, by name: a number, or a map of the size of
            the image. A parameter of its `forward` gets the map, or the number as a tensor
            (b, 1, 1, 1). Any other name is appended to the channels of the image, a number as a
            constant map: noise levels of DRUNet.
        output: name or index of the output to take, for networks that return several.
        channels: channels that the network takes; by default read from its convolutions, or found
            by running it. A grey image is repeated for a 3-channel network and the result
            averaged.
        grey: how a network of one channel restores a colour image, see `Grey`.
        runtime: what computes the network. "onnxruntime" and "openvino" run its exported file, in
            float32 on the CPU; the results of torch differ by less than 1e-4. OpenVINO computes in
            bfloat16 too, if `dtype` says so. "auto" is the fastest one that is installed. File and
            measurement are made once and kept in the user's cache folder. torch computes what an
            engine cannot, with a warning that says why.
        strength: share of the restored image in the result, 0 to 1; the rest is the image itself.
        progress: called with (tiles done, total number of tiles), first with 0 done.
        report: called with one line that describes the tiles, if there are several with a halo,
            and before work that is done once for a runtime.

    Returns:
        The restored image, of the type, layout and dtype of ``image``; an array (h, w, 1) or
        (h, w, 3) of uint8 or uint16 for a path, and a list for a list. A super-resolution network
        multiplies height and width by the scale.

    Raises:
        ArgumentError: an argument is invalid, torch cannot use the device, or the network's output
            is not an image.
        ImageError: a file cannot be read.
        GlocalError: the smallest tiles do not fit into memory.
    """
    check_ensemble(ensemble)
    again = partial(restore, model, ensemble=ensemble, fallback=fallback, **options)
    if isinstance(image, list | tuple):
        return [again(each) for each in image]
    if isinstance(image, str | os.PathLike):
        return again(read(image).pixels)
    if is_pillow(image):
        return restored_pillow(image, again)
    if fallback is not None:
        return _with_fallback(model, image, fallback, ensemble, options)
    if ensemble == 1:
        return restore_pixels(model, image, **options)

    def run(turned: Tensor, inputs: Mapping[str, InputValue], progress: Progress) -> Tensor:
        here: RestoreOptions = {**options, "inputs": inputs or None, "progress": progress}
        return restore_pixels(model, turned, **here)

    return mean_over_turns(image, options.get("inputs") or {}, options.get("progress"), run)


def _with_fallback(
    model: nn.Module,
    image: AnyImage,
    fallback: FallbackLike,
    ensemble: Ensemble,
    options: RestoreOptions,
) -> AnyImage:
    """Restore an image by the network and by its original, and blend the results."""
    chosen = Fallback.of(fallback, options.get("report"))

    def run_local(source: Tensor, progress: Progress) -> Tensor:
        given: RestoreOptions = {**options, "progress": progress}
        return restore(model, source, ensemble=ensemble, **given)

    def run_full(source: Tensor, progress: Progress) -> Tensor:
        # halo and overlap are those of a local network; a runtime would export the original too
        given: RestoreOptions = {**options, "progress": progress, "runtime": "torch"}
        given |= {"tiles": as_tiles(options.get("tiles", "auto")).size, "report": None}
        return restore(chosen.network, source, ensemble=ensemble, **given)

    return restored_with_fallback(
        image, chosen, ensemble, options.get("progress"), run_full, run_local
    )
