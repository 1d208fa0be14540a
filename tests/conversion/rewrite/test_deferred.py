"""Which operations on a map can be deferred until a reduction follows."""

import pytest
from captured import capture_function, nodes_of

from glocal.conversion.rewrite.classify import classify
from glocal.conversion.rewrite.deferred import DeferredChain
from glocal.conversion.rewrite.nodes import operation
from glocal.conversion.rewrite.roles import AtPixels, ChainStep


def mean(x):
    return x.mean((2, 3), keepdim=True)


CHAINS = {  # the last operation of the function: the steps of its chain, or None
    "centred square": (lambda x: (x - mean(x)) ** 2, ["sub", "pow"]),
    "scaled square": (lambda x: (x * mean(x)).square() / mean(x), ["mul", "square", "div"]),
    "negative": (lambda x: -(mean(x) - x), ["sub", "neg"]),
    "square of a square": (lambda x: ((x - mean(x)) ** 2) ** 2, None),
    "exponential of a difference": (lambda x: (x - mean(x)).exp(), ["sub", "exp"]),
    "exponential of a product": (lambda x: (x * mean(x)).exp(), None),
    "sum with an exponential": (lambda x: (x - mean(x)).exp() + mean(x), None),
    "scaled exponential": (lambda x: (x - mean(x)).exp() / mean(x), ["sub", "exp", "div"]),
    "product with a map": (lambda x: (x * mean(x)) * x, ["mul", "mul"]),
    "shifted product with a map": (lambda x: (x + mean(x)) * x, None),
    "reciprocal": (lambda x: mean(x) / x, None),
    "root": (lambda x: (x + mean(x)).sqrt(), None),
}


@pytest.mark.parametrize("name", CHAINS)
def test_what_is_deferred(name):
    function, wanted = CHAINS[name]
    block = capture_function(lambda m, x: function(x))
    (output,) = block.outputs
    role = classify(block).roles[output]
    if wanted is None:
        assert isinstance(role, AtPixels)
    else:
        assert isinstance(role, ChainStep)
        assert [operation(step) for step in role.chain.steps] == wanted


@pytest.fixture(scope="module")
def nodes():
    def function(m, x):
        statistic = mean(x)
        return ((x + statistic).exp() * statistic) * ((x - statistic).square() * x)

    block = capture_function(function)
    found = {name: nodes_of(block, name) for name in ("add", "exp", "mul", "sub", "square")}
    return {name: each[0] for name, each in found.items()} | {
        "x": next(iter(block.graph.nodes)),
        "other": found["mul"][1],
    }


def test_a_chain_without_steps_takes_everything(nodes):
    chain = DeferredChain(nodes["x"])
    assert chain.base is nodes["x"]
    assert chain.takes_exp
    assert chain.takes_factor
    assert not any([chain.has_square, chain.has_exp, chain.is_centred])


def test_properties_of_a_chain(nodes):
    x = DeferredChain(nodes["x"])
    added, scaled = x.then(nodes["add"]), x.then(nodes["mul"])
    squared, raised = added.then(nodes["square"]), added.then(nodes["exp"])
    assert added.is_centred
    assert not added.takes_factor
    assert scaled.takes_factor
    assert not scaled.is_centred
    assert squared.has_square
    assert not squared.takes_factor
    assert raised.has_exp
    assert raised.takes_factor
    assert not raised.takes_exp


def test_the_last_factor_has_the_shape_of_the_map_to_reduce(nodes):
    chain = DeferredChain(nodes["x"]).then(nodes["mul"]).times(nodes["other"])
    assert chain.base is nodes["other"]
    assert chain.steps == (nodes["mul"], nodes["other"])
    assert chain.factors == (nodes["other"],)
