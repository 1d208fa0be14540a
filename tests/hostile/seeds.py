"""Small valid files of every format and kind of checkpoint that can be read here."""

import importlib.util
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from glocal.errors import ImageError
from glocal.images import image_files
from glocal.images.icc import linear_profile
from glocal.images.image_files import Image


def samples(dtype: type = np.uint8, channels: int = 3, size: tuple[int, int] = (24, 40)) -> Any:
    """A gradient with texture: damage shows, and lossy formats stay small."""
    rng = np.random.default_rng(1)
    ramp = np.add.outer(np.linspace(0.1, 0.6, size[0]), np.linspace(0, 0.3, size[1]))
    values = np.clip(ramp[..., None] + rng.normal(0, 0.02, (*size, channels)), 0, 1)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


def image_seeds() -> dict[str, bytes]:
    """Files by name; the part before "-" is a suffix."""
    made: dict[str, bytes] = {}
    for suffix in (".png", ".jpg", ".tif", ".webp", ".avif", ".jxl", ".exr"):
        for name, dtype in (("8", np.uint8), ("16", np.uint16), ("float", np.float32)):
            for channels in (1, 3):
                image = Image(
                    samples(dtype, channels),
                    alpha=samples(dtype, 1)[..., 0] if channels == 3 and name == "8" else None,
                    icc=linear_profile(channels) if name == "16" else None,
                    texts=(("Comment", "a text"),),
                )
                try:
                    made[f"{suffix[1:]}-{name}-{channels}"] = image_files.encode(image, suffix)[0]
                except ImageError:
                    continue  # a library is missing
    for name, make in _OTHERS.items():
        if importlib.util.find_spec(_LIBRARIES.get(name.partition("-")[0], "PIL")) is not None:
            made[name] = make()
    return made


def _pillow(form: str, mode: str = "RGB", **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        import PIL.Image

        file = io.BytesIO()
        if form == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener()
        PIL.Image.fromarray(samples()).convert(mode).save(file, form, **options)
        return file.getvalue()

    return make


def _tifffile(dtype: type = np.uint8, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        import tifffile

        file, pixels = io.BytesIO(), samples(dtype, size=(32, 48))
        if options.get("planarconfig") == "separate":
            pixels = pixels.transpose(2, 0, 1)
        tifffile.imwrite(file, pixels, photometric="rgb", **options)
        return file.getvalue()

    return make


def _jp2(**options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        import imagecodecs

        return bytes(imagecodecs.jpeg2k_encode(samples(), **options))

    return make


def _netpbm(magic: str, dtype: type = np.uint8, channels: int = 3) -> Callable[[], bytes]:
    def make() -> bytes:
        pixels = samples(dtype, channels)
        most = "-1.0" if magic in ("PF", "Pf") else str(np.iinfo(dtype).max)
        body = pixels.astype(pixels.dtype.newbyteorder("<" if most == "-1.0" else ">")).tobytes()
        if magic in ("P2", "P3"):
            body = " ".join(map(str, pixels.ravel())).encode()
        return f"{magic}\n40 24\n{most}\n".encode() + body

    return make


def _dng() -> bytes:
    import tifffile

    file = io.BytesIO()
    tags = [(50706, "B", 4, (1, 4, 0, 0), True), (33421, "H", 2, (2, 2), True),
            (33422, "B", 4, (0, 1, 1, 2), True), (271, "s", 0, "ACME", True)]  # fmt: skip
    mosaic = samples(np.uint16, 1, (32, 48))[..., 0]
    tifffile.imwrite(file, mosaic, photometric=32803, extratags=tags)
    return file.getvalue()


_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"

_LIBRARIES = {
    "tif": "imagecodecs",  # which tifffile needs to compress
    "dng": "rawpy",
    "jp2": "imagecodecs",
    "heic": "pillow_heif",
    "ppm": "numpy",
}

_OTHERS: dict[str, Callable[[], bytes]] = {
    "png-palette": _pillow("PNG", "P"),
    "png-bit": _pillow("PNG", "1"),
    "jpg-420": _pillow("JPEG", subsampling=2, quality=80, exif=_EXIF),
    "jpg-progressive": _pillow("JPEG", progressive=True, quality=90),
    "jpg-grey": _pillow("JPEG", "L"),
    "jpg-cmyk": _pillow("JPEG", "CMYK"),
    "gif-palette": _pillow("GIF", "P"),
    "webp-lossless": _pillow("WEBP", lossless=True),
    "bmp-colour": _pillow("BMP"),
    "bmp-palette": _pillow("BMP", "P"),
    "bmp-bit": _pillow("BMP", "1"),
    "heic-colour": _pillow("HEIF", quality=80),
    "ppm-binary": _netpbm("P6"),
    "ppm-16": _netpbm("P6", np.uint16),
    "ppm-text": _netpbm("P3"),
    "ppm-grey": _netpbm("P5", channels=1),
    "ppm-float": _netpbm("PF", np.float32),
    "jp2-file": _jp2(),
    "jp2-stream": _jp2(codecformat="j2k"),
    "tif-plain": _tifffile(),
    "tif-big": _tifffile(bigtiff=True, byteorder=">"),
    "tif-lzw": _tifffile(compression="lzw", predictor=True),
    "tif-deflate": _tifffile(np.uint16, compression="zlib", rowsperstrip=8),
    "tif-packbits": _tifffile(compression="packbits"),
    "tif-tiles": _tifffile(tile=(16, 16)),
    "tif-planes": _tifffile(planarconfig="separate", tile=(16, 16)),
    "tif-jpeg": _tifffile(compression="jpeg"),
    "tif-zstd": _tifffile(compression="zstd"),
    "tif-float": _tifffile(np.float32),
    "tif-double": _tifffile(np.float64),
    "dng-mosaic": _dng,
}


def checkpoint_seeds() -> dict[str, bytes]:
    """Checkpoints of a tiny network in each kind of file."""
    import torch
    from safetensors.torch import save

    from glocal import networks

    torch.manual_seed(0)
    weights = networks.NAFNet(3, 2, 1, [1], [1]).state_dict()
    about = {"img_channel": 3, "width": 2, "middle_blk_num": 1}
    about |= {"enc_blk_nums": [1], "dec_blk_nums": [1]}
    metadata = {
        "architecture": "NAFNet",
        "hyperparameters": json.dumps(about),
        "train_size": "64x64",
        "name": "tiny",
    }

    def saved(content: object, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    return {
        "pth-zip": saved(weights),
        "pth-old": saved(weights, _use_new_zipfile_serialization=False),
        "pth-training": saved({"params_ema": weights, "epoch": 3, "optimizer": {"lr": [0.1]}}),
        "pth-half": saved({key: tensor.half() for key, tensor in weights.items()}),
        "pth-float8": saved({k: t.to(torch.float8_e4m3fn) for k, t in weights.items()}),
        "safetensors-plain": save(weights),
        "safetensors-metadata": save(weights, metadata=metadata),
        "json-index": json.dumps(
            {"metadata": {}, "weight_map": dict.fromkeys(weights, "w-00001-of-00001.safetensors")}
        ).encode(),
        "json-settings": b'{"format": 1, "train_size": [64, 64], "way": "crops", "stride": 2.0}',
        "json-plan": json.dumps(
            {
                "train_size": [64, 64], "window": [96, 96], "precision": "exact",
                "rows": [{"path": "norm", "operation": "instance_norm", "line": "n.py:3",
                          "feature": [32, 32], "window": None, "status": "local", "how": "rule"}],
            }
        ).encode(),
    }  # fmt: skip
