"""Damaged image files: refused in a line, or read as a second decoder reads them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resource", reason="children need limits of POSIX")
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("peak memory is measured on Linux only", allow_module_level=True)

from hostile.campaign import Campaign, Child, numbered
from hostile.mutator import mutated
from hostile.seeds import image_seeds

# A header can promise 2^28 pixels, which are decoded whole as floats.
REFUSED_BYTES = 2**30
BYTES_OF_PIXEL = 64


def run(count: int, folder: Path) -> Campaign:
    seeds = image_seeds()
    names = sorted(seeds)
    campaign = Campaign()
    whole = _decoded(seeds)
    pixels = folder / "pixels.npy"
    with Child() as reader, Child() as second:
        for name, number in numbered(seeds, count):
            other = seeds[names[(names.index(name) + number) % len(names)]]
            data = mutated(seeds[name], other, f"{name}/{number}")
            file = folder / f"a.{name.partition('-')[0]}"
            file.write_bytes(data)
            found = reader.ask("image", str(file), str(pixels))
            height, width = found.get("size", (0, 0))
            most = REFUSED_BYTES + BYTES_OF_PIXEL * height * width
            if not campaign.check(f"{name}-{number}", file, found, most):
                continue
            if np.array_equal(np.load(pixels), whole[name]):
                campaign.note("accepted and equal to the whole file")
                continue
            said = second.ask("judge", str(file), str(pixels))
            if said["status"] in ("different", "judge refuses"):
                why = f"{said['status']} {said.get('message', '')}"
                campaign.fail(f"{name}-{number}", file, why)
            elif said["status"] == "equal":
                campaign.note("accepted and equal to a second decoder")
            else:
                campaign.note("accepted without judge")
    return campaign


def _decoded(seeds: dict[str, bytes]) -> dict[str, object]:
    from glocal.images.image_files import decode

    return {name: decode(data).pixels for name, data in seeds.items()}


def test_every_format_that_can_be_read_has_a_seed():
    from glocal.images.formats import loaders
    from glocal.images.kinds import kind_of

    kinds = {kind_of(data) for data in image_seeds().values()}
    assert kinds == {kind for kind, (reads, _) in loaders().items() if reads}


def test_a_number_makes_the_same_file_again():
    data, other = bytes(range(200)), bytes(100)
    assert mutated(data, other, "a/1") == mutated(data, other, "a/1") != data
    assert mutated(data, other, "a/1") != mutated(data, other, "a/2")


def test_damaged_images_are_refused_or_right(tmp_path):
    campaign = run(2000, tmp_path)
    print(campaign.report())
    assert not campaign.failures, campaign.report()
    assert campaign.counts["refused"] > 1000


@pytest.mark.long
def test_many_damaged_images_are_refused_or_right(tmp_path):
    campaign = run(8000, tmp_path)
    print(campaign.report())
    assert not campaign.failures, campaign.report()
