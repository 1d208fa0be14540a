"""Make a block local that no rule knows: capture it as a graph, and rewrite the graph.

`capture` turns a module into aten operations for every batch, height and width, and tells which
of them are global. `rewrite` gives the local form of that graph as a `Program`, and `Rewritten`
is the module that runs it.
"""

from glocal.conversion.rewrite.capture import TooSmallError, capture
from glocal.conversion.rewrite.program import Program, Rewritten
from glocal.conversion.rewrite.rewriter import rewrite

__all__ = ["Program", "Rewritten", "TooSmallError", "capture", "rewrite"]
