"""Maps that combine pixels and statistics, as polynomials.

Under the law of windows a map y that was computed from pixels and statistics has other values in
every window. But y = a·x + b, with statistics a and b, has the mean a·mean(x) + b, the variance
a²·var(x) and so on: statistics of y follow from those of x. Two forms are kept:

- `Affine`: the sum of maps, each times a coefficient, and of a constant.
- `Centred`: products of deviations of maps from their means over the window, each times a
  coefficient. Affine maps are multiplied in this form, so that a variance never is the difference
  of two large squares.

Everything here is symbolic; `emit_polynomials` emits it.

A few lines above 300: the arithmetic of the two forms is read together.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.nodes import operation
from glocal.conversion.rewrite.terms import (
    Applied,
    Coefficient,
    Exponential,
    Given,
    Moment,
    Product,
    Rearranged,
    Shift,
    Source,
    Total,
    Viewed,
    compute,
    parts_of,
)

__all__ = [
    "Affine",
    "Centred",
    "Polynomial",
    "exponential",
    "has_views",
    "maps_of",
    "mean",
    "minus",
    "operands_in",
    "plus",
    "power",
    "raised",
    "scaled",
    "square",
    "stretched",
    "times",
    "variance",
    "viewed",
]

HIGHEST_DEGREE = 4


@dataclass(frozen=True, eq=False)
class Affine:
    """The sum of maps times coefficients and of a constant.

    Attributes:
        terms: coefficients by map; None for 1.
        constant: None for 0.
    """

    terms: dict[Source, Coefficient | None]
    constant: Coefficient | None = None

    @property
    def is_unscaled(self) -> bool:
        """True if it is a map without statistics plus a constant."""
        return all(c is None for c in self.terms.values())

    @property
    def whole(self) -> Source:
        """The sum of the maps of an unscaled one."""
        maps = tuple(self.terms)
        return maps[0] if len(maps) == 1 else Total(maps)


@dataclass(frozen=True, eq=False)
class Centred:
    """The sum of coefficients times products of deviations from window means.

    Attributes:
        terms: coefficients by the maps of the product, in a fixed order; None for 1.
    """

    terms: dict[tuple[Source, ...], Coefficient | None]


Polynomial = Affine | Centred


def _product(a: Coefficient | None, b: Coefficient | None) -> Coefficient | None:
    if a is None or b is None:
        return b if a is None else a
    return compute(operator.mul, a, b)


def _sum(a: Coefficient | None, b: Coefficient | None) -> Coefficient:
    """Return the sum of coefficients that stand for 1 where they are None."""
    return compute(operator.add, 1.0 if a is None else a, 1.0 if b is None else b)


def _merged(*each: dict[Any, Coefficient | None]) -> dict[Any, Coefficient | None]:
    made: dict[Any, Coefficient | None] = {}
    for terms in each:
        for key, coefficient in terms.items():
            made[key] = _sum(made[key], coefficient) if key in made else coefficient
    return made


def _centred(p: Polynomial) -> Centred:
    if isinstance(p, Centred):
        return p
    terms: dict[tuple[Source, ...], Coefficient | None] = {(m,): c for m, c in p.terms.items()}
    terms[()] = mean(p)
    return Centred(terms)


def plus(a: Polynomial, b: Polynomial) -> Polynomial:
    """Return the sum of two polynomials."""
    if isinstance(a, Affine) and isinstance(b, Affine):
        constants = [c for c in (a.constant, b.constant) if c is not None]
        constant: Coefficient | None = constants[0] if constants else None
        if len(constants) == 2:
            constant = compute(operator.add, *constants)
        return Affine(_merged(a.terms, b.terms), constant)
    return Centred(_merged(_centred(a).terms, _centred(b).terms))


def raised(p: Polynomial, by: Coefficient) -> Polynomial:
    """Return the sum of a polynomial and a coefficient."""
    if isinstance(p, Affine):
        constant = by if p.constant is None else compute(operator.add, p.constant, by)
        return Affine(p.terms, constant)
    return Centred(_merged(p.terms, {(): by}))


def scaled(
    p: Polynomial, by: Coefficient, function: Callable[..., Any] = operator.mul
) -> Polynomial:
    """Return a polynomial times, or divided by, a coefficient."""

    def scale(c: Coefficient | None) -> Coefficient:
        if c is None:
            return by if function is operator.mul else compute(function, 1.0, by)
        return compute(function, c, by)

    if isinstance(p, Affine):
        constant = None if p.constant is None else scale(p.constant)
        return Affine({m: scale(c) for m, c in p.terms.items()}, constant)
    return Centred({maps: scale(c) for maps, c in p.terms.items()})


def minus(p: Polynomial) -> Polynomial:
    """Return the negative of a polynomial."""
    return scaled(p, Given(-1.0))


def times(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """Return the product of two polynomials; None if its degree is too high."""
    if isinstance(a, Affine) and isinstance(b, Affine) and a.constant is b.constant is None:
        products = [
            {Product(*_ordered(m, n)): _product(c, d)}
            for m, c in a.terms.items()
            for n, d in b.terms.items()
        ]
        return Affine(_merged(*products))
    left, right = _centred(a).terms, _centred(b).terms
    if max(map(len, left)) + max(map(len, right)) > HIGHEST_DEGREE:
        return None
    return Centred(
        _merged(
            *(
                {_ordered(*maps, *others): _product(c, d)}
                for maps, c in left.items()
                for others, d in right.items()
            )
        )
    )


def _ordered(*maps: Source) -> tuple[Source, ...]:
    return tuple(sorted(maps, key=str))


def power(p: Polynomial, exponent: int) -> Polynomial | None:
    """Return a power of a polynomial; None if its degree is too high."""
    made: Polynomial | None = p
    for _ in range(exponent - 1):
        made = None if made is None else times(made, p)
    return made


def square(p: Polynomial) -> Polynomial | None:
    """Return the square of a polynomial; None if its degree is too high."""
    return times(p, p)


def stretched(p: Polynomial, node: fx.Node) -> Polynomial | None:
    """Return f(p) for a pointwise operation with f(a·x) = a·f(x) for all a ≥ 0.

    Returns:
        None unless p is one map times a coefficient.
    """
    if isinstance(p, Centred) or p.constant is not None or len(p.terms) != 1:
        return None
    ((of, by),) = p.terms.items()
    if by is None:
        return Affine({Applied(node, of): None})
    if operation(node) == "abs":
        return Affine({Applied(node, of): compute(abs, by)})
    return Affine(
        {
            Applied(node, of): compute(runtime.positive_part, by),
            Applied(node, of, negative=True): compute(
                runtime.positive_part, compute(operator.neg, by)
            ),
        }
    )


def exponential(p: Polynomial) -> Polynomial | None:
    """Return exp(p) for a map plus a constant; None for other polynomials."""
    if isinstance(p, Centred) or not p.is_unscaled:
        return None
    of = Exponential(p.whole)
    exponent: Coefficient = Shift(of)
    if p.constant is not None:
        exponent = compute(operator.add, exponent, p.constant)
    return Affine({of: compute(torch.exp, exponent)})


def viewed(p: Polynomial, steps: Sequence[fx.Node], item_shape: tuple[int, ...]) -> Polynomial:
    """Return the views of nodes of a polynomial whose maps all have its shape.

    Args:
        p: the polynomial.
        steps: the nodes, one after the other.
        item_shape: of the polynomial, without the batch and with one pixel.
    """
    nodes = tuple(steps)

    def view(c: Coefficient | None) -> Coefficient | None:
        return None if c is None else Viewed(nodes, c, item_shape)

    def moved(m: Source) -> Source:
        return Rearranged(nodes, m)

    if isinstance(p, Affine):
        return Affine({moved(m): view(c) for m, c in p.terms.items()}, view(p.constant))
    return Centred({tuple(map(moved, maps)): view(c) for maps, c in p.terms.items()})


# ---- statistics of polynomials, over the pixels of a window


def mean(p: Polynomial) -> Coefficient:
    """Return the mean over the window."""
    if isinstance(p, Affine):
        means = [_product(c, Moment((m,))) for m, c in p.terms.items()]
        parts = [*means, *([] if p.constant is None else [p.constant])]
    else:
        parts = [
            _product(c, Moment(maps)) if maps else c
            for maps, c in p.terms.items()
            if len(maps) != 1
        ]
    made = [Given(1.0) if part is None else part for part in parts]
    total: Coefficient = made[0]
    for part in made[1:]:
        total = compute(operator.add, total, part)
    return total


def variance(p: Polynomial) -> Coefficient | None:
    """Return the biased variance over the window, or None if the degree is too high."""
    deviation = raised(_centred(p), compute(operator.neg, mean(p)))
    if isinstance(p, Affine):  # exactly
        deviation = Centred({(m,): c for m, c in p.terms.items()})
    squares = square(deviation)
    return None if squares is None else compute(torch.clamp_min, mean(squares), 0)


def maps_of(p: Polynomial) -> list[Source]:
    """Return the maps of which a polynomial is made."""
    if isinstance(p, Affine):
        return list(p.terms)
    return list(dict.fromkeys(m for maps in p.terms for m in maps))


def _coefficients(p: Polynomial) -> list[Coefficient | None]:
    constant = [p.constant] if isinstance(p, Affine) else []
    return [*p.terms.values(), *constant]


def operands_in(p: Polynomial) -> list[fx.Node]:
    """Return the nodes whose values are in the coefficients of a polynomial."""
    found = [
        part.value for c in _coefficients(p) for part in parts_of(c) if isinstance(part, Given)
    ]
    return [value for value in dict.fromkeys(found) if isinstance(value, fx.Node)]


def has_views(p: Polynomial) -> bool:
    """True if a coefficient of a polynomial was viewed."""
    return any(isinstance(part, Viewed) for c in _coefficients(p) for part in parts_of(c))
