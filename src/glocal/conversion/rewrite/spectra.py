"""Finds the Fourier spectra of maps in a captured block."""

import torch
from torch import fx

from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.nodes import argument, operation, tensor_inputs
from glocal.errors import ConversionError
from glocal.scanning.dims import product, role

__all__ = ["FOURIER", "spectral_nodes"]

_FORWARD = frozenset("fft_fft fft_fft2 fft_fftn fft_rfft fft_rfft2 fft_rfftn _fft_r2c".split())
_INVERSE = frozenset(
    "fft_ifft fft_ifft2 fft_ifftn fft_irfft fft_irfft2 fft_irfftn _fft_c2r".split()
)
FOURIER = _FORWARD | _INVERSE | {"_fft_c2c"}
"""Fourier transforms, as captured graphs name them."""


def spectral_nodes(block: Block) -> set[fx.Node]:
    """Return the values whose rows or columns are frequencies, and complex values.

    Spectra are the results of a transform, and what is computed from them up to the inverse.

    Raises:
        ConversionError: a transform goes over the images of a batch.
    """
    axes: dict[fx.Node, frozenset[str]] = {}
    for node in block.graph.nodes:
        if node.op != "call_function":
            continue
        of = frozenset[str]().union(*(axes.get(n, frozenset()) for n in tensor_inputs(node)))
        name = operation(node)
        if name in FOURIER:
            source = tensor_inputs(node)[0]
            dims = [d % block.rank(source) for d in _dims(block, node, source)]
            if 0 in dims and block.depends_on_batch(source):
                raise ConversionError(f"{name} transforms the images of a batch together")
            along = {axis for d in dims for axis in role(product(block.dims[source][d]))}
            inverse = name in _INVERSE or (name == "_fft_c2c" and not argument(node, "forward"))
            of = of - along if inverse else of | along
        axes[node] = of
    return {node for node, of in axes.items() if of or _is_complex(node)}


def _dims(block: Block, node: fx.Node, source: fx.Node) -> list[int]:
    dims = argument(node, "dim")
    if dims is None:
        return list(range(block.rank(source)))
    return [dims] if isinstance(dims, int) else list(dims)


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_complex()
