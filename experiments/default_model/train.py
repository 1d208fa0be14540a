"""Train the default model; resumable, seeded, with an exponential average of the weights.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 \
        python experiments/default_model/train.py --minutes 80

Every crop is cut from a whole photograph that was degraded beforehand (degrade.py), so a crop of
64 px sees nearly one level of degradation where a photograph holds many. The learning rate
follows a cosine over the budget, which is a time (`--minutes`) or a number of steps (`--steps`,
which repeats a run whatever the speed of the machine). A run that was interrupted goes on from
its checkpoint when the same command is given again.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from data import CACHE, load, photographs
from degrade import Photo, degrade
from torch import Tensor

from glocal.networks.nafnet import NAFNet

HYPERPARAMETERS = {
    "img_channel": 3,
    "width": 16,
    "middle_blk_num": 1,
    "enc_blk_nums": [1, 1, 2],
    "dec_blk_nums": [1, 1, 1],
}
TRAIN_SIZE = 64
BATCH = 8
LEARNING_RATE = (1e-3, 1e-6)
EMA_DECAY = 0.999
MSE_FLOOR = 1e-4
VARIANTS = 2
REFRESH_STEPS = 300
CHECKPOINT_SECONDS = 180
LOG_SECONDS = 30
SEED = 20220711


class Crops:
    """Training crops: `VARIANTS` degraded versions a photograph, renewed one after the other."""

    def __init__(self, seed: int, step: int) -> None:
        self.seed = seed
        self.sharp: list[Photo] = [load(photo) for photo in photographs("train")]
        self.degraded: list[list[Photo]] = []
        for index in range(len(self.sharp)):
            self.degraded.append([self._version(index, slot, step) for slot in range(VARIANTS)])

    def _version(self, index: int, slot: int, step: int) -> Photo:
        """The version that a slot holds at a step."""
        place = slot * len(self.sharp) + index
        renewals = step // REFRESH_STEPS
        slots = len(self.sharp) * VARIANTS
        generation = (renewals - place + slots - 1) // slots
        seed = (self.seed * 1009 + generation * slots + place) % 2**31
        return degrade(self.sharp[index], seed)

    def renew(self, step: int) -> None:
        """Replace the version whose turn it is at a step that REFRESH_STEPS divides."""
        slots = len(self.sharp) * VARIANTS
        place = (step // REFRESH_STEPS - 1) % slots
        slot, index = divmod(place, len(self.sharp))
        self.degraded[index][slot] = self._version(index, slot, step)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """(degraded, target), each (BATCH, 3, TRAIN_SIZE, TRAIN_SIZE) in [0, 1]."""
        random = np.random.default_rng((self.seed, step))
        pairs = [self._crop(random) for _ in range(BATCH)]
        stacked = torch.from_numpy(np.stack(pairs)).permute(1, 0, 4, 2, 3).float() / 255
        return stacked[0], stacked[1]

    def _crop(self, random: np.random.Generator) -> Photo:
        """One pair (2, size, size, 3); of two places the one with more detail, half the time."""
        index = int(random.integers(len(self.sharp)))
        sharp = self.sharp[index]
        choices = 2 if random.random() < 0.5 else 1
        best, most = (0, 0), -1.0
        for _ in range(choices):
            y, x = (int(random.integers(n - TRAIN_SIZE + 1)) for n in sharp.shape[:2])
            detail = float(sharp[y : y + TRAIN_SIZE, x : x + TRAIN_SIZE, 1].std())
            if detail > most:
                best, most = (y, x), detail
        y, x = best
        area = np.s_[y : y + TRAIN_SIZE, x : x + TRAIN_SIZE]
        degraded = self.degraded[index][int(random.integers(VARIANTS))]
        pair = np.stack([degraded[area], sharp[area]])
        if random.random() < 0.5:
            pair = pair[:, :, ::-1]
        return np.rot90(pair, int(random.integers(4)), axes=(1, 2))


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean over the crops of 10 log10(mse + floor): the floor keeps flat crops from ruling."""
    mse = (restored - target).square().mean((1, 2, 3))
    return 10 * torch.log10(mse + MSE_FLOOR).mean()


def save(state: dict[str, object], path: Path) -> None:
    """Write a checkpoint beside its place, then rename it."""
    temporary = path.with_suffix(".partial")
    torch.save(state, temporary)
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="train the default model")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--steps", type=int, default=0, help="budget in steps, if above 0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile: same mathematics")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--out", type=Path, default=CACHE / "checkpoint.pt")
    arguments = parser.parse_args()
    if not arguments.steps and math.isinf(arguments.minutes):
        parser.error("give --minutes or --steps")
    torch.set_flush_denormal(True)  # gates start at zero: denormals made a step 20 times slower
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    network = NAFNet(**HYPERPARAMETERS)
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    network = network.to(memory_format=layout)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    high, low = LEARNING_RATE
    optimizer = torch.optim.AdamW(network.parameters(), high, betas=(0.9, 0.9), weight_decay=0)
    step, spent_s = 0, 0.0
    if arguments.out.exists():
        state = torch.load(arguments.out, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average, step, spent_s = state["average"], state["step"], state["spent_s"]
        print(f"resumed at step {step}, {spent_s / 60:.1f} min", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    crops = Crops(SEED, step)
    print(f"{len(crops.sharp)} photographs ready", flush=True)
    forward = torch.compile(network) if arguments.compile else network

    budget_s = arguments.minutes * 60
    started = time.monotonic() - spent_s
    saved = logged = time.monotonic()
    logged_step, gains = step, []
    progress = 0.0
    while progress < 1:
        spent_s = time.monotonic() - started
        progress = step / arguments.steps if arguments.steps else spent_s / budget_s
        progress = min(progress, 1.0)
        rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 200)
        degraded, target = crops.batch(step)
        degraded = degraded.contiguous(memory_format=layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
            restored = forward(degraded)
        loss = psnr_loss(restored.float(), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        step += 1
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        with torch.no_grad():
            values = [value.detach() for value in network.state_dict().values()]
            torch._foreach_lerp_(list(average.values()), values, 1 - decay)
            before = psnr_loss(degraded, target)
        gains.append(float(before - loss.detach()))
        if step % REFRESH_STEPS == 0:
            crops.renew(step)
        now = time.monotonic()
        if now - logged > LOG_SECONDS:
            speed = (step - logged_step) / (now - logged)
            left_s = (
                (arguments.steps - step) / speed if arguments.steps else budget_s - now + started
            )
            print(
                f"step {step}  {speed:.2f} steps/s  gain {np.mean(gains):.3f} dB  "
                f"rate {rate:.2e}  {left_s / 60:.1f} min left",
                flush=True,
            )
            logged, logged_step, gains = now, step, []
        if now - saved > CHECKPOINT_SECONDS or progress >= 1:
            saved = now
            state = {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
                "spent_s": now - started,
            }
            save(state, arguments.out)
    print(f"done: {step} steps, {spent_s / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
