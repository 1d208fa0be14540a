"""A process of limited memory that reads many files, one for each line of its input.

A line is a JSON list: what to do ("image", "judge" or "checkpoint"), a path, and for images the
path of a file for the pixels. The answer is an object with `status` and what was found.
"""

import json
import os
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 12 * 2**30
"""Most bytes of addresses of a child; libraries that are loaded take up to five of them."""


def peak(*, reset: bool = False) -> int:
    """Most resident bytes since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    wanted = "VmRSS:" if reset else "VmHWM:"
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(wanted))


def image(path: str, pixels: str) -> dict[str, Any]:
    from glocal.images.image_files import read

    found = read(path)
    np.save(pixels, found.pixels)
    return {"status": "accepted", "size": found.size}


def judge(path: str, pixels: str) -> dict[str, Any]:
    from judge import agree, decoded

    suffix = Path(path).suffix[1:]
    try:
        others = decoded(Path(path).read_bytes(), suffix)
    except Exception as error:  # decoders have errors of their own
        return {"status": "judge refuses", "message": repr(error)[:200]}
    equal = None if others is None else agree(np.load(pixels), others, suffix)
    return {"status": {True: "equal", False: "different", None: "no judge"}[equal]}


def checkpoint(path: str, _: str = "") -> dict[str, Any]:
    from glocal.inference.settings import Settings
    from glocal.networks import load_checkpoint
    from glocal.scanning.plan import Plan

    file = Path(path)
    if file.name.startswith("settings"):
        Settings.read(file)
    elif file.name.startswith("plan"):
        Plan.from_json(file.read_text(errors="replace"))
    else:
        network = load_checkpoint(path).network
        assert all(bool(p.isfinite().all()) for p in network.parameters())
    return {"status": "accepted"}


DEEDS: dict[str, Callable[..., dict[str, Any]]] = {
    "image": image, "judge": judge, "checkpoint": checkpoint,
}  # fmt: skip


def answer(deed: str, *arguments: str) -> dict[str, Any]:
    from glocal.errors import GlocalError

    before = peak(reset=True)
    try:
        found = DEEDS[deed](*arguments)
    except (GlocalError, MemoryError) as error:  # a shortage is said before it happens
        found = {"status": "refused", "message": str(error)}
    except BaseException:
        found = {"status": "crash", "message": traceback.format_exc()[-2000:]}
    return {**found, "bytes": peak() - before}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print too
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), file=replies, flush=True)


if __name__ == "__main__":
    main()
