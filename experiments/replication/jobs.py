"""Training jobs: one per network, in order of priority, with one budget."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glocal.networks import HINet, NAFNet, Restormer

WEIGHTS = Path(__file__).resolve().parent / "weights"
STEPS = 3600
PIXELS_A_STEP = 8 * 64 * 64

NETWORKS = {
    "nafnet": (
        NAFNet,
        {
            "width": 16,
            "middle_blk_num": 1,
            "enc_blk_nums": [1, 1, 2],
            "dec_blk_nums": [1, 1, 1],
        },
    ),
    "hinet": (HINet, {"wf": 8, "depth": 4}),
    "restormer": (
        Restormer,
        {"dim": 8, "num_blocks": [1, 1, 1, 2], "num_refinement_blocks": 1},
    ),
}
MECHANISMS = {
    "nafnet": "channel attention (average pool)",
    "hinet": "instance norm (half of the channels)",
    "restormer": "transposed attention",
}


@dataclass(frozen=True)
class Job:
    """One training: every step sees 8·64·64 pixels, cut into crops of `crop` × `crop`."""

    task: str
    network: str
    crop: int
    seed: int

    @property
    def name(self) -> str:
        """The name of the job's files."""
        return f"{self.task}-{self.network}-crop{self.crop}-seed{self.seed}"

    @property
    def batch(self) -> int:
        """Crops per step."""
        return PIXELS_A_STEP // self.crop**2

    @property
    def path(self) -> Path:
        """Path of the stored weights."""
        return WEIGHTS / f"{self.name}.safetensors"


JOBS = (
    *(Job(task, n, 64, seed) for task in ("dehaze", "deblur") for seed in (0, 1) for n in NETWORKS),
    *(Job("denoise", "nafnet", 64, seed) for seed in (0, 1)),
    *(Job("dehaze", "nafnet", crop, seed) for seed in (0, 1) for crop in (32, 128)),
)


def make(network: str) -> nn.Module:
    """The network with initial weights."""
    build, hyperparameters = NETWORKS[network]
    return build(**hyperparameters)


def store(job: Job, tensors: dict[str, Tensor], steps: int) -> None:
    """Write weights as float16, with the job as metadata."""
    facts = {"job": job.name, "steps": steps, "hyperparameters": NETWORKS[job.network][1]}
    halves = {name: value.half().contiguous() for name, value in tensors.items()}
    temporary = job.path.with_suffix(".partial")
    save_file(halves, temporary, {"replication": json.dumps(facts, sort_keys=True)})
    temporary.chmod(0o644)
    temporary.rename(job.path)


def trained(job: Job) -> nn.Module:
    """The network of a job from its stored weights, in float32 and eval mode."""
    network = make(job.network)
    network.load_state_dict({k: v.float() for k, v in load_file(job.path).items()})
    return network.eval().requires_grad_(False)


def finished() -> list[Job]:
    """The jobs whose weights are stored."""
    return [job for job in JOBS if job.path.exists()]


def parameters(network: str) -> int:
    """Number of parameters of a network."""
    with torch.device("meta"):
        return sum(p.numel() for p in make(network).parameters())
