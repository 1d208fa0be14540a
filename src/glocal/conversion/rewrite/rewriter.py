"""Rewrite a captured block: statistics become maps, regions run on windows.

`classify` decides the role of every node; then the nodes are emitted in order, each role by one
function:

- What depends on no statistic is emitted as it is.
- A reduction over the map becomes a window statistic. Operations that follow run on the
  statistics of all windows at once, stacked on the batch dim, with every size in them replaced by
  that of a window, until a statistic meets pixels and becomes a map.
- Arithmetic of a map and statistics is deferred, so that a reduction of it (a variance written by
  hand, a softmax) can be computed from window statistics.
- Regions that mix pixels (attention, grids) run on overlapping windows.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import fx, nn

from glocal.conversion.rewrite import runtime
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.classify import Classification, classify
from glocal.conversion.rewrite.dtypes import make_symbolic
from glocal.conversion.rewrite.emission import Emission, WindowStatistic
from glocal.conversion.rewrite.emit_meetings import emit_filter, emit_mixture, emit_product
from glocal.conversion.rewrite.emit_reductions import DeferredValues, emit_norm
from glocal.conversion.rewrite.joined_strips import emit_on_joined, emit_part
from glocal.conversion.rewrite.nodes import line_of, operation
from glocal.conversion.rewrite.padding import Padded, padded_maps, padding_below_statistic
from glocal.conversion.rewrite.program import DTYPE, Program
from glocal.conversion.rewrite.regions import regions
from glocal.conversion.rewrite.roles import (
    Alias,
    AtPixels,
    Combined,
    FilterAtPixels,
    HalfReduction,
    InWindows,
    MapReduction,
    MixtureAtPixels,
    Norm,
    NormOfCombined,
    OnJoined,
    OnStatistics,
    Ordinary,
    PixelSoftmax,
    ProductAtPixels,
    Rearranged,
    ScaledSoftmax,
    StripPart,
    ViewedSoftmax,
)
from glocal.conversion.rewrite.window_statistics import (
    at_pixels,
    emit_alias,
    emit_at_pixels,
    emit_on_statistics,
    emit_ordinary,
)
from glocal.conversion.rewrite.windowed_regions import WindowedRegions
from glocal.errors import ConversionError
from glocal.ops.windows import LEAST, Overlap, Size

__all__ = ["program_of", "rewrite"]


def rewrite(
    block: Block,
    window_of: Callable[[Size], Size],
    train_window_of: Callable[[Size], Size],
    overlap: Overlap = LEAST,
) -> Program:
    """Return the local form of a block.

    Args:
        block: from `capture`.
        window_of: (height, width) of the window on a map, from the size of the map in the first
            run of the scan.
        train_window_of: the same for operations that mix the cells of a grid.
        overlap: of the windows of regions that mix pixels.

    Raises:
        ConversionError: it has no known local form; the message says why.
    """
    found = regions(block)
    if not found:  # nothing mixes the cells of a grid
        block = replace(block, cells_are_channels=True)
    classification = classify(block, found)
    padded = _padded(block, classification)
    emission = Emission(block, window_of, padded)
    _emit(emission, classification, WindowedRegions(emission, train_window_of, overlap))
    program = program_of(emission, follows_law=classification.follows_law_of_windows)
    guards = program.guards if padded else (*program.guards, *block.padding_guards)
    return replace(program, guards=guards, follows_padding=bool(padded))


def _padded(block: Block, classification: Classification) -> dict[fx.Node, Padded]:
    """Return how maps are padded; nothing if the captured padding is the only one.

    Raises:
        ConversionError: a statistic of a padded map has no known local form.
    """
    if block.follows_padding:
        with suppress(ConversionError):
            return padded_maps(block, classification.roles)
    pad = padding_below_statistic(block, classification.roles)
    if pad is not None:
        raise ConversionError(
            f"it pads the map{line_of(pad)} by an amount that depends on the image size, and uses "
            "a statistic of the padded map in a way that has no local form"
        )
    return {}


def _emit(emission: Emission, classification: Classification, regions: WindowedRegions) -> None:
    """Emit all nodes in order, and the output."""
    deferred = DeferredValues(emission)
    joined: dict[fx.Node, list[WindowStatistic]] = {}
    emitters: dict[type, Callable[[fx.Node, Any], None]] = {
        Ordinary: lambda node, _: emit_ordinary(emission, node),
        InWindows: regions.emit,
        Norm: lambda node, role: emit_norm(emission, node, role),
        HalfReduction: lambda node, _: emission.defer(node, lambda: _refuse_half(node)),
        MapReduction: deferred.emit_map_reduction,
        OnStatistics: lambda node, role: emit_on_statistics(emission, node, role),
        Alias: lambda node, role: emit_alias(emission, node, role),
        Combined: lambda node, _: emission.defer(node, lambda: at_pixels(emission, node)),
        Rearranged: lambda node, _: emission.defer(
            node, lambda: emission.run(node, emission.value)
        ),
        NormOfCombined: deferred.emit_norm_of_combined,
        AtPixels: lambda node, _: emit_at_pixels(emission, node),
        ProductAtPixels: lambda node, role: emit_product(emission, node, role),
        FilterAtPixels: lambda node, role: emit_filter(emission, node, role),
        MixtureAtPixels: lambda node, role: emit_mixture(emission, node, role),
        PixelSoftmax: deferred.emit_pixel_softmax,
        ViewedSoftmax: deferred.emit_viewed_softmax,
        ScaledSoftmax: deferred.emit_scaled_softmax,
        OnJoined: lambda node, role: emit_on_joined(emission, joined, node, role),
        StripPart: lambda node, role: emit_part(emission, joined, node, role),
    }
    block = emission.block
    for node in block.graph.nodes:
        if node in classification.roles:
            role = classification.roles[node]
            emitters[type(role)](node, role)
    values = [emission.value(v) if isinstance(v, fx.Node) else v for v in block.outputs]
    values += [emission.value(node) for _, node in block.mutated]
    emission.graph.output(tuple(values))


def _refuse_half(node: fx.Node) -> Any:
    raise ConversionError(f"{operation(node)} reduces one axis of the map only")


def program_of(
    emission: Emission, keep: Collection[Callable[..., Any]] = (), *, follows_law: bool = False
) -> Program:
    """Return the emitted graph without dead code, as a program.

    Args:
        emission: a finished one.
        keep: functions whose calls stay although nothing reads their results.
        follows_law: as `classify.Classification.follows_law_of_windows`.
    """
    block, graph = emission.block, emission.graph
    make_symbolic(graph, block.floats, DTYPE)
    graph.eliminate_dead_code(
        lambda node: node.op in ("placeholder", "output") or node.target in keep
    )
    for node in graph.find_nodes(op="placeholder"):
        if not node.users:
            graph.erase_node(node)
    _unify_precision(graph)
    reads = tuple(str(node.target) for node in graph.find_nodes(op="placeholder"))
    return Program(
        block.inputs,
        block.call,
        {name: path for name, path in block.parameters.items() if name in reads},
        {name: tensor for name, tensor in block.constants.items() if name in reads},
        fx.GraphModule(nn.Module(), graph),
        reads,
        block.returns,
        tuple(place for place, _ in block.mutated),
        block.guards,
        follows_law,
        _returned_arguments(block),
        block.floats.dtype if block.floats.types else None,
    )


def _returned_arguments(block: Block) -> dict[int, int]:
    """Return which results are an argument that the block writes to, by position."""
    written = {node: place for place, node in block.mutated}
    return {
        place: written[value]
        for place, value in enumerate(block.outputs)
        if isinstance(value, fx.Node) and value in written
    }


def _unify_precision(graph: fx.Graph) -> None:
    """Make all statistics exact if one is a maximum, which always is.

    A fast statistic has values for fewer windows, and would not fit the maximum where they meet.
    """
    statistics = graph.find_nodes(op="call_function", target=runtime.window_statistic)
    if any(node.args[1] in ("amax", "amin") for node in statistics):
        for node in graph.nodes:
            if "precision" in node.kwargs:
                node.kwargs = {**node.kwargs, "precision": "exact"}
