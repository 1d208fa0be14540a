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
    from glocal.convert import localize, plan_of, scan
    from glocal.evaluation.comparison import evaluate
    from glocal.evaluation.records import Evaluation
    from glocal.exporting import Exported, export
    from glocal.inference import restore
    from glocal.networks import load
    from glocal.plan import Plan, Row
    from glocal.rules import DEFAULT_RULES, Rule
    from glocal.shift.measure import analyze
    from glocal.shift.report import Shift, StatisticsShift
    from glocal.tuning.recommendation import Tuning
    from glocal.tuning.search import tune
    from glocal.windows import Overlap

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
    "DEFAULT_RULES": "rules",
    "Evaluation": "evaluation.records",
    "Exported": "exporting",
    "Overlap": "windows",
    "Plan": "plan",
    "Row": "plan",
    "Rule": "rules",
    "Shift": "shift.report",
    "StatisticsShift": "shift.report",
    "Tuning": "tuning.recommendation",
    "analyze": "shift.measure",
    "evaluate": "evaluation.comparison",
    "export": "exporting",
    "load": "networks",
    "localize": "convert",
    "plan_of": "convert",
    "restore": "inference",
    "scan": "convert",
    "tune": "tuning.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glocal' has no attribute {name!r}")
    return getattr(importlib.import_module(f"glocal.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
