from pathlib import Path

from evaluations import constructed

from glocal.study.evaluation.records import Failure
from glocal.study.report import markdown

GOLDEN = Path(__file__).parents[2] / "golden" / "evaluation.md"


def test_the_report_is_the_golden_one() -> None:
    failure = Failure("x|y", "TLC 96", "no <memory>")
    assert markdown(constructed(failure)) == GOLDEN.read_text("utf-8")


def test_every_table_has_the_protocol() -> None:
    text = markdown(constructed())
    for sentence in ("rounded to 8 bits", "weights 0123456789ab", "fade into each other there"):
        assert text.count(sentence) == text.count("\n|---") == 3
    assert markdown(constructed(targets=False)).count("weights 0123456789ab") == 2
