"""Restore a photograph with an exported network that takes statistics from crops.

    python examples/run_crops_onnx.py net.onnx photo.png restored.png

`glocal.export(glocal.localize(network, 256, statistics="crops"), "net.onnx")` writes net.onnx and
net-crops.onnx. This file needs numpy and onnxruntime only, so that you can copy it into your
program. Pillow reads and writes the images; .npy files (height, width, channels) need none.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


class Restorer:
    """Runs both graphs of an exported network."""

    def __init__(self, path: str, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> None:
        self.on_image = onnxruntime.InferenceSession(path, providers=list(providers))
        facts = self.on_image.get_modelmeta().custom_metadata_map
        if facts.get("glocal_image_file") is None:
            sys.exit(f"{path}: not the image graph of a network with statistics from crops")
        crops = str(Path(path).with_name(facts["glocal_crops_file"]))
        self.on_crops = onnxruntime.InferenceSession(crops, providers=list(providers))
        self.train_size = [int(n) for n in facts["glocal_train_size"].split("x")]
        self.stride = float(facts["glocal_stride"])  # in crops
        self.multiple = int(facts["glocal_multiple"])
        self.names = facts["glocal_statistics"].split()

    def __call__(self, image: np.ndarray, at_once: int = 8) -> np.ndarray:
        """Restore an image (height, width, channels) of floats in [0, 1].

        `at_once` is the number of crops in a batch, which bounds the memory of the first pass.
        """
        size, (high, wide) = image.shape[:2], self.train_size
        if size[0] < high or size[1] < wide or any(n % self.multiple for n in size):
            sys.exit(
                f"the image has {size[0]}x{size[1]} pixels; this network takes sizes from "
                f"{high}x{wide} on, in steps of {self.multiple}"
            )
        x = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)  # (1, c, h, w)
        rows, columns = (
            crop_starts(n, k, self.stride) for n, k in zip(size, self.train_size, strict=True)
        )
        # The first pass: from crops, row by row, to statistics (n, ...).
        crops = [x[0, :, y : y + high, k : k + wide] for y in rows for k in columns]
        runs = [
            self.on_crops.run(self.names, {"crops": np.stack(crops[i : i + at_once])})
            for i in range(0, len(crops), at_once)
        ]
        # The second pass: the image, the starts of the crops, and the statistics as a grid.
        fed = {"image": x, "rows": np.array(rows, np.int64), "columns": np.array(columns, np.int64)}
        for name, parts in zip(self.names, zip(*runs, strict=True), strict=True):
            found = np.concatenate(parts)
            fed[name] = found.reshape(len(rows), len(columns), 1, *found.shape[1:])
        return self.on_image.run(None, fed)[0][0].transpose(1, 2, 0)


def crop_starts(size: int, crop: int, stride: float) -> list[int]:
    """Evenly spaced starts of the fewest crops; the first and the last touch the border."""
    gaps = -(-(size - crop) // max(1, round(stride * crop)))
    return [i * (size - crop) // gaps for i in range(gaps + 1)] if gaps else [0]


def read(path: str) -> np.ndarray:
    """Return an image file as floats in [0, 1]."""
    if path.endswith(".npy"):
        return np.load(path)
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def write(path: str, image: np.ndarray) -> None:
    """Write floats in [0, 1] to an image file."""
    if path.endswith(".npy"):
        np.save(path, image)
        return
    from PIL import Image

    Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8)).save(path)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python run_crops_onnx.py NETWORK.onnx IMAGE RESULT")
    network, source, target = sys.argv[1:]
    write(target, Restorer(network)(read(source)))
