"""A second decoder of image files, which shares no code with the first where there is one."""

import importlib.util
import io
import warnings
from typing import Any

import numpy as np

LOSSY = 6  # of 255: decoders of JPEG and the like round in their own ways


def decoded(data: bytes, suffix: str) -> Any | None:
    """Samples (h, w, c) by a second decoder; None if there is none.

    Raises:
        Exception: of whatever kind: the decoder refuses the file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = _READERS.get(suffix)
        return None if reader is None else reader(data)


def agree(pixels: Any, others: Any, suffix: str) -> bool | None:
    """Compare samples as they are displayed; None if they cannot be compared.

    Alpha is not compared, 16 bits are compared with 8 by their first ones, and files may be
    rotated: the second decoder does not apply the orientation.
    """
    others = np.asarray(others)
    others = others[..., None] if others.ndim == 2 else others
    if others.ndim != 3 or others.size == 0:
        return None
    ours, theirs = _comparable(pixels), _comparable(_colours(others, pixels.shape[2]))
    if ours.shape[2] != theirs.shape[2]:
        return None
    most = LOSSY if suffix in ("jpg", "webp", "avif", "heic", "jp2", "tif") else 1
    for turned in _turned(theirs):
        if turned.shape != ours.shape:
            continue
        if np.mean(np.abs(turned - ours) > most) < 0.001:
            return True
    return False


def _colours(samples: Any, channels: int) -> Any:
    if samples.shape[2] == 2:
        samples = samples[..., :1]
    if samples.shape[2] == 4:
        samples = samples[..., :3]
    if samples.shape[2] == 3 and channels == 1 and (samples == samples[..., :1]).all():
        return samples[..., :1]
    return np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 and channels == 3 else samples


def _comparable(samples: Any) -> Any:
    if samples.dtype == np.uint16:
        return (samples >> 8).astype(np.int32)
    if samples.dtype.kind == "f":
        with np.errstate(all="ignore"):
            return np.nan_to_num(samples.astype(np.float32) * 255, nan=0, posinf=0, neginf=0)
    return samples.astype(np.int32) * (255 if samples.dtype == bool else 1)


def _turned(samples: Any) -> list[Any]:
    mirrored = (samples, samples[:, ::-1])
    return [np.rot90(each, turns) for turns in range(4) for each in mirrored]


def _pillow(data: bytes) -> Any:
    import PIL.Image

    if data.startswith(b"PF"):  # Pillow reads grey ones alone
        return None

    with PIL.Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode in ("P", "PA", "1"):
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")  # type: ignore[assignment]
        if image.mode == "CMYK" or image.mode.startswith("I"):
            return None
        return np.asarray(image)


def _jp2(data: bytes) -> Any:
    # the stream alone: the boxes around it say nothing about the samples
    return _pillow(data[max(0, data.find(b"\xff\x4f\xff\x51")) :])


def _png(data: bytes) -> Any:
    import imagecodecs

    return imagecodecs.png_decode(data)


def _tifffile(data: bytes) -> Any:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if page.photometric not in (0, 1, 2, 6) or page.bitspersample not in (8, 16, 32, 64):
            return None
        samples = page.asarray()
        if page.planarconfig == 2 and samples.ndim == 3:
            samples = np.moveaxis(samples, 0, -1)
        if page.photometric == 0 and samples.dtype.kind == "u":
            samples = np.iinfo(samples.dtype).max - samples
        return samples


_READERS: dict[str, Any] = {
    suffix: reader
    for suffixes, library, reader in (
        ("png", "imagecodecs", _png),
        ("jpg webp gif bmp ppm", "PIL", _pillow),
        ("jp2", "PIL", _jp2),
        ("tif", "tifffile", _tifffile),
    )
    if importlib.util.find_spec(library) is not None
    for suffix in suffixes.split()
}
