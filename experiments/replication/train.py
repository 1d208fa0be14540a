"""Train the networks of `jobs.py` one after the other; resumable, seeded, on the CPU.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 \
        python experiments/replication/train.py [--only NAME] [--list]

Jobs with stored weights are skipped; an interrupted one resumes from its checkpoint
in .cache/replication. All photographs of a task are degraded once, as a whole, in two
versions each, and held in memory (and in .cache/replication); crops are cut from them at random.
"""

import argparse
import math
import os
import time

import numpy as np
import torch
from jobs import JOBS, STEPS, Job, make, store
from photos import CACHE, Photo, names, read
from tasks import TASKS, seed_of
from torch import Tensor

VERSIONS = 2
LEARNING_RATE = (1e-3, 1e-6)
WARM_UP_STEPS = 200
EMA_DECAY = 0.998
MSE_FLOOR = 1e-4
CHECKPOINT_SECONDS = 180
LOG_SECONDS = 30


class Photographs:
    """The training photographs and their degraded versions, one task at a time."""

    def __init__(self) -> None:
        self.task = ""
        self.sharp: list[Photo] = [read(name) for name in names("train")]
        self.degraded: list[list[Photo]] = []

    def of(self, task: str) -> "Photographs":
        """Make the missing versions of a task."""
        if task != self.task:
            self.task = task
            self.degraded = [
                [_version(task, name, sharp, 1 + v) for v in range(VERSIONS)]
                for sharp, name in zip(self.sharp, names("train"), strict=True)
            ]
            print(f"{task}: photographs ready", flush=True)
        return self

    def batch(self, job: Job, step: int) -> tuple[Tensor, Tensor]:
        """(degraded, target) of a step, each (b, 3, crop, crop) in [0, 1]."""
        random = np.random.default_rng((job.seed, step))
        pairs = np.stack([self._crop(job.crop, random) for _ in range(job.batch)])
        stacked = torch.from_numpy(pairs).permute(1, 0, 4, 2, 3).float() / 255
        return stacked[0], stacked[1]

    def _crop(self, size: int, random: np.random.Generator) -> Photo:
        """One pair (2, size, size, 3); of two places the one with more detail, half the time."""
        index = int(random.integers(len(self.sharp)))
        sharp = self.sharp[index]
        best, most = np.s_[:0, :0], -1.0
        for _ in range(2 if random.random() < 0.5 else 1):
            y, x = (int(random.integers(n - size + 1)) for n in sharp.shape[:2])
            area = np.s_[y : y + size, x : x + size]
            detail = float(sharp[area][..., 1].std())
            if detail > most:
                best, most = area, detail
        pair = np.stack([self.degraded[index][int(random.integers(VERSIONS))][best], sharp[best]])
        if random.random() < 0.5:
            pair = pair[:, :, ::-1]
        return np.rot90(pair, int(random.integers(4)), axes=(1, 2))


def _version(task: str, name: str, sharp: Photo, version: int) -> Photo:
    """A degraded version of a training photograph, from the cache if it is there."""
    path = CACHE / f"{task}-{name}-{version}.npy"
    if not path.exists():
        temporary = path.with_suffix(".partial.npy")
        np.save(temporary, TASKS[task](sharp, seed_of(task, name, version)))
        os.replace(temporary, path)
    return np.load(path)


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean over the crops of 10 log10(mse + floor): the floor limits the weight of flat crops."""
    mse = (restored - target).square().mean((1, 2, 3))
    return 10 * torch.log10(mse + MSE_FLOOR).mean()


def rate(step: int) -> float:
    """The learning rate: linear warm-up, then a cosine over all steps."""
    high, low = LEARNING_RATE
    cosine = low + (high - low) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    return cosine * min(1.0, (step + 1) / WARM_UP_STEPS)


def train(job: Job, photographs: Photographs, compiled: bool) -> None:
    """Run one job to its end and store the average of its weights."""
    torch.manual_seed(job.seed)
    network = make(job.network).train().to(memory_format=torch.channels_last)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.9), weight_decay=0)
    checkpoint = CACHE / f"{job.name}.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
        print(f"{job.name}: resumed at step {start}", flush=True)
    forward = torch.compile(network) if compiled else network
    began = saved = logged = time.monotonic()
    logged_step, gains = start, []
    for step in range(start, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        degraded, target = (
            crops.contiguous(memory_format=torch.channels_last)
            for crops in photographs.batch(job, step)
        )
        outputs = forward(degraded)
        stages = outputs if isinstance(outputs, list) else [outputs]
        losses = [psnr_loss(stage, target) for stage in stages]
        optimizer.zero_grad()
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.values()), list(network.state_dict().values()), 1 - decay
            )
            gains.append(float(psnr_loss(degraded, target) - losses[-1]))
        now, done = time.monotonic(), step + 1
        if now - logged > LOG_SECONDS or done == STEPS:
            speed = (done - logged_step) / (now - logged)
            print(
                f"{job.name}: step {done}  {speed:.2f} steps/s  gain {np.mean(gains):.3f} dB",
                flush=True,
            )
            logged, logged_step, gains = now, done, []
        if now - saved > CHECKPOINT_SECONDS:
            saved = now
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": done,
            }
            temporary = checkpoint.with_suffix(".partial")
            torch.save(state, temporary)
            os.replace(temporary, checkpoint)
    store(job, average, STEPS)
    checkpoint.unlink(missing_ok=True)
    print(f"{job.name}: stored after {(time.monotonic() - began) / 60:.1f} min", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="the name of one job")
    parser.add_argument("--list", action="store_true", help="list finished and remaining jobs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eager", action="store_true", help="run without torch.compile (slower)")
    arguments = parser.parse_args()
    if arguments.list:
        for job in JOBS:
            print(f"{'stored' if job.path.exists() else 'to do '}  {job.name}")
        return
    torch.set_flush_denormal(True)  # gates start at zero, and denormals slow the first steps down
    torch.set_num_threads(arguments.threads)
    CACHE.mkdir(parents=True, exist_ok=True)
    chosen = [job for job in JOBS if arguments.only in (None, job.name) and not job.path.exists()]
    if not chosen:
        return
    photographs = Photographs()
    print(f"{len(photographs.sharp)} photographs read", flush=True)
    for job in chosen:
        train(job, photographs.of(job.task), compiled=not arguments.eager)
        torch._dynamo.reset()


if __name__ == "__main__":
    main()
