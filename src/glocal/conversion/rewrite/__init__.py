"""Make blocks local that no rule matches: capture a graph and rewrite it.

`capture` turns a module into a graph of aten operations that is valid for every batch, height
and width. `rewrite` turns that graph into a `Program` that computes the local form; `Rewritten`
is the module that runs it. `record_and_replay` makes the programs of a block whose statistics
come from crops. Imports `rules.rule`, `scanning` and `ops`.
"""

from glocal.conversion.rewrite.arguments import BatchError, TooSmallError
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.capture import capture
from glocal.conversion.rewrite.crop_programs import record_and_replay
from glocal.conversion.rewrite.program import Program, Rewritten
from glocal.conversion.rewrite.rewriter import rewrite

__all__ = [
    "BatchError",
    "Block",
    "Program",
    "Rewritten",
    "TooSmallError",
    "capture",
    "record_and_replay",
    "rewrite",
]
