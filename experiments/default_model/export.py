"""Put the trained weights (their exponential average) into the package.

python experiments/default_model/export.py
"""

import argparse
import json
from pathlib import Path

import torch
from data import CACHE
from safetensors.torch import save
from train import HYPERPARAMETERS, TRAIN_SIZE

from glocal.networks import NAFNet

WEIGHTS = Path(__file__).resolve().parents[2] / "src" / "glocal" / "weights"
NAME = "nafnet-motion-blur"


def serialise(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file with the metadata in the order given: safetensors' own order is random."""
    data = save(tensors, metadata)
    header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
    entries = json.loads(header)
    ordered = json.dumps({**entries, "__metadata__": metadata}, separators=(",", ":"))
    return data[:8] + ordered.encode().ljust(len(header)) + data[8 + len(header) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CACHE / "checkpoint.pt")
    parser.add_argument("--out", type=Path, default=WEIGHTS / f"{NAME}.safetensors")
    arguments = parser.parse_args()
    state = torch.load(arguments.checkpoint, weights_only=True)
    network = NAFNet(**HYPERPARAMETERS)
    network.load_state_dict(state["average"])
    metadata = {
        "task": "motion blur with noise",
        "architecture": "NAFNet",
        "licence": "MIT",
        "card": f"{NAME}.md",
        "name": NAME,
        "hyperparameters": json.dumps(HYPERPARAMETERS),
        "train_size": str(TRAIN_SIZE),
    }
    arguments.out.write_bytes(serialise(network.state_dict(), metadata))
    megabytes = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {state['step']} steps, {megabytes:.2f} MB")


if __name__ == "__main__":
    main()
