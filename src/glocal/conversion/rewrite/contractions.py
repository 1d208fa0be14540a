"""Products that sum over pixels, as elementwise products that are summed.

`x @ ones`, `einsum("bchw,bchw->bc", x, y)` and `tensordot` compute statistics as `(x * y).sum()`
does. Written alike, they get the same local form. A product with a result for each pair of
channels (a Gram matrix) would need a map for each pair, and stays as it is.
"""

import string
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import SymInt, Tensor

__all__ = ["CONTRACTIONS", "bmm", "dot", "einsum", "inner", "linear", "matmul", "tensordot"]


def matmul(a: Tensor, b: Tensor) -> Tensor | None:
    """Return `a @ b`; like the others here, None if it sums no pixels."""
    if a.ndim == 0 or b.ndim == 0:
        return None
    rank = max(a.ndim, b.ndim)
    batch = string.ascii_lowercase[: max(rank - 2, 0)]
    left = (batch[len(batch) - (a.ndim - 2) :] if a.ndim > 2 else "") + "YZ"[-a.ndim :]
    right = (batch[len(batch) - (b.ndim - 2) :] if b.ndim > 2 else "") + "ZX"[: b.ndim]
    out = batch + ("Y" if a.ndim > 1 else "") + ("X" if b.ndim > 1 else "")
    return _contract([a, b], [left, right], out)


def bmm(input: Tensor, mat2: Tensor, **kwargs: Any) -> Tensor | None:
    """Return `torch.bmm`."""
    return None if kwargs else matmul(input, mat2)


def dot(input: Tensor, tensor: Tensor) -> Tensor | None:
    """Return `torch.dot`."""
    return matmul(input, tensor)


def inner(input: Tensor, other: Tensor) -> Tensor | None:
    """Return `torch.inner`."""
    if input.ndim == 0 or other.ndim == 0:
        return None
    left = string.ascii_lowercase[: input.ndim - 1]
    right = string.ascii_uppercase[: other.ndim - 1]
    return _contract([input, other], [f"{left}Z", f"{right}Z"], left + right)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Return `F.linear`."""
    made = matmul(input, weight.mT if weight.ndim > 1 else weight)
    return made if made is None or bias is None else made + bias


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Any = None) -> Tensor | None:
    """Return `torch.tensordot`."""
    if out is not None or isinstance(dims, Tensor):
        return None
    if isinstance(dims, int):
        pairs = [(a.ndim - dims + i, i) for i in range(dims)]
    else:
        first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
        pairs = [(d % a.ndim, e % b.ndim) for d, e in zip(first, second, strict=True)]
    left = list(string.ascii_lowercase[: a.ndim])
    right = list(string.ascii_uppercase[: b.ndim])
    for d, e in pairs:
        right[e] = left[d]
    shared = {left[d] for d, _ in pairs}
    out = "".join(n for n in (*left, *right) if n not in shared)
    return _contract([a, b], ["".join(left), "".join(right)], out)


def einsum(equation: Any, *operands: Any) -> Tensor | None:
    """Return `torch.einsum`, also where it multiplies only, or sums one operand only."""
    if not isinstance(equation, str):
        equation, operands = _as_equation(equation, *operands)
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        return None
    letters = [n for n in string.ascii_letters if n not in equation]
    spare = max(
        (x.ndim - len(t.replace("...", "")) for x, t in zip(operands, terms, strict=True)),
        default=0,
    )
    dots = "".join(letters[:spare])
    for place, (x, term) in enumerate(zip(operands, terms, strict=True)):
        number = x.ndim - len(term.replace("...", ""))
        terms[place] = term.replace("...", dots[len(dots) - number :] if number else "")
    if arrow:
        out = out.replace("...", dots)
    else:
        all_of = "".join(terms)
        out = dots + "".join(
            sorted(n for n in set(all_of) if all_of.count(n) == 1 and n not in dots)
        )
    if any(len(set(term)) != len(term) for term in (*terms, out)):
        return None
    if all(set(out) >= set(term) for term in terms):
        return _aligned_product(list(operands), terms, out)
    return _contract(list(operands), terms, out)


def _as_equation(*operands: Any) -> tuple[str, tuple[Tensor, ...]]:
    """Return the equation for operands that alternate with lists of dims."""

    def letters(dims: Sequence[Any]) -> str:
        return "".join("..." if d is Ellipsis else string.ascii_letters[d] for d in dims)

    tensors = operands[: len(operands) // 2 * 2 : 2]
    terms = ",".join(letters(dims) for dims in operands[1::2])
    if len(operands) % 2:
        terms += f"->{letters(operands[-1])}"
    return terms, tuple(tensors)


def _contract(operands: list[Tensor], terms: list[str], out: str) -> Tensor | None:
    """Return the sum of products over the labels that are not in `out`.

    Returns:
        None unless it sums over pixels and one operand has all labels, so that the product is no
        larger than that operand.
    """
    sizes: dict[str, Any] = {}
    for x, term in zip(operands, terms, strict=True):
        for size, label in zip(x.shape, term, strict=True):
            if label not in sizes or not isinstance(size, int) or size != 1:
                sizes[label] = size
    summed = [label for label in sizes if label not in out]
    if not any(isinstance(sizes[label], SymInt) for label in summed):
        return None
    wide = {label for label, size in sizes.items() if not isinstance(size, int) or size != 1}
    if not any(wide <= set(term) for term in terms):
        return None
    order = max(terms, key=lambda term: len(wide & set(term)))
    order += "".join(label for label in sizes if label not in order)
    product = _aligned_product(operands, terms, order)
    made = product.sum([order.index(label) for label in summed])
    kept = [label for label in order if label in out]
    return made if kept == list(out) else made.permute([kept.index(label) for label in out])


def _aligned_product(operands: list[Tensor], terms: list[str], order: str) -> Tensor:
    """Return the product of operands, with the dims of their terms in a given order."""
    made: Tensor | None = None
    for x, term in zip(operands, terms, strict=True):
        ranked = sorted(term, key=order.index)
        if ranked != list(term):
            x = x.permute([term.index(label) for label in ranked])
        for place, label in enumerate(order):
            if label not in term:
                x = x.unsqueeze(place)
        made = x if made is None else made * x
    assert made is not None
    return made


CONTRACTIONS: dict[Any, Any] = {
    torch.matmul: matmul,
    Tensor.matmul: matmul,
    Tensor.__matmul__: matmul,
    Tensor.__rmatmul__: lambda a, b: matmul(b, a),
    torch.linalg.matmul: matmul,
    torch.bmm: bmm,
    Tensor.bmm: bmm,
    torch.mm: bmm,
    Tensor.mm: bmm,
    torch.mv: dot,
    Tensor.mv: dot,
    torch.dot: dot,
    Tensor.dot: dot,
    torch.vdot: dot,
    Tensor.vdot: dot,
    torch.inner: inner,
    Tensor.inner: inner,
    F.linear: linear,
    torch.tensordot: tensordot,
    torch.einsum: einsum,
}
"""By function, the form of it that sums an elementwise product."""
