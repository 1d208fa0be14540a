"""Restore a photograph of 100 megapixels: memory, time, resuming after an interruption.

    python benchmarks/big.py                              # 12000x8400, at most 8 GB
    python benchmarks/big.py --interrupt-after 5          # Ctrl-C after five tiles, then resume
    python benchmarks/big.py --size 6000x4000 --memory 4GB --model NETWORK [--train-size 256]

The photograph is a mosaic of `--photo`, mirrored between cells so that it has no seams. Each run
prints wall time, processor time, and the peak resident size that Linux reports.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyvips

ROOT = Path(__file__).resolve().parents[1]
INTERRUPTED = 130


def mosaic(photo: Path, width: int, height: int, target: Path) -> None:
    """Write a mosaic of mirrored copies of a small photograph."""
    cell = pyvips.Image.new_from_file(str(photo)).copy_memory()
    pair = cell.join(cell.fliphor(), "horizontal")
    four = pair.join(pair.flipver(), "vertical")
    across, down = -(-width // four.width), -(-height // four.height)
    four.replicate(across, down).crop(0, 0, width, height).write_to_file(str(target), Q=92)


def run(command: list[str], tiles: Path, interrupt_after: int = 0) -> int:
    """Run a command, or interrupt it after some tiles; print its time and memory.

    Returns:
        The exit status.
    """
    started = time.monotonic()
    pid = subprocess.Popen(command).pid
    ended, pressed = 0, not interrupt_after
    while not ended:
        # Popen.wait does not report resource usage
        ended, status, usage = os.wait4(pid, 0 if pressed else os.WNOHANG)
        if not pressed and tiles.exists() and tiles.read_text().count('{"tile"') >= interrupt_after:
            os.kill(pid, signal.SIGINT)
            pressed = True
        time.sleep(0 if ended else 0.1)
    code = os.waitstatus_to_exitcode(status)
    print(
        f"exit {code}, {time.monotonic() - started:.0f} s, "
        f"processor {usage.ru_utime + usage.ru_stime:.0f} s, "
        f"largest resident size {usage.ru_maxrss / 1024:.0f} MiB",
        flush=True,
    )
    return code


def main() -> None:
    """Make the photograph and restore it."""
    # A background shell ignores SIGINT, and child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="12000x8400", help="width x height in pixels")
    parser.add_argument("--memory", default="8GB")
    parser.add_argument("--photo", type=Path, default=ROOT / "examples" / "handshake.jpg")
    parser.add_argument("--suffix", default="jpg", help="format of both files: jpg, png, tif")
    parser.add_argument("--interrupt-after", type=int, default=0, metavar="TILES")
    parser.add_argument(
        "--folder", type=Path, help="folder for the files (default: a temporary one)"
    )
    arguments, others = parser.parse_known_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        source, target = (folder / f"{n}.{arguments.suffix}" for n in ("photo", "restored"))
        mosaic(arguments.photo, width, height, source)
        command = [
            str(Path(sys.executable).with_name("glocal")),
            "restore",
            str(source),
            str(target),
        ]
        command += ["--memory", arguments.memory, *others]
        tiles = folder / f".{target.name}.part" / "tiles.jsonl"
        if run(command, tiles, arguments.interrupt_after) == INTERRUPTED:
            run(command, tiles)
        print(f"{target.stat().st_size / 2**20:.1f} MiB written")


if __name__ == "__main__":
    main()
