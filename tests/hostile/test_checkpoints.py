"""Damaged checkpoints and JSON files: refused in a line or two, soon, in little memory."""

from pathlib import Path

import pytest

pytest.importorskip("resource", reason="children need limits of POSIX")
if not Path("/proc/self/clear_refs").exists():
    pytest.skip("peak memory is measured on Linux only", allow_module_level=True)

from hostile.campaign import Campaign, Child, numbered
from hostile.mutator import mutated
from hostile.seeds import checkpoint_seeds

SPARE_BYTES = 200 * 2**20
LIMIT_S = 15.0


def run(count: int, folder: Path) -> Campaign:
    seeds = checkpoint_seeds()
    names = sorted(seeds)
    campaign = Campaign()
    (folder / "w-00001-of-00001.safetensors").write_bytes(seeds["safetensors-plain"])
    with Child() as reader:
        for each in ("pth-zip", "safetensors-plain"):  # later files find everything imported
            (folder / "first").write_bytes(seeds[each])
            assert reader.ask("checkpoint", str(folder / "first"))["status"] == "accepted"
        (folder / "first").write_bytes(seeds["pth-zip"][:-9])
        assert reader.ask("checkpoint", str(folder / "first"))["status"] == "refused"
        for name, number in numbered(seeds, count):
            other = seeds[names[(names.index(name) + number) % len(names)]]
            data = mutated(seeds[name], other, f"{name}/{number}")
            kind, _, what = name.partition("-")
            file = folder / (f"{what}.{kind}" if what != "index" else "w.safetensors.index.json")
            file.write_bytes(data)
            found = reader.ask("checkpoint", str(file), limit=LIMIT_S)
            if campaign.check(f"{name}-{number}", file, found, 2 * len(data) + SPARE_BYTES):
                campaign.note("accepted")
    return campaign


def test_damaged_checkpoints_are_refused_or_whole_networks(tmp_path):
    campaign = run(500, tmp_path)
    print(campaign.report())
    assert not campaign.failures, campaign.report()
    assert campaign.counts["refused"] > 300


@pytest.mark.long
def test_many_damaged_checkpoints_are_refused_or_whole_networks(tmp_path):
    campaign = run(2000, tmp_path)
    print(campaign.report())
    assert not campaign.failures, campaign.report()
