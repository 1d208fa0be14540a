"""Train the model for photographs; resumable, with an exponential average of the weights.

    experiments/photograph_model/job.sh start        # or, by hand:
    python experiments/photograph_model/train.py --hours-total 20

The learning rate follows a cosine over a number of crops. `--hours-total` gives that number as
hours of two cores (`CROPS_PER_HOUR`), so one schedule spans sessions on machines of any speed. A
run goes on from its checkpoint, or from the exported weights where these have seen more crops.
SIGTERM writes a checkpoint and ends the run.
"""

import argparse
import contextlib
import io
import math
import signal
import time
from pathlib import Path

import torch
from crops import Crops
from sources import training_photographs
from torch import Tensor
from weights import CHECKPOINT, FILE, TRAIN_SIZE, fresh_network, latest, write_atomically

CROPS_PER_HOUR = 60_000
"""About the speed of two idle Xeon cores with AVX-512."""
BATCH = 8
LEARNING_RATE = (1e-3, 1e-6)
WARM_UP_STEPS = 300
EMA_DECAY = 0.999
FLOOR_DB = 70.0
RENEW_CROPS = 160
SLOTS = 64
CHECKPOINT_SECONDS = 180
LOG_SECONDS = 60
SEED = 20261130


def psnr_loss(restored: Tensor, target: Tensor) -> Tensor:
    """Mean over the crops of 10 log10(mse + floor).

    In decibels a sharp crop counts as much as a blurred one. The floor ends the pull on crops
    that are as good as equal. It lies above the 65 dB of a JPEG file of a clear sky: with a
    floor of 50 dB the network learned to make such files worse.
    """
    mse = (restored - target).square().mean((1, 2, 3))
    return 10 * torch.log10(mse + 10 ** (-FLOOR_DB / 10)).mean()


def save(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description="train the model for photographs")
    parser.add_argument("--hours-total", type=float, default=20.0, help="of two cores, in all")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of this session")
    parser.add_argument("--steps", type=int, default=math.inf, help="of this session")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that degrade")
    parser.add_argument("--slots", type=int, default=SLOTS, help="degraded parts in memory")
    parser.add_argument("--pack", type=Path, help="photographs packed by sources.py")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--weights", type=Path, default=FILE, help="exported, to go on from")
    arguments = parser.parse_args()

    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    torch.set_flush_denormal(True)  # gates start at zero: denormals made a step 20 times slower
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    device = torch.device(arguments.device)
    cuda = device.type == "cuda"
    if cuda:
        torch.backends.cudnn.benchmark = True
    network = fresh_network().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), LEARNING_RATE[0], betas=(0.9, 0.9), weight_decay=0, fused=True
    )
    step, seen, spent_s, cpu_s = 0, 0, 0.0, 0.0
    state = latest(arguments.checkpoint, arguments.weights)
    if state is not None:
        network.load_state_dict(state.get("network", state["average"]))
        step, seen = state["step"], state["crops"]
        spent_s, cpu_s = state["spent_s"], state["cpu_s"]
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        else:
            print("no optimizer state: warming up again", flush=True)
        print(f"resumed at step {step}, {seen} crops", flush=True)
    cold_step = state["step"] if state is not None and "optimizer" not in state else 0
    if state is not None:
        cold_step = state.get("cold_step", cold_step)
    start = state["average"] if state is not None else network.state_dict()
    # in the order and with the strides of the network: both are updated as lists
    average = {
        name: torch.empty_like(value).copy_(start[name])
        for name, value in network.state_dict().items()
    }
    total = arguments.hours_total * CROPS_PER_HOUR
    ready = time.monotonic()
    crops = Crops(
        training_photographs(arguments.pack),
        SEED,
        seen // RENEW_CROPS,
        arguments.slots,
        arguments.workers,
    )
    print(f"{arguments.slots} parts ready in {time.monotonic() - ready:.0f} s", flush=True)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    forward = torch.compile(network) if arguments.compile else network
    high, low = LEARNING_RATE
    high *= min(2.0, math.sqrt(arguments.batch / BATCH))
    decay_limit = EMA_DECAY ** (arguments.batch / BATCH)

    started, cpu_started = time.monotonic() - spent_s, time.process_time() - cpu_s
    session_end = time.monotonic() + 60 * arguments.minutes
    last_step = step + arguments.steps
    saved = logged = time.monotonic()
    logged_seen, gains = seen, []

    def checkpoint() -> None:
        save(
            arguments.checkpoint,
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average,
                "step": step,
                "crops": seen,
                "cold_step": cold_step,
                "spent_s": time.monotonic() - started,
                "cpu_s": time.process_time() - cpu_started,
            },
        )

    while seen < total and step < last_step and time.monotonic() < session_end and not stopped:
        progress = seen / total
        rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
        rate *= min(1.0, (step - cold_step + 1) / WARM_UP_STEPS)
        for group in optimizer.param_groups:
            group["lr"] = rate
        degraded, target = (
            images.to(device, non_blocking=True).float().div_(255)
            for images in crops.batch(step, arguments.batch, TRAIN_SIZE)
        )
        degraded = degraded.contiguous(memory_format=torch.channels_last)
        autocast = (
            torch.autocast(device.type, torch.bfloat16)
            if arguments.bfloat16
            else contextlib.nullcontext()
        )
        with autocast:
            restored = forward(degraded)
        loss = psnr_loss(restored.float(), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        step += 1
        decay = min(decay_limit, (step + 1) / (step + 10))
        with torch.no_grad():
            values = [value.detach() for value in network.state_dict().values()]
            torch._foreach_lerp_(list(average.values()), values, 1 - decay)
            gains.append(psnr_loss(degraded, target) - loss.detach())
        for _ in range((seen + arguments.batch) // RENEW_CROPS - seen // RENEW_CROPS):
            crops.renew()
        seen += arguments.batch
        now = time.monotonic()
        if now - logged > LOG_SECONDS:
            speed = (seen - logged_seen) / (now - logged)
            print(
                f"step {step}  {speed / arguments.batch:.2f} steps/s  "
                f"gain {torch.stack(gains).mean():.3f} dB  rate {rate:.2e}  "
                f"{seen / total:.2%} done, {(total - seen) / speed / 3600:.1f} h left",
                flush=True,
            )
            logged, logged_seen, gains = now, seen, []
        if now - saved > CHECKPOINT_SECONDS:
            saved = now
            checkpoint()
    checkpoint()
    crops.close()
    end = "stopped" if seen < total else "done"
    print(f"{end} at step {step}, {seen} crops, {(time.monotonic() - started) / 3600:.2f} h in all")


if __name__ == "__main__":
    main()
