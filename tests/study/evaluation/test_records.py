import json
import math
from dataclasses import replace

import numpy as np
import pytest
from evaluations import MEMORY, NAMES, PSNR, STITCHED, constructed
from scipy import stats

from glocal.study.evaluation.records import DEGRADED, Evaluation, Failure, Record


def scipys_half_width(values: np.ndarray) -> float:
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


@pytest.mark.parametrize("way", PSNR)
def test_means_are_scipys(way: str) -> None:
    values = np.array(PSNR[way])
    mean = constructed().mean(way, "psnr")
    assert mean.mean == pytest.approx(values.mean())
    assert mean.half_width == pytest.approx(scipys_half_width(values))
    assert mean.count == 3


@pytest.mark.parametrize("other", ["full image", STITCHED])
def test_differences_are_paired(other: str) -> None:
    differences = np.array(PSNR["TLC 96"]) - np.array(PSNR[other])
    gain = constructed().paired("TLC 96", "psnr", other)
    assert gain.mean == pytest.approx(differences.mean())
    assert gain.half_width == pytest.approx(scipys_half_width(differences))
    assert constructed().better("TLC 96", "psnr", other) == (int((differences > 0).sum()), 3)


def test_an_image_counts_where_every_way_restored_it() -> None:
    whole = constructed()
    part = replace(
        whole,
        records=tuple(r for r in whole.records if (r.image, r.way) != ("b/2", "TLC 96")),
        failures=(Failure("b/2", "TLC 96", "no memory"),),
    )
    assert part.images == ("a", NAMES[2])
    assert part.mean("full image", "psnr").mean == pytest.approx((30.0 + 28.25) / 2)
    assert part.paired("TLC 96", "psnr").count == 2


def test_a_way_that_never_worked_takes_no_image_away() -> None:
    whole = constructed()
    part = replace(whole, records=tuple(r for r in whole.records if r.way != "full image"))
    assert part.ways == (DEGRADED, STITCHED, "TLC 96")
    assert len(part.images) == 3
    assert part.paired("TLC 96", "psnr") is None
    assert part.paired("TLC 96", "psnr", STITCHED).count == 3


def test_seconds_are_means_and_memory_the_largest() -> None:
    evaluation = constructed()
    assert evaluation.seconds("full image") == pytest.approx(0.51)
    assert evaluation.peak_memory_mib("TLC 96") == MEMORY["TLC 96"]
    assert evaluation.seconds(DEGRADED) is None
    assert evaluation.peak_memory_mib(DEGRADED) is None


def test_without_targets_there_is_nothing_to_compare() -> None:
    evaluation = constructed(targets=False)
    assert evaluation.metrics == ()
    assert evaluation.ways == tuple(evaluation.protocol.ways)
    assert evaluation.mean("TLC 96", "psnr") is None
    assert evaluation.seconds("TLC 96") is not None


def test_nothing_measured_is_no_error() -> None:
    evaluation = Evaluation(constructed().protocol, NAMES, ())
    assert evaluation.images == evaluation.ways == ()
    assert evaluation.mean("TLC 96", "psnr") is None


def test_equal_images_have_no_finite_difference() -> None:
    records = tuple(
        Record(name, way, (4, 4), {"psnr": math.inf if (name == "a") == (way == STITCHED) else 9.0})
        for name in ("a", "b")
        for way in ("full image", STITCHED)
    )
    evaluation = Evaluation(constructed().protocol, ("a", "b"), records)
    assert math.isnan(evaluation.paired(STITCHED, "psnr").mean)


def test_records_survive_json() -> None:
    record = Record("a", "w", (3, 4), {"psnr": math.inf, "ssim": 0.1}, 0.3, None)
    text = json.dumps(record.to_json(), allow_nan=False)
    assert Record.from_json(json.loads(text)) == record
    assert json.loads(json.dumps(constructed().to_json()))["protocol"]["train_size"] == [64, 64]


def test_the_protocol_says_all_that_decides_the_numbers() -> None:
    protocol = constructed().protocol
    text = "\n".join(protocol.sentences())
    for part in (
        *protocol.ways.values(), *protocol.metrics.values(), "crops of 64×64", "0123456789ab",
        "GoPro/test, 3 images", "rounded to 8 bits", "95 %", "A processor, cpu, float32, 2 threads",
        "glocal 1.2.3",
    ):  # fmt: skip
        assert part in text
    other = replace(protocol, round8=False, border=4, threads=1, images=1)
    text = "\n".join(other.sentences())
    assert "neither clamped nor rounded, 4 pixels cut from each border" in text
    assert "1 thread;" in text
    assert "1 image." in text
