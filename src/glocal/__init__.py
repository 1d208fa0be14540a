"""Trained global, run local: test-time local conversion (TLC) of image-restoration networks.

>>> import glocal, numpy
>>> model = glocal.load("nafnet-motion-blur")
>>> local = glocal.localize(model, train_size=64)
>>> image = glocal.restore(local, numpy.zeros((120, 160, 3), "uint8"))
>>> image.shape
(120, 160, 3)

`localize` converts a network, `scan` tells what is global in it, `restore` runs it on an image,
`export` writes it for other runtimes, `load` reads a checkpoint. Source: Chu et al., ECCV 2022
(arXiv 2112.04491).
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
)

if TYPE_CHECKING:
    from glocal.conversion.localize import localize, plan_of, scan
    from glocal.conversion.rules import DEFAULT_RULES, Rule
    from glocal.exporting.export import Exported, export
    from glocal.inference.options import Tiles
    from glocal.inference.restore import restore
    from glocal.networks import load
    from glocal.ops.windows import Overlap
    from glocal.scanning.plan import Plan, Row
    from glocal.study.evaluation.comparison import evaluate
    from glocal.study.evaluation.records import Evaluation
    from glocal.study.shift.measure import analyze
    from glocal.study.shift.report import Shift, StatisticsShift
    from glocal.study.tuning.recommendation import Tuning
    from glocal.study.tuning.search import tune

__all__ = [
    "DEFAULT_RULES",
    "ArgumentError",
    "CheckpointError",
    "ConversionError",
    "Evaluation",
    "Exported",
    "GlocalError",
    "GlocalWarning",
    "ImageError",
    "Overlap",
    "Plan",
    "Row",
    "Rule",
    "ScanError",
    "Shift",
    "StatisticsShift",
    "Tiles",
    "Tuning",
    "analyze",
    "evaluate",
    "export",
    "load",
    "localize",
    "plan_of",
    "restore",
    "scan",
    "tune",
]

# Imported when first asked for, so that `glocal --help` need not wait for torch.
_HOMES = {
    "DEFAULT_RULES": "conversion.rules",
    "Evaluation": "study.evaluation.records",
    "Exported": "exporting.export",
    "Overlap": "ops.windows",
    "Plan": "scanning.plan",
    "Row": "scanning.plan",
    "Rule": "conversion.rules",
    "Shift": "study.shift.report",
    "StatisticsShift": "study.shift.report",
    "Tiles": "inference.options",
    "Tuning": "study.tuning.recommendation",
    "analyze": "study.shift.measure",
    "evaluate": "study.evaluation.comparison",
    "export": "exporting.export",
    "load": "networks",
    "localize": "conversion.localize",
    "plan_of": "conversion.localize",
    "restore": "inference.restore",
    "scan": "conversion.localize",
    "tune": "study.tuning.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glocal' has no attribute {name!r}")
    return getattr(importlib.import_module(f"glocal.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
