import json
import math
from dataclasses import replace

import numpy as np
import pytest
from evaluations import MEMORY, NAMES, PSNR, STITCHED, constructed
from scipy import stats

from glocal.study.evaluation.records import DEGRADED, Evaluation, Failure, Record
from glocal.study.report.tables import summary_table


def scipys_half_width(values: np.ndarray) -> float:
    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


@pytest.mark.parametrize("method", PSNR)
def test_means_are_scipys(method: str) -> None:
    values = np.array(PSNR[method])
    mean = constructed().mean(method, "psnr")
    assert mean.mean == pytest.approx(values.mean())
    assert mean.half_width == pytest.approx(scipys_half_width(values))
    assert mean.count == 3


@pytest.mark.parametrize("other", ["full image", STITCHED])
def test_differences_are_paired(other: str) -> None:
    differences = np.array(PSNR["TLC 96"]) - np.array(PSNR[other])
    gain = constructed().paired("TLC 96", "psnr", other)
    assert gain.mean == pytest.approx(differences.mean())
    assert gain.half_width == pytest.approx(scipys_half_width(differences))
    better, worse = (int((sign * differences > 0).sum()) for sign in (1, -1))
    assert constructed().wins("TLC 96", "psnr", other) == (better, 3 - better - worse, worse)


def test_it_is_printed_as_the_table_and_its_protocol() -> None:
    lines = str(constructed()).splitlines()
    assert lines[0].split()[:2] == ["method", "psnr"]
    assert any(line.startswith("TLC 96 ") for line in lines)
    assert tuple(lines[-len(constructed().sentences()) :]) == constructed().sentences()


def test_an_image_counts_where_every_method_restored_it() -> None:
    whole = constructed()
    part = replace(
        whole,
        records=tuple(r for r in whole.records if (r.image, r.method) != ("b/2", "TLC 96")),
        failures=(Failure("b/2", "TLC 96", "no memory"),),
    )
    assert part.compared == ("a", NAMES[2])
    assert part.mean("full image", "psnr").mean == pytest.approx((30.0 + 28.25) / 2)
    assert part.paired("TLC 96", "psnr").count == 2


def test_an_image_that_fails_leaves_all_means_and_the_text_says_so() -> None:
    failure = Failure("b/2", DEGRADED, "too small")
    records = tuple(r for r in constructed().records if (r.image, r.method) != ("b/2", DEGRADED))
    part = replace(constructed(failure), records=records)
    assert part.compared == ("a", NAMES[2])
    for method in part.methods:
        assert part.mean(method, "psnr").count == 2
    assert "Means are over the 2 of 3 images that every method restored." in part.sentences()
    assert summary_table(part).title == "Mean of 2 of 3 images"
    assert constructed().sentences() == constructed().protocol.sentences()


def test_the_degraded_row_has_no_mean_over_other_images() -> None:
    # as where the log contains the methods of an image whose degraded row has failed
    records = tuple(r for r in constructed().records if (r.image, r.method) != ("b/2", DEGRADED))
    part = replace(constructed(), records=records)
    assert part.mean(DEGRADED, "psnr") is None
    assert part.mean("TLC 96", "psnr").count == 3


@pytest.mark.parametrize(
    ("metric", "first", "second", "wins"),
    [
        ("psnr", 30.0, 30.0001, (0, 1, 0)),
        ("psnr", 30.01, 30.0, (1, 0, 0)),
        ("ssim-3d", 0.900001, 0.9, (0, 1, 0)),
        ("ssim-3d", 0.9, 0.9001, (0, 0, 1)),
        ("psnr", math.inf, math.inf, (0, 1, 0)),
        ("psnr", math.inf, 50.0, (1, 0, 0)),
        ("lpips", 0.1, 0.10000001, (0, 1, 0)),
        ("lpips", 0.1, 0.2, (1, 0, 0)),
    ],
)
def test_differences_within_float_rounding_are_no_wins(
    metric: str, first: float, second: float, wins: tuple[int, ...]
) -> None:
    records = tuple(
        Record("a", method, (4, 4), {metric: value})
        for method, value in (("TLC 96", first), ("full image", second))
    )
    protocol = replace(constructed().protocol, lower_is_better=("lpips",))
    assert Evaluation(protocol, ("a",), records).wins("TLC 96", metric) == wins


def test_notes_on_images_are_counted() -> None:
    records = tuple(
        replace(record, notes=("the target was cropped",) if record.image != "a" else ())
        for record in constructed().records
    )
    sentences = replace(constructed(), records=records).sentences()
    assert sentences[-1] == "On 2 of 3 images the target was cropped."
    assert Record.from_dict(json.loads(json.dumps(records[-1].to_dict()))) == records[-1]


def test_images_without_targets_are_counted_per_metric() -> None:
    records = tuple(
        replace(record, metrics={}) if record.image == "a" else record
        for record in constructed().records
    )
    part = replace(constructed(), records=records)
    assert part.mean("TLC 96", "psnr").count == 2
    assert "psnr: on 2 of 3 images; the others have no target." in part.sentences()


def test_a_method_that_always_fails_removes_no_image() -> None:
    whole = constructed()
    part = replace(whole, records=tuple(r for r in whole.records if r.method != "full image"))
    assert part.methods == (DEGRADED, STITCHED, "TLC 96", "crops 64")
    assert len(part.compared) == 3
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
    assert evaluation.methods == tuple(evaluation.protocol.methods)
    assert evaluation.mean("TLC 96", "psnr") is None
    assert evaluation.seconds("TLC 96") is not None


def test_an_empty_evaluation_is_no_error() -> None:
    evaluation = Evaluation(constructed().protocol, NAMES, ())
    assert evaluation.compared == evaluation.methods == ()
    assert evaluation.mean("TLC 96", "psnr") is None


def test_equal_images_have_no_finite_difference() -> None:
    records = tuple(
        Record(
            name,
            method,
            (4, 4),
            {"psnr": math.inf if (name == "a") == (method == STITCHED) else 9.0},
        )
        for name in ("a", "b")
        for method in ("full image", STITCHED)
    )
    evaluation = Evaluation(constructed().protocol, ("a", "b"), records)
    assert math.isnan(evaluation.paired(STITCHED, "psnr").mean)


def test_records_survive_json() -> None:
    record = Record("a", "w", (3, 4), {"psnr": math.inf, "ssim": 0.1}, 0.3, None)
    text = json.dumps(record.to_dict(), allow_nan=False)
    assert Record.from_dict(json.loads(text)) == record
    assert json.loads(constructed().to_json())["protocol"]["train_size"] == [64, 64]


def test_the_protocol_states_all_that_determines_the_numbers() -> None:
    protocol = constructed().protocol
    text = "\n".join(protocol.sentences())
    for part in (
        *protocol.methods.values(), *protocol.metrics.values(), "crops of 64×64", "0123456789ab",
        "GoPro/test, 3 images", "rounded to 8 bits", "95 %",
        "A processor, cpu, float32, torch, 2 threads", "glocal 1.2.3",
    ):  # fmt: skip
        assert part in text
    other = replace(protocol, round8=False, border=4, threads=1, image_count=1)
    text = "\n".join(other.sentences())
    assert "neither clamped nor rounded, 4 pixels cut from each border" in text
    assert "1 thread;" in text
    assert "1 image." in text
