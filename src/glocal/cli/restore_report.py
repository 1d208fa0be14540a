"""The report of ``glocal restore``: JSON values, and the facts that ``--verbose`` adds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from glocal.texts import few_names

if TYPE_CHECKING:
    from torch import nn

    from glocal.runs.jobs import FileResult

__all__ = ["STATUSES", "Report", "details", "fallback_facts", "json_report"]

STATUSES = ("restored", "skipped", "left", "failed")
"""Statuses of files, in the order to print."""

Report: TypeAlias = dict[str, Any]
"""JSON values by name."""


def details(network: "nn.Module") -> dict[str, str]:
    """Plan, versions and machine, for `--verbose`."""
    import torch

    from glocal.conversion.inside import converted_network, own_plan
    from glocal.provenance import machine_name, versions

    found = converted_network(network)
    plan = None if found is None else own_plan(found)
    facts = {"versions": ", ".join(f"{name} {each}" for name, each in versions().items())}
    machine = machine_name(torch.device("cpu"))
    facts["machine"] = f"{machine}, {torch.get_num_threads()} threads"
    return facts if plan is None else facts | {"plan": str(plan)}


def json_report(results: "Sequence[FileResult]") -> Report:
    """Results as JSON values."""
    statuses = [str(each.status) for each in results]
    return {
        **{status: statuses.count(status) for status in STATUSES},
        "photographs": [
            {
                "source": str(each.source),
                "result": str(each.destination),
                "status": each.status,
                "size": each.size,
                "seconds": each.elapsed_s,
                "notes": each.notes,
                "error": each.error,
                "made_before": each.again or None,
                "fallback": each.fallback or None,
            }
            for each in results
        ],
    }


def fallback_facts(results: "Sequence[FileResult]") -> dict[str, str]:
    """The fact about areas taken from the full-image result; empty without areas."""
    found = [each for each in results if each.fallback]
    if not found:
        return {}
    if len(results) == 1:
        return {"fall-back": found[0].fallback}
    names = few_names(each.source.name for each in found)
    return {"fall-back": f"areas of {len(found)} photographs as the full-image result: {names}"}
