from dataclasses import replace

from evaluations import STITCHED, constructed

from glocal.study.evaluation.records import DEGRADED
from glocal.study.report.tables import comparison_table, image_table, summary_table


def test_every_method_has_a_row_of_means() -> None:
    evaluation = constructed()
    table = summary_table(evaluation)
    rows = {row[0]: dict(zip(table.columns[1:], row[1:], strict=False)) for row in table.rows}
    assert list(rows) == [DEGRADED, "full image", STITCHED, "TLC 96", "crops 64"]
    assert rows["TLC 96"]["psnr"] == "30.25"
    assert table.rows[3][2] == evaluation.paired("TLC 96", "psnr").text(3)
    assert table.rows[3][4] == evaluation.paired("TLC 96", "ssim-3d").text(4)
    assert table.rows[1][2] == table.rows[1][4] == "–"
    assert table.rows[0][-2:] == ("–", "–")
    assert table.rows[1][-2:] == ("0.510", "300")


def test_local_methods_are_compared_with_every_other() -> None:
    table = comparison_table(constructed())
    assert [row[0] for row in table.rows] == [
        "TLC 96 − full image", f"TLC 96 − {STITCHED}",
        "crops 64 − full image", f"crops 64 − {STITCHED}", "crops 64 − TLC 96",
    ]  # fmt: skip
    assert table.rows[1][1:3] == (
        constructed().paired("TLC 96", "psnr", STITCHED).text(3),
        "2 of 3",
    )
    assert table.rows[1][-1] == "0.44"


def test_without_a_full_image_there_is_no_difference_to_it() -> None:
    whole = constructed()
    part = replace(whole, records=tuple(r for r in whole.records if r.method != "full image"))
    table = summary_table(part)
    assert table.columns == ("method", "psnr", "ssim-3d", "seconds", "memory, MiB")
    assert {len(row) for row in table.rows} == {5}


def test_without_targets_there_is_no_metric_and_no_comparison() -> None:
    evaluation = constructed(targets=False)
    assert summary_table(evaluation).columns == ("method", "seconds", "memory, MiB")
    assert comparison_table(evaluation) is None


def test_every_image_has_its_rows() -> None:
    table = image_table(constructed())
    assert len(table.rows) == 15
    assert table.rows[1] == ("a", "720 × 1280", "full image", "30.00", "0.9000", "0.500", "300")
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_no_records_give_tables_without_rows() -> None:
    evaluation = replace(constructed(), records=())
    assert summary_table(evaluation).rows == image_table(evaluation).rows == ()
    assert comparison_table(evaluation) is None


def test_the_best_of_all_rows_is_marked() -> None:
    evaluation = constructed()
    assert summary_table(evaluation).best == {(4, 1), (3, 3), (4, 3)}
    good = tuple(
        replace(r, metrics={**r.metrics, "psnr": 50.0}) if r.method == DEGRADED else r
        for r in evaluation.records
    )
    better = replace(evaluation, records=good)
    assert better.best("psnr") == (DEGRADED,)
    assert (0, 1) in summary_table(better).best


def test_the_best_of_a_metric_that_is_lower_is_the_lowest() -> None:
    evaluation = constructed()
    protocol = replace(evaluation.protocol, lower_is_better=("psnr",))
    assert replace(evaluation, protocol=protocol).best("psnr") == (DEGRADED,)
