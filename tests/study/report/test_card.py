"""Model cards, read by huggingface_hub."""

import json

import evaluations
import pytest

from glocal.study.report.card import model_card
from glocal.study.report.front_matter import front_matter

ABOUT = {
    "name": "tiny: deblur #1",
    "architecture": "NAFNet",
    "task": "motion blur",
    "train_size": "64x64",
    "window": "96x96",
    "licence": "MIT",
}


@pytest.fixture
def read():
    """What huggingface_hub reads of a card."""
    hub = pytest.importorskip("huggingface_hub")
    return lambda text: hub.ModelCard(text).data


def test_the_hub_reads_the_fields(read):
    data = read(model_card(ABOUT, 319_475))
    assert data.to_dict() == {
        "library_name": "glocal",
        "pipeline_tag": "image-to-image",
        "license": "mit",
        "tags": ["image-restoration", "tlc", "nafnet", "motion-blur"],
    }


def test_the_hub_reads_the_metrics_of_an_evaluation(read):
    evaluation = evaluations.constructed()
    data = read(model_card(ABOUT, 319_475, [evaluation]))
    assert data.metrics == ["psnr", "ssim"]
    assert data.model_name == ABOUT["name"]
    found = {each.metric_name: each for each in data.eval_results}
    rows = [method for method in evaluation.methods if method != evaluations.DEGRADED]
    assert found.keys() == {f"{m}, {row}" for row in rows for m in ("psnr", "ssim-3d")}
    for row in rows:
        mean = sum(evaluations.PSNR[row]) / 3
        assert found[f"psnr, {row}"].metric_value == pytest.approx(mean, abs=0.006)
        assert found[f"ssim-3d, {row}"].metric_type == "ssim"
    any_result = data.eval_results[0]
    assert (any_result.task_type, any_result.dataset_name) == ("image-to-image", "GoPro/test")


def test_the_card_shows_degraded_images_too():
    text = model_card(ABOUT, 319_475, [evaluations.constructed()])
    assert "| degraded | 23.25 | 0.7000 |" in text
    assert "Means of 3 images" in text


def test_an_evaluation_without_targets_has_no_metrics(read):
    data = read(model_card(ABOUT, 319_475, [evaluations.constructed(targets=False)]))
    assert data.eval_results is None
    assert data.metrics is None


def test_a_licence_that_the_hub_does_not_know_has_name_and_link(read):
    about = ABOUT | {"licence": "Terms: mine", "licence_text": "You may look."}
    data = read(model_card(about, 1))
    found = (data.license, data.license_name, data.license_link)
    assert found == ("other", "terms-mine", "LICENSE")


def test_a_network_that_needs_a_function_says_so():
    text = model_card(ABOUT, 1, factory="my.nets:build")
    assert 'glocal.load("OWNER/NAME", arch="my.nets:build")' in text
    assert "glocal restore" not in text


@pytest.mark.parametrize(
    "value",
    ["no", "1e3", "a: b", "- x", "#", "", "ü 😀", 'say "hi"', "two\nlines", "null", "~", 0.5, 1],
)
def test_every_text_survives_yaml(value):
    yaml = pytest.importorskip("yaml")
    values = {"key": value, "list": [value, {"inner": value, "more": [value]}]}
    assert yaml.safe_load(front_matter(values).strip("-\n")) == json.loads(json.dumps(values))
