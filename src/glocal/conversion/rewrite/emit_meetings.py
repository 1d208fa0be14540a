"""Emit products and filters that combine statistics with each pixel."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from glocal.conversion.rewrite import at_pixels, runtime
from glocal.conversion.rewrite.emission import Emission, Value
from glocal.conversion.rewrite.meeting import pixels_of
from glocal.conversion.rewrite.nodes import argument
from glocal.conversion.rewrite.roles import FilterAtPixels, MixtureAtPixels, ProductAtPixels
from glocal.conversion.rewrite.window_statistics import (
    broadcastable,
    needs_resize,
    operand_on_windows,
    stacked,
)

__all__ = ["emit_filter", "emit_mixture", "emit_product"]


def emit_product(emission: Emission, node: fx.Node, role: ProductAtPixels) -> None:
    """Emit a product of each pixel and the statistics of its window."""
    product, block = role.product, emission.block
    where = block.require_map_dims(node)

    def factor(operand: fx.Node) -> Value:
        if operand in emission.statistics:
            return _map_of_windows(emission, operand, node)
        value = emission.value(operand)
        if block.is_spatial(operand):
            place = pixels_of(block, operand)
            assert place is not None
            size = emission.flat_sizes(operand) if place.rows == place.columns else None
            return emission.call(runtime.as_map, value, place, size)
        return emission.call(at_pixels.with_pixel, value)

    made = emission.call(
        at_pixels.product_at_pixels,
        [factor(operand) for operand in product.operands],
        list(product.terms),
        product.result,
        product.summed,
    )
    made = emission.call(runtime.from_map, made, where)
    if product.added is not None:
        known = emission.statistics.get(product.added)
        added = (
            emission.value(product.added) if known is None else broadcastable(emission, known, node)
        )
        made = emission.call(torch.add, made, added)
    emission.define(node, made)


def emit_filter(emission: Emission, node: fx.Node, role: FilterAtPixels) -> None:
    """Emit a convolution with the filter of each pixel's window."""
    given = role.filter
    made = emission.call(
        at_pixels.filter_at_pixels,
        emission.value(given.source),
        _map_of_windows(emission, given.weight, node),
        None if given.bias is None else _map_of_windows(emission, given.bias, node),
        given.shape,
        _pair(argument(node, "stride")),
        given.padding,
        _pair(argument(node, "dilation")),
    )
    emission.define(node, made)


def emit_mixture(emission: Emission, node: fx.Node, role: MixtureAtPixels) -> None:
    """Emit the result for each tensor of a weighted sum, and the sum for each pixel."""
    mixture, block = role.mixture, emission.block
    known = emission.statistics[mixture.weights]
    number = math.prod(known.form.item_shape)
    images = emission.call(runtime.length, emission.example(), 0)
    values = {
        mixture.weights: emission.call(
            at_pixels.unit_weights, stacked(emission, known), number, images
        )
    }
    windows = replace(known.windows, count=number)
    for step in mixture.steps:
        on_windows = operand_on_windows(emission, replace(known, windows=windows))
        values[step] = emission.run(step, lambda n: values.get(n) or on_windows(n))  # noqa: B023
    (last,) = tuple(values)[-1:]
    weights = _map_of_windows(emission, mixture.weights, node)
    where = None if mixture.in_channels else block.require_map_dims(node)
    size = emission.flat_sizes(node) if where else None
    total: Value | None = None
    for index in range(number):
        part = emission.call(at_pixels.part_of, values[last], number, index)
        made = emission.run(node, lambda n: part if n is last else emission.value(n))  # noqa: B023
        total = emission.call(at_pixels.plus_weighted, total, made, weights, index, where, size)
    assert total is not None
    emission.define(node, total)


def _pair(lengths: Any) -> list[int]:
    return [lengths[0], lengths[-1]]


def _map_of_windows(emission: Emission, statistic: fx.Node, node: fx.Node) -> Value:
    """Return a statistic or value per image as a map (n, *item, h, w) for `node`."""
    known = emission.statistics[statistic]
    resize = needs_resize(emission, known, node)
    size = emission.sizes(node) if resize else None
    windows = stacked(emission, known)
    return emission.call(at_pixels.map_of_windows, windows, known.grid, size)
