"""Turns an exported program into aten operations without side effects, quickly.

`ExportedProgram.run_decompositions({})` keeps composite operations whole. To do so it overrides
all 525 that torch has, which takes longer than the rest for a small block (0.45 s of 0.6 s). Here
it overrides those that occur in the program; the graph is the same.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.export import ExportedProgram, exported_program

__all__ = ["decomposed"]

_NAME = "_collect_all_valid_cia_ops"  # torch's function that lists the composite operations
_ASSERTION = getattr(torch.ops.aten._assert_tensor_metadata, "default", None)
_lock = threading.Lock()


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """Return `program.run_decompositions({})` without torch's assertions of dtypes and devices."""
    used = {node.target for node in program.graph.nodes if node.op == "call_function"}
    with _listing_only(used):
        functional: ExportedProgram = program.run_decompositions({})
    for node in list(functional.graph.nodes):
        if node.target is _ASSERTION:
            functional.graph.erase_node(node)
    return functional


@contextmanager
def _listing_only(operations: set[object]) -> Iterator[None]:
    """Reduce torch's list of composite operations, if this version of torch has one."""
    with _lock:
        everything = getattr(exported_program, _NAME, None)
        if everything is None:
            yield
            return
        setattr(exported_program, _NAME, lambda: {o for o in everything() if o in operations})
        try:
            yield
        finally:
            setattr(exported_program, _NAME, everything)
