"""Convert image-restoration networks for test-time local inference (TLC).

Trained global, run local.

>>> import glocal, numpy
>>> model = glocal.load("nafnet-motion-blur")
>>> local = glocal.localize(model)
>>> image = glocal.restore(local, numpy.zeros((120, 160, 3), "uint8"))
>>> image.shape
(120, 160, 3)

=============  ====================================================================
`load`         return the network of a checkpoint or an embedded model
`localize`     convert a network; `plan_of` returns the plan of the conversion
`scan`         list the global operations of a network
`restore`      run a network on an image, a file, or a list of them
`read_image`   read an image file: pixels and metadata; `write_image` writes one
`export`       write a converted network to ONNX or .pt2
`evaluate`     compare full image, crop-and-stitch, TLC and crops on a data set
`analyze`      measure how far statistics shift from training crops to full images
`tune`         choose the way of running a network, and its options, on a few images
=============  ====================================================================

The public API is what this package and these four modules export; every other module is private
and may change in any release:

- `glocal.ops`: local operations on tensors
- `glocal.metrics`: PSNR and SSIM by the protocols of published tables
- `glocal.networks`: published networks and their checkpoints
- `glocal.testing`: the laws of local operations, to test rules and operations with

Source: Chu et al., Improving Image Restoration by Revisiting Global Information Aggregation,
ECCV 2022 (arXiv 2112.04491).
"""

import importlib
from typing import TYPE_CHECKING, Any

from glocal.errors import (
    ArgumentError,
    CheckpointError,
    ConversionError,
    GlocalError,
    GlocalWarning,
    ImageError,
    ScanError,
    VideoError,
)

if TYPE_CHECKING:
    from glocal import metrics, networks, ops, testing
    from glocal.conversion.localize import localize, plan_of, scan
    from glocal.conversion.rules import DEFAULT_RULES, Local, Rule
    from glocal.conversion.sources import Source, Statistics
    from glocal.data.datasets import Pair, pairs
    from glocal.exporting.export import Exported, export
    from glocal.exporting.int8 import Int8
    from glocal.images.colour import Colours
    from glocal.images.image_files import Image
    from glocal.images.image_files import read as read_image
    from glocal.images.image_files import write as write_image
    from glocal.images.metadata import Metadata
    from glocal.inference.any_image import RestoreOptions, restore
    from glocal.inference.areas import Areas
    from glocal.inference.fallback import Fallback
    from glocal.inference.options import Tiles
    from glocal.inference.settings import Settings
    from glocal.networks import LoadedNetwork, load, load_checkpoint
    from glocal.ops.windows import Overlap, Precision
    from glocal.scanning.example import Example
    from glocal.scanning.plan import Plan, Row
    from glocal.study.dataset import Data
    from glocal.study.evaluation.comparison import evaluate
    from glocal.study.evaluation.pictures import Pictures
    from glocal.study.evaluation.records import Evaluation, Failure, Protocol, Record, Wins
    from glocal.study.intervals import Interval
    from glocal.study.options import ConversionOptions, RunOptions, ScoreOptions
    from glocal.study.report import write_report
    from glocal.study.shift.measure import analyze
    from glocal.study.shift.report import Shift, StatisticsShift
    from glocal.study.tuning.groups import Group
    from glocal.study.tuning.recommendation import Tuning
    from glocal.study.tuning.search import tune
    from glocal.study.tuning.trials import Trial

    __version__: str

__all__ = [
    "DEFAULT_RULES",
    "Areas",
    "ArgumentError",
    "CheckpointError",
    "Colours",
    "ConversionError",
    "ConversionOptions",
    "Data",
    "Evaluation",
    "Example",
    "Exported",
    "Failure",
    "Fallback",
    "GlocalError",
    "GlocalWarning",
    "Group",
    "Image",
    "ImageError",
    "Int8",
    "Interval",
    "LoadedNetwork",
    "Local",
    "Metadata",
    "Overlap",
    "Pair",
    "Pictures",
    "Plan",
    "Precision",
    "Protocol",
    "Record",
    "RestoreOptions",
    "Row",
    "Rule",
    "RunOptions",
    "ScanError",
    "ScoreOptions",
    "Settings",
    "Shift",
    "Source",
    "Statistics",
    "StatisticsShift",
    "Tiles",
    "Trial",
    "Tuning",
    "VideoError",
    "Wins",
    "analyze",
    "evaluate",
    "export",
    "load",
    "load_checkpoint",
    "localize",
    "metrics",
    "networks",
    "ops",
    "pairs",
    "plan_of",
    "read_image",
    "restore",
    "scan",
    "testing",
    "tune",
    "write_image",
    "write_report",
]

_MODULES = ("metrics", "networks", "ops", "testing")

# Module, and the name there if it is another.
# Imported on first use, so that `import glocal` and `glocal --help` do not import torch.
_HOMES = {
    "DEFAULT_RULES": "conversion.rules",
    "Areas": "inference.areas",
    "Colours": "images.colour",
    "ConversionOptions": "study.options",
    "Data": "study.dataset",
    "Evaluation": "study.evaluation.records",
    "Example": "scanning.example",
    "Exported": "exporting.export",
    "Failure": "study.evaluation.records",
    "Fallback": "inference.fallback",
    "Group": "study.tuning.groups",
    "Image": "images.image_files",
    "Int8": "exporting.int8",
    "Interval": "study.intervals",
    "LoadedNetwork": "networks",
    "Local": "conversion.rules",
    "Metadata": "images.metadata",
    "Overlap": "ops.windows",
    "Pair": "data.datasets",
    "Pictures": "study.evaluation.pictures",
    "Plan": "scanning.plan",
    "Precision": "ops.windows",
    "Protocol": "study.evaluation.records",
    "Record": "study.evaluation.records",
    "RestoreOptions": "inference.any_image",
    "Row": "scanning.plan",
    "Rule": "conversion.rules",
    "RunOptions": "study.options",
    "ScoreOptions": "study.options",
    "Settings": "inference.settings",
    "Shift": "study.shift.report",
    "Source": "conversion.sources",
    "Statistics": "conversion.sources",
    "StatisticsShift": "study.shift.report",
    "Tiles": "inference.options",
    "Trial": "study.tuning.trials",
    "Tuning": "study.tuning.recommendation",
    "Wins": "study.evaluation.records",
    "analyze": "study.shift.measure",
    "evaluate": "study.evaluation.comparison",
    "export": "exporting.export",
    "load": "networks",
    "load_checkpoint": "networks",
    "localize": "conversion.localize",
    "pairs": "data.datasets",
    "plan_of": "conversion.localize",
    "read_image": "images.image_files:read",
    "restore": "inference.any_image",
    "scan": "conversion.localize",
    "tune": "study.tuning.search",
    "write_image": "images.image_files:write",
    "write_report": "study.report",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("glocal")
    if name in _MODULES:
        return importlib.import_module(f"glocal.{name}")
    if name in _HOMES:
        home, _, there = _HOMES[name].partition(":")
        return getattr(importlib.import_module(f"glocal.{home}"), there or name)
    raise AttributeError(f"module 'glocal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
