"""The table by degradation on held-out photographs: degraded, full image, TLC.

    python experiments/photograph_model/evaluate.py                       # the exported weights
    python experiments/photograph_model/evaluate.py --weights .cache/photograph_model/checkpoint.pt
    python experiments/photograph_model/evaluate.py --pairs FOLDER        # with real pairs as well

Each photograph's middle is degraded in five ways, with strengths drawn by a seed that its name
fixes. FOLDER holds `blur` and `sharp` with files of equal names. PSNR in dB of 8-bit RGB. Results
go to results.json; a run that was interrupted goes on where it stopped, unless the weights have
changed.
"""

import argparse
import hashlib
import json
import time
import zlib
from pathlib import Path

import numpy as np
import pyvips
import torch
from camera import Shot, draw, take
from sources import held_out
from torch import nn
from weights import FILE, TRAIN_SIZE, fresh_network, write_atomically

import glocal
from glocal.metrics import psnr

RESULTS = Path(__file__).resolve().parent / "results.json"
WINDOW_SCALE = 1.5
ROWS = {
    "clean": (),
    "JPEG q75": ("jpeg",),
    "noise": ("noise",),
    "blur": ("blur",),
    "all": ("blur", "noise", "jpeg"),
}
WAYS = ("degraded", "full image", f"TLC {WINDOW_SCALE:g}x")


def network_of(weights: Path) -> nn.Module:
    """The network of exported weights, or the averaged one of a checkpoint."""
    if weights.suffix != ".pt":
        return glocal.load(weights)
    network = fresh_network()
    network.load_state_dict(torch.load(weights, weights_only=True)["average"])
    return network.eval()


def degraded_for(row: str, name: str, sharp: np.ndarray) -> np.ndarray:
    """A held-out photograph as a row wants it."""
    rng = np.random.default_rng(zlib.crc32(f"{row} {name}".encode()))
    shot = Shot(quality=75, subsampled=True) if row == "JPEG q75" else draw(ROWS[row], rng)
    return take(sharp, shot, rng)


def compare(networks: list[nn.Module], degraded: np.ndarray, sharp: np.ndarray) -> list[float]:
    """PSNR of the degraded image, and of what each network makes of it; capped for equal ones."""
    images = [degraded, *(glocal.restore(network, degraded) for network in networks)]
    return [round(min(99.0, psnr(image, sharp)), 4) for image in images]


def read(path: Path) -> np.ndarray:
    """The (h, w, 3) pixels of a file."""
    pixels = pyvips.Image.new_from_file(path).colourspace("srgb").numpy()[..., :3]
    return np.ascontiguousarray(pixels)


def table(psnr_db: dict[str, dict[str, list[float]]]) -> str:
    """The means by row, with the gain of TLC in the mean and where it is least."""
    lines = [
        "| row | " + " | ".join(WAYS) + " | gain of TLC | least gain |",
        "|---|" + "---|" * (len(WAYS) + 2),
    ]
    for row, photographs in psnr_db.items():
        values = np.array(list(photographs.values()))
        gains = values[:, 2] - values[:, 0]
        # against itself a clean photograph has no finite figure: what stays is what counts
        gain = "–  | –" if row == "clean" else f"{gains.mean():+.2f} | {gains.min():+.2f}"
        means = " | ".join(f"{mean:.2f}" for mean in values.mean(0))
        lines.append(f"| {row} | {means} | {gain} |")
    if "clean" in psnr_db:
        least = min(values[2] for values in psnr_db["clean"].values())
        lines.append(f"\nclean, the least with TLC: {least:.2f} dB")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="PSNR by degradation on held-out photographs")
    parser.add_argument("--weights", type=Path, default=FILE)
    parser.add_argument("--pairs", type=Path, help="folder of real pairs")
    parser.add_argument("--photos", type=int, default=None, help="only the first N")
    parser.add_argument("--side", type=int, default=768, help="of the middles, in pixels")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    began = time.monotonic()
    digest = hashlib.sha256(arguments.weights.read_bytes()).hexdigest()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if (results.get("weights_sha256"), results.get("side")) != (digest, arguments.side):
        results = {"weights_sha256": digest, "side": arguments.side, "ways": WAYS, "psnr_db": {}}
    network = network_of(arguments.weights)
    networks = [network, glocal.localize(network, TRAIN_SIZE, window_scale=WINDOW_SCALE)]

    def measure(row: str, name: str, degraded: np.ndarray, sharp: np.ndarray) -> None:
        results["psnr_db"].setdefault(row, {})[name] = compare(networks, degraded, sharp)
        write_atomically(arguments.out, (json.dumps(results, indent=1) + "\n").encode())

    if arguments.pairs:
        for path in sorted((arguments.pairs / "blur").iterdir()):
            if path.stem not in results["psnr_db"].get("real pairs", {}):
                measure(
                    "real pairs", path.stem, read(path), read(arguments.pairs / "sharp" / path.name)
                )
    for name, sharp in list(held_out(arguments.side).items())[: arguments.photos]:
        for row in ROWS:
            if name not in results["psnr_db"].get(row, {}):
                measure(row, name, degraded_for(row, name, sharp), sharp)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(table(results["psnr_db"]))


if __name__ == "__main__":
    main()
