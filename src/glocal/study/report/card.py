"""The card of a model: README.md of its repository on the Hugging Face Hub."""

import math
from collections.abc import Mapping, Sequence

from glocal.study.evaluation.records import DEGRADED, Evaluation
from glocal.study.report.front_matter import Value, front_matter, hub_licence, slug
from glocal.study.report.tables import number

__all__ = ["CARD", "LICENCE", "model_card"]

CARD, LICENCE = "README.md", "LICENSE"
"""Names of the card and of the text of the licence, as the Hub expects them."""

_TASK = "image-to-image"
_SSIM = ("ssim-3d", "ssim-y")


def model_card(
    metadata: Mapping[str, str],
    parameters: int,
    evaluations: Sequence[Evaluation] = (),
    *,
    factory: str = "",
    repository: str = "OWNER/NAME",
) -> str:
    """Return a model card in Markdown, below the fields that the Hub reads.

    Args:
        metadata: of the safetensors file, see `glocal.networks.packing`.
        parameters: number of weights.
        evaluations: of the network.
        factory: function that builds the network, if the reader needs one.
        repository: where the model will be.
    """
    task = metadata.get("task")
    about = {
        "Task": task,
        "Network": f"{metadata['architecture']}, {parameters / 1e6:.2f} M weights",
        "Training crops": f"{metadata['train_size']} pixels",
        "Window": f"{metadata['window']} pixels",
        "Licence": metadata["licence"],
        "Source": metadata.get("source"),
    }
    lines = [
        front_matter(_fields(metadata, evaluations)),
        "",
        f"# {metadata['name']}",
        "",
        f"An image-restoration network{f' for {task}' if task else ''}, for glocal: "
        "global operations run on windows of about the size of the training crops, so that whole "
        "photographs are restored as well as crops "
        "(TLC, [Chu et al., ECCV 2022](https://arxiv.org/abs/2112.04491)).",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(text)} |" for name, text in about.items() if text),
        "",
        "## Use",
        "",
        *_use(repository, factory),
        *(line for each in evaluations for line in _results(each)),
    ]
    return "\n".join(lines) + "\n"


def _fields(metadata: Mapping[str, str], evaluations: Sequence[Evaluation]) -> dict[str, Value]:
    fields: dict[str, Value] = {"library_name": "glocal", "pipeline_tag": _TASK}
    fields |= hub_licence(metadata["licence"], LICENCE if "licence_text" in metadata else "")
    task = [slug(metadata["task"])] if metadata.get("task") else []
    fields["tags"] = ["image-restoration", "tlc", slug(metadata["architecture"]), *task]
    results = [each for each in map(_result, evaluations) if each["metrics"]]
    if results:
        kinds = [_kind(metric) for evaluation in evaluations for metric in evaluation.metrics]
        fields["metrics"] = list(dict.fromkeys(kinds))
        fields["model-index"] = [{"name": metadata["name"], "results": results}]
    return fields


def _result(evaluation: Evaluation) -> dict[str, Value]:
    """The means of an evaluation as an entry of the Hub's model-index."""
    label = evaluation.protocol.data
    found: list[Value] = []
    for method in evaluation.methods:
        for metric in evaluation.metrics if method != DEGRADED else ():
            mean = evaluation.mean(method, metric)
            if mean is not None and math.isfinite(mean.mean):
                value = float(number(metric, mean.mean))
                found.append({"type": _kind(metric), "value": value, "name": f"{metric}, {method}"})
    return {
        "task": {"type": _TASK},
        "dataset": {"type": slug(label), "name": label},
        "metrics": found,
    }


def _kind(metric: str) -> str:
    """The Hub's name of a metric: variants of PSNR and SSIM are one kind each."""
    return "psnr" if metric == "psnr-y" else "ssim" if metric in _SSIM else metric


def _use(repository: str, factory: str) -> list[str]:
    if factory:
        return [
            f"The function `{factory}` builds the network; it is no part of this repository.",
            "",
            "```python",
            "import glocal",
            "",
            f'local = glocal.localize(glocal.load("{repository}", arch="{factory}"))',
            'restored = glocal.restore(local, "photo.jpg")',
            "```",
        ]
    return [
        "```",
        'pip install "glocal[hub]"',
        f"glocal restore photo.jpg --model {repository}",
        "```",
        "",
        "```python",
        "import glocal",
        "",
        f'local = glocal.localize(glocal.load("{repository}"))',
        'restored = glocal.restore(local, "photo.jpg")',
        "```",
    ]


def _results(evaluation: Evaluation) -> list[str]:
    protocol, metrics = evaluation.protocol, evaluation.metrics
    rows = []
    for method in evaluation.methods:
        means = [evaluation.mean(method, metric) for metric in metrics]
        cells = [
            number(metric, None if mean is None else mean.mean)
            for metric, mean in zip(metrics, means, strict=True)
        ]
        rows.append(f"| {_cell(method)} | {' | '.join(cells)} |")
    count = len(evaluation.compared)
    images = "1 image" if count == 1 else f"{count} images"
    return [
        "",
        f"## Results on {protocol.data}",
        "",
        f"Means of {images}, measured with glocal {protocol.versions.get('glocal', '')}.",
        "",
        f"| method | {' | '.join(metrics)} |",
        f"|---|{'---:|' * len(metrics)}",
        *rows,
        "",
        *(f"- {name}: {text}." for name, text in protocol.methods.items()),
        *(f"- {name}: {text}" for name, text in protocol.metrics.items()),
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
