"""Which operations on a map can be deferred until a reduction follows."""

import pytest
from captured import capture_function

from glocal.conversion.rewrite.classify import classify
from glocal.conversion.rewrite.deferred import shape_of
from glocal.conversion.rewrite.polynomials import Affine, Centred, maps_of
from glocal.conversion.rewrite.roles import AtPixels, Combined, Ordinary, Rearranged


def mean(x):
    return x.mean((2, 3), keepdim=True)


FORMS = {  # the last operation of a function of (block, x): the form of its result
    "difference": (lambda m, x: x - mean(x), "1 term and a constant"),
    "difference the other way": (lambda m, x: mean(x) - x, "1 term and a constant"),
    "negative": (lambda m, x: -(mean(x) - x), "1 term and a constant"),
    "gate": (lambda m, x: x * mean(x), "1 term"),
    "quotient": (lambda m, x: x / mean(x), "1 term"),
    "sum of maps": (lambda m, x: (x - mean(x)) + m.wide(x), "2 terms and a constant"),
    "difference of one map": (lambda m, x: (x * mean(x)) - x, "1 term"),
    "centred square": (lambda m, x: (x - mean(x)) ** 2, "degree 2"),
    "scaled square": (lambda m, x: (x * mean(x)).square() / mean(x), "1 term"),
    "square of a square": (lambda m, x: ((x - mean(x)) ** 2) ** 2, "degree 4"),
    "fourth power": (lambda m, x: (x - mean(x)).pow(4), "degree 4"),
    "fifth power": (lambda m, x: (x - mean(x)).pow(4) * x, None),
    "product with a map": (lambda m, x: (x * mean(x)) * x, "1 term"),
    "shifted product with a map": (lambda m, x: (x + mean(x)) * x, "degree 2"),
    "exponential of a difference": (lambda m, x: (x - mean(x)).exp(), "1 term"),
    "exponential of a product": (lambda m, x: (x * mean(x)).exp(), None),
    "sum with an exponential": (
        lambda m, x: (x - mean(x)).exp() + mean(x), "1 term and a constant"
    ),
    "relu of a product": (lambda m, x: (x * mean(x)).relu(), "2 terms"),
    "relu of a difference": (lambda m, x: (x - mean(x)).relu(), None),
    "reciprocal": (lambda m, x: mean(x) / x, None),
    "root": (lambda m, x: (x + mean(x)).sqrt(), None),
    "quotient of integers": (lambda m, x: x.div(mean(x), rounding_mode="floor"), None),
    "sum with a factor": (lambda m, x: x.add(mean(x), alpha=2), "1 term and a constant"),
    "maximum": (lambda m, x: x.maximum(mean(x)), None),
    "flattened": (lambda m, x: (x - mean(x)).flatten(2), "1 term and a constant"),
    "one part": (lambda m, x: (x - mean(x)).chunk(2, 1)[1], "1 term and a constant"),
    "some channels": (lambda m, x: (x - mean(x))[:, 1:3], "1 term and a constant"),
    "channels last": (lambda m, x: (x - mean(x)).permute(0, 2, 3, 1), "1 term and a constant"),
    "some rows": (lambda m, x: (x - mean(x))[:, :, 1:], None),
    "a layer": (lambda m, x: m.conv(x - mean(x)), None),
}  # fmt: skip


def described(form):
    if isinstance(form, Centred):
        return f"degree {max(map(len, form.terms))}"
    assert isinstance(form, Affine)
    terms = f"{len(form.terms)} term{'s'[: len(form.terms) > 1]}"
    return terms + (" and a constant" if form.constant is not None else "")


@pytest.mark.parametrize("name", FORMS)
def test_what_is_deferred(name):
    function, wanted = FORMS[name]
    block = capture_function(function)
    (output,) = block.outputs
    role = classify(block).roles[output]
    if wanted is None:
        assert isinstance(role, AtPixels | Ordinary)
    else:
        assert isinstance(role, Combined | Rearranged)
        assert described(role.polynomial) == wanted
        shapes = [shape_of(block, m) for m in maps_of(role.polynomial)]
        assert set(shapes) == {block.shapes[output][0]}
