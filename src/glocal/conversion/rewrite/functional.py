"""Turns an exported program into aten operations without side effects, quickly.

`ExportedProgram.run_decompositions({})` keeps composite operations whole. To do so it overrides
all 525 that torch has, which takes longer than the rest for a small block (0.45 s of 0.6 s). Here
it overrides those that occur in the program; the graph is the same.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx
from torch.export import ExportedProgram, exported_program

__all__ = ["decomposed"]

_NAME = "_collect_all_valid_cia_ops"  # torch's function that lists the composite operations
_ASSERTION = getattr(torch.ops.aten._assert_tensor_metadata, "default", None)
_lock = threading.Lock()


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """Return `program.run_decompositions({})` without operations that do nothing.

    These are torch's assertions of dtypes and devices, and with torch 2.6 slices of a whole dim and
    casts to the dtype that a tensor has.
    """
    used = {node.target for node in program.graph.nodes if node.op == "call_function"}
    with _listing_only(used):
        functional: ExportedProgram = program.run_decompositions({})
    for node in list(functional.graph.nodes):
        if node.target is _ASSERTION:
            functional.graph.erase_node(node)
        elif _does_nothing(node) and all(user.op != "output" for user in node.users):
            node.replace_all_uses_with(node.args[0])
            functional.graph.erase_node(node)
    return functional


def _does_nothing(node: fx.Node) -> bool:
    """True for a slice of a whole dim, and a cast to the dtype that a tensor has."""
    if node.target is torch.ops.aten.slice.Tensor:
        start, end, step = (*node.args[2:], None, None, None)[:3]
        return start in (None, 0) and end in (None, sys.maxsize) and step in (None, 1)
    if node.target is torch.ops.aten._to_copy.default and set(node.kwargs) == {"dtype"}:
        return bool(node.all_input_nodes[0].meta["val"].dtype == node.kwargs["dtype"])
    return False


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
