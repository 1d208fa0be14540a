"""Training crops, cut from parts of photographs that were degraded as a whole beforehand."""

import math
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from camera import MIXTURE, draw, take
from sources import Photo, as_image
from torch import Tensor

SIDE = 1024
"""Side of a part in pixels: large against the random maps, cheap to renew."""
MARGIN = 25
"""Cut off a degraded part: the blur reaches beyond its border, where it finds reflections."""
SMALLEST_SCALE = 0.35
CANDIDATES = 3
SMOOTH = 0.12
"""How often a part is made as smooth as a clear sky; the photographs have few such areas."""
REDUCTIONS = (16.0, 256.0)

Pair = tuple[Photo, Photo]


def detail(pixels: Photo) -> float:
    """Mean difference of neighbours in the green channel, every fourth row."""
    return float(np.abs(np.diff(pixels[::4, :, 1].astype(np.int16), axis=1)).mean())


def cut(photographs: list[Photo], rng: np.random.Generator) -> Photo:
    """A sharp part of some photograph, made smaller or not."""
    photograph = photographs[rng.integers(len(photographs))]
    height, width = photograph.shape[:2]
    scale = rng.uniform(SMALLEST_SCALE, 1.0) if rng.random() < 0.65 else 1.0
    tall, wide = (min(size, round(SIDE / scale)) for size in (height, width))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    sharp = np.ascontiguousarray(photograph[top : top + tall, left : left + wide])
    return as_image(sharp).resize(scale).numpy() if scale < 1 else sharp


def smoothed(sharp: Photo, rng: np.random.Generator) -> Photo:
    """The part without its detail: reduced to a few pixels and enlarged again."""
    height, width = sharp.shape[:2]
    small = as_image(sharp).resize(1 / math.exp(rng.uniform(*np.log(REDUCTIONS))))
    large = small.resize(width / small.width, vscale=height / small.height, kernel="cubic")
    return large.numpy()[:height, :width]


def part(photographs: list[Photo], seed: tuple[int, int]) -> Pair:
    """One (degraded, sharp) part; `seed` decides the photograph and all that happens to it.

    Two of three parts are made smaller beforehand, some are darkened and some exchange their
    colours: there are few photographs. Mostly the part with the most detail of three is taken:
    much of these photographs is out of focus on purpose, and blur shows in detail alone.
    """
    rng = np.random.default_rng(seed)
    count = CANDIDATES if rng.random() < 0.7 else 1
    sharp = max((cut(photographs, rng) for _ in range(count)), key=detail)
    if rng.random() < 0.3:
        sharp = np.rint(sharp * rng.uniform(0.4, 1.0)).astype(np.uint8)
    if rng.random() < 0.3:
        sharp = np.ascontiguousarray(sharp[..., rng.permutation(3)])
    steps = list(MIXTURE)[rng.choice(len(MIXTURE), p=list(MIXTURE.values()))]
    if rng.random() < SMOOTH:
        sharp = smoothed(sharp, rng)
        steps = tuple(step for step in steps if step != "blur")  # it would change nothing
    degraded = take(sharp, draw(steps, rng), rng)
    inner = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.ascontiguousarray(degraded[inner]), np.ascontiguousarray(sharp[inner])


class Crops:
    """`slots` degraded parts, renewed one after the other; workers of their own where there are.

    Without workers a part is made when `renew` asks for it, so that a step of a given number
    always sees the same crops. With workers a part goes in when it is ready.
    """

    def __init__(
        self, photographs: list[Photo], seed: int, generation: int, slots: int, workers: int
    ) -> None:
        self.photographs, self.seed, self.slots = photographs, seed, slots
        self.generation, self.workers = generation, workers
        self.waiting: list[Future[Pair]] = []
        self.executor = None
        if workers:
            self.executor = ProcessPoolExecutor(
                workers, get_context("spawn"), _start_worker, (photographs,)
            )
            futures = [
                self.executor.submit(_work, (seed, k))
                for k in range(generation, generation + slots)
            ]
            self.pairs = [future.result() for future in futures]
        else:
            # slot k holds the newest of the generations that are k modulo the number of slots
            self.pairs = [
                part(photographs, (seed, generation + (k - generation) % slots))
                for k in range(slots)
            ]
        self.generation += slots

    def renew(self) -> None:
        """Put a new part in the place of the oldest."""
        if self.executor is None:
            pair = part(self.photographs, (self.seed, self.generation))
            self.pairs[self.generation % self.slots] = pair
            self.generation += 1
            return
        while len(self.waiting) < 2 * self.workers:
            self.waiting.append(self.executor.submit(_work, (self.seed, self.generation)))
            self.generation += 1
        for future in [future for future in self.waiting if future.done()]:
            self.waiting.remove(future)
            self.pairs.append(future.result())
            del self.pairs[0]

    def batch(self, step: int, count: int, size: int) -> tuple[Tensor, Tensor]:
        """(degraded, target), each (count, 3, size, size) uint8."""
        random = np.random.default_rng((self.seed, 1, step))
        pairs = [self._crop(random, size) for _ in range(count)]
        stacked = torch.from_numpy(np.stack(pairs)).permute(1, 0, 4, 2, 3)
        return stacked[0], stacked[1]

    def close(self) -> None:
        """End the workers."""
        if self.executor is not None:
            self.executor.shutdown(wait=False, cancel_futures=True)

    def _crop(self, random: np.random.Generator, size: int) -> Photo:
        """One pair (2, size, size, 3); of two places the one with more detail, half the time."""
        degraded, sharp = self.pairs[random.integers(len(self.pairs))]
        best, most = (0, 0), -1.0
        for _ in range(2 if random.random() < 0.5 else 1):
            y, x = (int(random.integers(n - size + 1)) for n in sharp.shape[:2])
            found = detail(sharp[y : y + size, x : x + size])
            if found > most:
                best, most = (y, x), found
        y, x = best
        pair = np.stack([image[y : y + size, x : x + size] for image in (degraded, sharp)])
        if random.random() < 0.5:
            pair = pair[:, :, ::-1]
        return np.rot90(pair, int(random.integers(4)), axes=(1, 2))


_photographs: list[Photo] = []


def _start_worker(photographs: list[Photo]) -> None:
    torch.set_num_threads(1)
    _photographs.extend(photographs)


def _work(seed: tuple[int, int]) -> Pair:
    return part(_photographs, seed)
