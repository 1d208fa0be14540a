"""The network, and the file of its averaged weights from which training can also go on.

python experiments/photograph_model/weights.py export
"""

import argparse
import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from sources import CACHE
from torch import Tensor

from glocal.networks.nafnet import NAFNet

HYPERPARAMETERS = {
    "img_channel": 3,
    "width": 16,
    "middle_blk_num": 1,
    "enc_blk_nums": [1, 2, 3, 3],
    "dec_blk_nums": [1, 1, 1, 1],
}
TRAIN_SIZE = 128
NAME = "nafnet-photograph"
# Moved to src/glocal/weights when the training is finished: what lies there is offered to users.
FILE = Path(__file__).resolve().parent / f"{NAME}.safetensors"
CHECKPOINT = CACHE / "checkpoint.pt"
COUNTERS = ("step", "crops", "spent_s", "cpu_s")
"""Counters of a checkpoint: steps, crops, seconds of wall time and of all cores."""


def fresh_network() -> NAFNet:
    """The network before training: the identity, so that a sharp photograph starts unharmed."""
    network = NAFNet(**HYPERPARAMETERS)
    torch.nn.init.zeros_(network.ending.weight)
    torch.nn.init.zeros_(network.ending.bias)
    return network


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the place, then rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def serialise(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file with the metadata in the order given: safetensors' own order is random."""
    data = save(tensors, metadata)
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
    entries = json.loads(header)
    ordered = json.dumps({**entries, "__metadata__": metadata}, separators=(",", ":"))
    return data[:8] + ordered.encode().ljust(len(header)) + data[8 + len(header) :]


def export(checkpoint: Path = CHECKPOINT, out: Path = FILE) -> None:
    """Write the averaged weights of a checkpoint in half precision."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    metadata = {
        "task": "camera shake, noise and JPEG compression of photographs",
        "architecture": "NAFNet",
        "licence": "MIT",
        "card": f"{NAME}.md",
        "name": NAME,
        "hyperparameters": json.dumps(HYPERPARAMETERS),
        "train_size": str(TRAIN_SIZE),
        **{counter: f"{state[counter]:.0f}" for counter in COUNTERS},
    }
    halves = {name: value.half().contiguous() for name, value in state["average"].items()}
    write_atomically(out, serialise(halves, metadata))
    print(f"{out}: step {state['step']}, {out.stat().st_size / 1e6:.2f} MB")


def exported(path: Path = FILE) -> dict[str, object]:
    """The averaged weights and the counters of an exported file."""
    with safe_open(path, "pt") as file:
        average = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return {"average": average, **{counter: int(metadata[counter]) for counter in COUNTERS}}


def latest(checkpoint: Path = CHECKPOINT, file: Path = FILE) -> dict[str, object] | None:
    """The state that has seen the most crops: of the checkpoint, or of the exported file."""
    states = []
    if checkpoint.exists():
        states.append(torch.load(checkpoint, weights_only=True, map_location="cpu"))
    if file.exists():
        states.append(exported(file))
    return max(states, key=lambda state: state["crops"], default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="put the averaged weights into the package")
    commands = parser.add_subparsers(required=True)
    exporting = commands.add_parser("export")
    exporting.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    exporting.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.out)


if __name__ == "__main__":
    main()
