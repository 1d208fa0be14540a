"""Restore a photograph with an exported network, numpy and onnxruntime.

    python examples/onnxruntime_only.py net.onnx photo.png restored.png

`glocal.export(glocal.localize(network, 256), "net.onnx")` writes net.onnx. This file needs numpy
and onnxruntime only, so that you can copy it into your program. Pillow reads and writes the images;
.npy files (height, width, channels) need none.
"""

import sys

import numpy as np
import onnxruntime


def restore(session: onnxruntime.InferenceSession, image: np.ndarray) -> np.ndarray:
    """Restore an image (height, width, channels) of floats in [0, 1]."""
    facts = session.get_modelmeta().custom_metadata_map
    if "glocal_crops_file" in facts:
        sys.exit("this network takes statistics from crops: use examples/run_crops_onnx.py")
    multiple, smallest = int(facts["glocal_multiple"]), int(facts["glocal_smallest"])
    height, width = image.shape[:2]
    if min(height, width) < smallest:
        sys.exit(f"the image has {height}x{width} pixels; this network takes {smallest} and more")
    missing = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    x = np.pad(image, missing, mode="reflect").astype(np.float32)
    (restored,) = session.run(["restored"], {"image": x.transpose(2, 0, 1)[None]})
    scale = restored.shape[2] // x.shape[0]
    return restored[0].transpose(1, 2, 0)[: height * scale, : width * scale]


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
        sys.exit("usage: python onnxruntime_only.py NETWORK.onnx IMAGE RESULT")
    network, source, target = sys.argv[1:]
    loaded = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    write(target, restore(loaded, read(source)))
