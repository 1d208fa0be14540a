"""Put the trained weights (their exponential average) into the package.

python experiments/default_model/export.py
"""

import argparse
import json
from pathlib import Path

import torch
from data import CACHE
from safetensors.torch import save_file
from train import HYPERPARAMETERS, TRAIN_SIZE

from glocal.networks import NAFNet

WEIGHTS = Path(__file__).resolve().parents[2] / "src" / "glocal" / "weights"
NAME = "nafnet-motion-blur"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CACHE / "checkpoint.pt")
    arguments = parser.parse_args()
    state = torch.load(arguments.checkpoint, weights_only=True)
    network = NAFNet(**HYPERPARAMETERS)
    network.load_state_dict(state["average"])
    path = WEIGHTS / f"{NAME}.safetensors"
    metadata = {
        "name": NAME,
        "architecture": "NAFNet",
        "hyperparameters": json.dumps(HYPERPARAMETERS),
        "train_size": str(TRAIN_SIZE),
        "task": "motion blur with noise",
        "licence": "MIT",
        "card": f"{NAME}.md",
    }
    save_file(network.state_dict(), path, metadata)
    path.chmod(0o644)  # safetensors writes for the owner alone
    print(f"{path}: {state['step']} steps, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
