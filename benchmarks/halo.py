"""Required halo of a tile: tiled against untiled results of converted networks.

    python benchmarks/halo.py                                    # embedded and stored networks
    python benchmarks/halo.py --network nafnet-motion-blur --photo examples/handshake.jpg
    python benchmarks/halo.py --network deblur-restormer-crop64-seed0 --halo 0.5 1 2

Each photograph is restored as a whole and in tiles with cores of at most 256 pixels, so that tile
borders fall on many kinds of content. Figures are the largest difference at any pixel in 8-bit
levels (the bound is 1), by halo in windows; "measured" is the halo that `glocal.restore` chooses.
Stored networks and photographs are those of experiments/replication.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import glocal
from glocal.images import image_files as images
from glocal.inference.geometry import ALIGN
from glocal.inference.measure import measure
from glocal.inference.plan import BOUND, Reach, TilePlan
from glocal.inference.run import TiledImage, run
from glocal.inference.runner import ModelRunner
from glocal.networks import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = "nafnet-motion-blur"
CORE = 256


def stored() -> list[str]:
    """Names of the replication networks with stored weights."""
    folder = ROOT / "experiments" / "replication" / "weights"
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def case(name: str, photos: list[Path]) -> tuple[torch.nn.Module, Iterator[tuple[str, np.ndarray]]]:
    """A converted network and degraded photographs of its task."""
    given = ((path.stem, images.read(path).pixels) for path in photos)
    if name not in stored():
        loaded = load_checkpoint(name)
        assert loaded.train_size is not None
        if not photos:
            given = iter([("handshake", images.read(ROOT / "examples/handshake.jpg").pixels)])
        return glocal.localize(loaded.network, loaded.train_size), given
    sys.path.append(str(ROOT / "experiments" / "replication"))
    import evaluate
    from jobs import JOBS, trained

    job = next(job for job in JOBS if job.name == name)
    own = ((n, evaluate.pair(job.task, n)[1]) for n in evaluate.names("held-out"))
    return glocal.localize(trained(job), job.crop), given if photos else own


@torch.inference_mode()
def errors(
    runner: ModelRunner, image: TiledImage, reach: Reach, whole: Tensor, halos: list[int]
) -> Iterator[float]:
    """Largest difference from the whole-image result, by halo."""
    for halo in halos:
        side = CORE + 2 * -(-halo // ALIGN) * ALIGN
        worst = 0.0
        plan = TilePlan(image.size, (side, side), halo, resolutions=reach.resolutions)
        for _, tile, core, scale in run(plan, runner, image):
            worst = max(worst, float((core - whole[..., *tile.core(scale)]).abs().max()))
        yield worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", nargs="*", default=[EMBEDDED, *stored()])
    parser.add_argument("--photo", nargs="*", type=Path, default=[])
    parser.add_argument("--photos", type=int, default=2, help="only the first N")
    parser.add_argument("--halo", nargs="*", type=float, default=[2 / 3, 4 / 3, 2, 8 / 3])
    parser.add_argument(
        "--longest", type=int, default=1280, help="crop photographs to this longer side"
    )
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    heads = [f"{halo:.2g}" for halo in arguments.halo]
    print("| network | photograph |", *(f"{head} |" for head in heads), "measured halo | error |")
    print("|---|---|", *("---|" for _ in heads), "---|---|")
    for name in arguments.network:
        local, photographs = case(name, arguments.photo)
        window = glocal.plan_of(local).window
        for index, (photo, pixels) in enumerate(photographs):
            if index == arguments.photos:
                break
            cut = np.ascontiguousarray(pixels[: arguments.longest, : arguments.longest])
            image = torch.from_numpy(cut).permute(2, 0, 1)[None]

            def part(rows: slice, columns: slice, image: Tensor = image) -> Tensor:
                return image[..., rows, columns]

            runner = ModelRunner(local, torch.float32, torch.device("cpu"))
            tiled = TiledImage(part, (image.shape[-2], image.shape[-1]))
            with torch.inference_mode():
                reach = measure(runner, tiled, window)
                assert reach.halo is not None
                whole, _ = runner(image.float() / 255)
            halos = [round(halo * max(window)) for halo in arguments.halo]
            found = errors(runner, tiled, reach, whole, [*halos, reach.halo])
            row = [error / BOUND for error in found]
            print(
                f"| {name} | {photo} |",
                *(f"{error:.2f} |" for error in row[:-1]),
                f"{reach.halo} px = {reach.halo / max(window):.2g} | {row[-1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
