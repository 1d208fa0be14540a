"""Plans: tables, JSON, and warnings about windows that are too small."""

import pytest
import torch
from torch import nn

import glocal
from glocal.errors import ArgumentError
from glocal.scanning.plan import Plan, Row


def row(feature, window, path="norm", status="local"):
    return Row(path, "instance_norm", "net.py:1", feature, window, status, "instance norm")


def plan(*rows, train=(256, 256), window=(384, 384)):
    return Plan(train, window, rows)


@pytest.mark.parametrize(
    ("window", "warned"),
    [
        ((384, 384), False),
        ((80, 80), False),
        ((75, 75), False),
        ((73, 73), True),
        ((20, 200), True),
    ],
)
def test_a_window_below_the_published_ones(window, warned):
    given = plan(row((256, 256), window), window=window)
    texts = given.warnings()
    assert bool(texts) == warned
    if warned:
        share = 100 * window[0] * window[1] / 256**2
        assert texts[0].startswith(f"the window {window[0]}x{window[1]} has {share:.1f} % of")
        assert "256x256" in texts[0]
        assert "glocal tune" in texts[0]


@pytest.mark.parametrize(
    ("feature", "window", "warned"),
    [
        ((32, 32), (7, 8), True),
        ((32, 32), (8, 8), False),  # 64 pixels are enough
        ((8, 8), (4, 4), True),
        ((8, 8), (5, 4), False),  # a third of its pixels in training: the noise is as large there
        ((4, 4), (6, 6), False),  # few pixels, but more than in training
        ((16, 256), (2, 20), True),
        (None, None, False),
    ],
)
def test_statistics_of_few_pixels(feature, window, warned):
    texts = plan(row(feature, window)).warnings()
    assert len(texts) == warned
    if warned:
        pixels, trained = window[0] * window[1], feature[0] * feature[1]
        assert texts[0].startswith(
            f"instance_norm in 'norm' has windows of {window[0]}x{window[1]} = {pixels} "
            f"pixels, but {trained} pixels in training;"
        )
        assert "glocal tune" in texts[0]


def test_the_worst_operation_is_named_and_the_others_are_counted():
    rows = row((32, 32), (7, 7), "a"), row((16, 16), (3, 3), "b"), row((64, 64), (14, 14), "c")
    (text,) = plan(*rows).warnings()
    assert "'b'" in text
    assert "256 pixels in training (1 more have too few)" in text


@pytest.mark.parametrize("status", ["kept", "global"])
def test_operations_that_stay_global_cause_no_warning(status):
    assert plan(row((32, 32), None, status=status), window=(9, 9)).warnings() == ()


def test_warnings_follow_the_table():
    given = plan(row((256, 256), (20, 20)), row((32, 32), (2, 2)), window=(20, 20))
    lines = str(given).splitlines()
    assert lines[-3] == given.summary()
    assert lines[-2:] == [f"warning: {text}" for text in given.warnings()]


def test_the_papers_window_never_warns():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 8, 1), nn.InstanceNorm2d(4), nn.Upsample(None, 8))
    for size in (16, 64, 256):
        assert glocal.scan(network, size).warnings() == ()


def test_the_plan_of_a_converted_network_warns_of_the_map_with_a_small_window():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.InstanceNorm2d(4), nn.Upsample(None, 8))
    local = glocal.localize(network, 128, window=40)  # no error and no Python warning
    (text,) = glocal.plan_of(local).warnings()
    assert "has windows of 5x5 = 25 pixels, but 256 pixels in training;" in text


def test_a_plan_as_text():
    rows = (
        row((32, 32), (48, 48), path=""),
        row((16, 16), None, path="a.norm", status="kept"),
        row(None, None, path="b", status="global"),
    )
    assert str(plan(*rows)).splitlines() == [
        "training size 256x256, window 384x384 (input pixels)",
        "module         operation      line      map    window  how",
        "-------------  -------------  --------  -----  ------  --------------------------",
        "(the network)  instance_norm  net.py:1  32x32  48x48   local: instance norm",
        "a.norm         instance_norm  net.py:1  16x16  -       kept global: instance norm",
        "b              instance_norm  net.py:1  -      -       GLOBAL: instance norm",
        "1 local, 1 left global, 1 kept global",
    ]


def test_a_plan_goes_through_json():
    given = plan(row((32, 32), (48, 48)), row(None, None, status="global"))
    assert Plan.from_json(given.to_json()) == given


def test_json_without_precision_is_exact():
    """Plans of versions before fast statistics have no precision."""
    text = plan().to_json().replace(',\n  "precision": "exact"', "")
    assert "precision" not in text
    assert Plan.from_json(text).precision == "exact"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{}]}', '{"rows": 3}'])
def test_text_that_is_no_plan(text):
    with pytest.raises(ArgumentError, match="not a plan in JSON"):
        Plan.from_json(text)
