"""Decide what each node of a captured block becomes in its local form.

Above 300 lines: the decisions depend on each other and are read together.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from torch import fx

from glocal.conversion.rewrite import polynomials
from glocal.conversion.rewrite.arguments import TooSmallError
from glocal.conversion.rewrite.block import Block
from glocal.conversion.rewrite.deferred import (
    SHAPED,
    DeferredSoftmax,
    axes_of,
    combine,
    has_weights,
    rearrange,
)
from glocal.conversion.rewrite.joined_strips import join, on_joined
from glocal.conversion.rewrite.meeting import MOST_VALUES, filter_of, product_of
from glocal.conversion.rewrite.mixtures import mixture_of
from glocal.conversion.rewrite.nodes import (
    NORMS,
    REDUCTIONS,
    SOFTMAX,
    argument,
    cuts,
    ignores_neighbours,
    is_pointwise,
    is_size,
    is_view,
    operation,
    tensor_inputs,
)
from glocal.conversion.rewrite.owners import is_of_others
from glocal.conversion.rewrite.polynomials import Affine, Polynomial
from glocal.conversion.rewrite.reductions import (
    Reduction,
    kind_text,
    norm_groups,
    statistic_of,
)
from glocal.conversion.rewrite.regions import Region, regions
from glocal.conversion.rewrite.roles import (
    Alias,
    AtPixels,
    Combined,
    FilterAtPixels,
    HalfReduction,
    InWindows,
    Joined,
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
    Role,
    ScaledSoftmax,
    StripPart,
    ViewedSoftmax,
)
from glocal.conversion.rewrite.statistic_forms import StatisticForm, expands, form_after
from glocal.conversion.rewrite.strip_reductions import (
    StripMixingError,
    has_second_half,
    strip_reductions,
)
from glocal.conversion.rewrite.terms import Plain, nodes_of
from glocal.errors import ConversionError

__all__ = ["Classification", "classify"]


@dataclass(frozen=True)
class Classification:
    """The roles of the nodes of a block.

    Attributes:
        roles: by node; inputs, sizes and the output have none.
        follows_law_of_windows: True if the block mixes pixels by statistics of its inputs alone,
            so that its local form at a pixel is the block on the window of that pixel.
    """

    roles: dict[fx.Node, Role]
    follows_law_of_windows: bool


def classify(block: Block, found: Sequence[Region] | None = None) -> Classification:
    """Decide the role of every node of a block.

    Args:
        block: the block.
        found: its regions, if they are known.

    Raises:
        TooSmallError: a statistic leaves the block; a larger block may have a local form.
        ConversionError: the block has no known local form; the message says why.
    """
    for item in block.globals.values():
        if item.refusal or item.kind in ("selection", "unknown"):
            raise ConversionError(item.reason)
    try:
        return _classify(block, regions(block) if found is None else found)
    except StripMixingError:
        with suppress(ConversionError):
            return _classify(block, regions(block, strip_reductions(block)))
        raise


def _classify(block: Block, found: Sequence[Region]) -> Classification:
    """Decide the roles, with these regions on windows of the map."""
    classifier = _Classifier(block, found)
    for node in block.graph.nodes:
        if node.op == "call_function" and not is_size(node):
            classifier.visit(node)
    for node, role in classifier.roles.items():
        if isinstance(role, InWindows | OnStatistics | OnJoined) and block.mixes_images(node):
            raise ConversionError(f"{operation(node)} mixes or selects the images of a batch")
    returned = [n for n in block.outputs if isinstance(n, fx.Node)]
    for node in (*returned, *(node for _, node in block.mutated)):
        classifier.require_map(node, "is returned by the block")
    return Classification(classifier.roles, classifier.follows_law)


class _Classifier:
    """Goes through the nodes in order and remembers what their values are made of."""

    def __init__(self, block: Block, found: Sequence[Region]) -> None:
        self.block = block
        self.region_of = {node: region for region in found for node in region.nodes}
        self.roles: dict[fx.Node, Role] = {}
        self.statistics: dict[fx.Node, StatisticForm] = {}
        self.polynomials: dict[fx.Node, Polynomial] = {}
        self.softmaxes: dict[fx.Node, DeferredSoftmax] = {}
        self.halves: dict[fx.Node, HalfReduction] = {}
        self.joined: dict[fx.Node, Joined] = {}
        self.splits: set[fx.Node] = set()
        # Other maps that combine pixels with statistics, up to the next layer with weights; and
        # the operation that made each one other than a polynomial.
        self.combined: dict[fx.Node, str] = {}
        # Maps that were padded or cut, up to the next layer with weights, and the maps before.
        self.cut: dict[fx.Node, tuple[str, fx.Node]] = {}
        # All maps that depend on a statistic.
        self.dependent: set[fx.Node] = set()
        self.follows_law = not self.region_of

    def visit(self, node: fx.Node) -> None:
        """Decide the role of a node whose operands have theirs."""
        if node in self.region_of:
            for operand in tensor_inputs(node):
                self.require_map(operand, f"is an operand of {operation(node)}, which mixes pixels")
            self.roles[node] = InWindows(self.region_of[node])
            return
        if node in self.roles:  # one of several results of a reduction
            return
        name, operands = operation(node), tensor_inputs(node)
        item = self.block.globals.get(node)
        if item and self._starts_anew(node, operands[0]):
            self._visit_anew(node, operands[0])
            return
        self.follows_law &= ignores_neighbours(node) and not self.block.has_cells(node)
        if item and self._mixes_cells(node, operands[0]):
            raise ConversionError(f"{name} reduces a map that is cut into a grid of cells")
        self._note_cut(node, operands)
        if name == "getitem" and operands[0] in self.halves:
            self._set(node, self.halves[operands[0]])
        elif any(n in self.joined for n in operands):
            self._set(node, on_joined(self.block, node, self.joined, self.splits))
        elif item and name in NORMS:
            self.roles[node] = self._norm(node)
            self.follows_law &= operands[0] not in self.dependent
            self.dependent.add(node)
        elif item and name in SOFTMAX:
            self._set(node, self._softmax(node))
        elif name in REDUCTIONS and (item or operands[0] in self.halves):
            self._reduction(node, operands[0])
        elif any(n in self.halves and n not in self.statistics for n in operands):
            raise ConversionError(f"{name} of a map whose rows or columns were reduced alone")
        elif item:
            on_strips = any(n in self.statistics and self.statistics[n].kept for n in operands)
            raise (StripMixingError if on_strips else ConversionError)(item.reason)
        elif joined := join(self.block, node, self.statistics):
            self._set(node, OnJoined(joined))
        elif any(n in self.softmaxes for n in operands):
            self._set(node, self._of_softmax(node, operands))
        elif name in SHAPED:
            self.roles[node] = Ordinary()
        elif is_pointwise(node):
            self._set(node, self._pointwise(node, operands))
        elif view := rearrange(self.block, node, self.polynomials, self.statistics):
            self._set(node, Rearranged(view))
        elif any(n in self.statistics and not self._is_expanded(n) for n in operands):
            self._set(node, self._of_statistics(node, operands))
        else:
            self._set(node, Ordinary())

    def _visit_anew(self, node: fx.Node, source: fx.Node) -> None:
        """Decide the role of a global operation whose source is an ordinary map for it."""
        polynomial, combined = self.polynomials.pop(source, None), self.combined.pop(source, None)
        self.visit(node)
        if polynomial is not None:
            self.polynomials[source] = polynomial
        if combined is not None:
            self.combined[source] = combined

    def _starts_anew(self, node: fx.Node, source: fx.Node) -> bool:
        """True for a reduction of a map whose statistics belong to other modules."""
        is_mixed = source in self.polynomials or source in self.combined
        return is_mixed and is_of_others(self.block, node, source)

    def _mixes_cells(self, node: fx.Node, source: fx.Node) -> bool:
        """True unless each cell of a grid has its own statistic."""
        block = self.block
        if source not in block.shapes or not block.has_cells(source):
            return False
        if operation(node) not in REDUCTIONS:
            return True
        dims = Reduction.of(block, node).dims
        return any(block.counts_cells(block.dims[source][d]) for d in dims)

    def _set(self, node: fx.Node, role: Role | None) -> None:
        """Note a role and what it says of the value."""
        if role is None:  # it splits joined strips: its results have roles
            self.joined[node] = self.joined[tensor_inputs(node)[0]]
            return
        self.roles[node] = role
        match role:
            case HalfReduction():
                self.halves[node] = role
            case OnJoined():
                self.joined[node] = role.joined
            case MapReduction() | OnStatistics() | Alias() | StripPart():
                self.statistics[node] = role.form
            case Combined() | Rearranged():
                self.polynomials[node] = role.polynomial
                self.dependent.add(node)
            case PixelSoftmax() | ViewedSoftmax() | ScaledSoftmax():
                self.softmaxes[node] = role.softmax
            case ProductAtPixels() | FilterAtPixels() | MixtureAtPixels():
                self.combined[node] = operation(node)
                self.dependent.add(node)
            case AtPixels() | Ordinary():
                operands = tensor_inputs(node)
                if any(n in self.dependent or self._is_local(n) for n in operands):
                    self.dependent.add(node)
                    self._note_combined(node, operands)

    def _note_combined(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """Note that a map combines pixels with statistics, unless it comes from a layer."""
        if has_weights(self.block, node):
            return
        made = next((self.combined[n] for n in operands if n in self.combined), None)
        if made is None and any(self._is_local(n) for n in operands):
            made = operation(node)
        if made is not None:
            self.combined[node] = made

    def _note_cut(self, node: fx.Node, operands: Sequence[fx.Node]) -> None:
        """Record that a map was padded or cut, unless it comes from a layer."""
        block = self.block
        cut = next((self.cut[n] for n in operands if n in self.cut), None)
        if cut is None and (how := cuts(node)):
            cut = next(((how, n) for n in operands if block.is_map(n)), None)
        if cut is None or has_weights(block, node):
            return
        if not block.is_map(node) or block.map_sizes(node) != block.map_sizes(cut[1]):
            self.cut[node] = cut

    def _is_local(self, node: fx.Node) -> bool:
        """True if a value is a statistic, or deferred."""
        return node in self.statistics or node in self.polynomials or node in self.softmaxes

    def require_map(self, node: fx.Node, use: str) -> None:
        """Check that a statistic is used only where a map of statistics may be used.

        Raises:
            TooSmallError: it is not broadcast over the pixels inside the block.
        """
        if node in self.joined:
            raise TooSmallError(f"a statistic of rows and columns {use}")
        form = self.statistics.get(node)
        if form is not None and not self._has_pixels(node):
            raise TooSmallError(f"the global {kind_text(form.kind)} {use}")

    def _has_pixels(self, statistic: fx.Node) -> bool:
        """True if a statistic was expanded along the axes that it reduces."""
        return self.block.follows(statistic, self.statistics[statistic].axes)

    def _is_expanded(self, statistic: fx.Node) -> bool:
        """True if a statistic was expanded to a map."""
        return self._has_pixels(statistic) and self.block.is_map(statistic)

    # ---- pointwise operations

    def _pointwise(self, node: fx.Node, operands: Sequence[fx.Node]) -> Role:
        maps = [n for n in operands if self.block.is_spatial(n) and n not in self.statistics]
        has_statistics = any(n in self.statistics for n in operands)
        has_sizes = any(self.block.is_number(n) for n in node.all_input_nodes)
        axes = {self.statistics[n].axes for n in operands if n in self.statistics}
        if len(axes) > 1 and self.block.is_map(node):  # rows meet columns
            return AtPixels()
        if has_statistics and not any(self.block.follows(n, max(axes)) for n in maps):
            return self._of_statistics(node, operands)
        if not maps or not (has_statistics or has_sizes or any(self._is_local(n) for n in maps)):
            return Ordinary()
        if any(n in self.softmaxes or n in self.combined for n in maps):
            return AtPixels()
        made = combine(self.block, node, self.polynomials, self.statistics)
        return Combined(made) if made else AtPixels()

    def _of_statistics(self, node: fx.Node, operands: Sequence[fx.Node]) -> Role:
        lead = next(n for n in operands if n in self.statistics)
        product = product_of(self.block, node)
        if product and product.values <= MOST_VALUES:
            return ProductAtPixels(product)
        if (given := filter_of(self.block, node)) and given.weight in self.statistics:
            return FilterAtPixels(given)
        if expands(self.block, node, self.statistics):
            return Alias(lead, self.statistics[lead])
        if mixture := mixture_of(self.block, node, self.statistics):
            return MixtureAtPixels(mixture)
        if product:
            raise ConversionError(
                f"{operation(node)} multiplies the map with a matrix of {product.values} values, "
                "which depend on statistics: too many to have a matrix for each pixel"
            )
        return OnStatistics(lead, form_after(self.block, node, self.statistics))

    # ---- reductions

    def _reduction(self, node: fx.Node, source: fx.Node) -> None:
        block, reduction = self.block, Reduction.of(self.block, node)
        if source in self.halves and not block.is_spatial(node):
            half = self.halves[source]
            source = half.source
            reduction = half.reduction.with_second(reduction, block.rank(source))
        elif (where := block.map_dims(source)) and reduction.is_over_one_axis(where):
            half = HalfReduction(source, reduction)
            if has_second_half(block, node):
                self._set(node, half)
                return
            self.halves[node] = half
        role = self._map_reduction(source, reduction)
        self._set(node, role)
        if node not in block.shapes:  # (values, places), or (deviation, mean)
            for user in node.users:
                if user.args[1] == 0:
                    self._set(user, Alias(node, role.form))
                    if node in self.halves:
                        self.halves[user] = self.halves[node]
                elif operation(node) in ("std_mean", "var_mean"):
                    mean = replace(reduction, kind="mean", options={})
                    self._set(user, self._map_reduction(source, mean))
                else:
                    raise ConversionError(
                        f"it uses the position of the {kind_text(reduction.kind)} in the map"
                    )

    def _map_reduction(self, source: fx.Node, reduction: Reduction) -> MapReduction:
        """Return the role of a reduction of a map, or of what was deferred."""
        block, kind = self.block, kind_text(reduction.kind)
        softmax, polynomial = self.softmaxes.get(source), self.polynomials.get(source)
        operand = source
        if softmax is not None:
            operand = softmax.product
            if reduction.kind not in ("mean", "sum"):
                raise ConversionError(f"the {kind} of a softmax over the map has no local form")
        self._require_separate(source, kind)
        if softmax is None and polynomial is None:
            self.follows_law &= source not in self.dependent
        where = block.require_map_dims(operand)
        reduction.check(where)
        axes = reduction.axes(where)
        self._require_same_axes(source, axes, kind)
        item_shape = reduction.item_shape(block.shapes[operand][0])
        deferred = softmax is not None or polynomial is not None
        is_map = not deferred and len(item_shape) == 3 and item_shape[1:] == (1, 1)
        is_map &= axes == "HW"
        form = StatisticForm(reduction.kind, block.map_size(operand), item_shape, is_map, axes)
        statistic = None
        if polynomial is not None:
            below = [n for m in polynomials.maps_of(polynomial) for n in nodes_of(m)]
            self.follows_law &= self.dependent.isdisjoint(below)
            statistic = statistic_of(polynomial, reduction, where, block.shapes[operand][0])
            if statistic is None:
                raise ConversionError(
                    f"the {kind} of a map that combines pixels and global statistics: each window "
                    f"would need its own map"
                )
        return MapReduction(source, reduction, softmax or statistic, form)

    def _require_same_axes(self, source: fx.Node, axes: str, what: str) -> None:
        """Check that the statistics in a map reduce the axes that are reduced now.

        Raises:
            ConversionError: they are over others.
        """
        polynomial = self.polynomials.get(source)
        if polynomial is not None:
            alike = axes_of(polynomial, self.statistics) <= {axes}
            alike &= axes == "HW" or not polynomials.has_views(polynomial)
        else:
            alike = axes == "HW" or not self._is_local(source)
        if not alike:
            if axes == "HW":
                raise ConversionError(f"{what} of a map of statistics of its rows or columns")
            raise ConversionError(f"the {what} over one axis of a map of other statistics")

    def _require_separate(self, source: fx.Node, kind: str) -> None:
        """Check that a map is not made of more than the pixels of a window.

        Raises:
            ConversionError: each window would need its own map.
        """
        if source in self.statistics and self.block.is_map(source):
            raise ConversionError(
                f"{kind} of the global {kind_text(self.statistics[source].kind)}, expanded to a map"
            )
        if source in self.cut:
            raise ConversionError(
                f"{kind} of a map that was {self.cut[source][0]}: each window would be "
                f"{self.cut[source][0]} anew"
            )
        if source in self.combined:
            raise ConversionError(
                f"{kind} of a map that combines pixels and global statistics by "
                f"{self.combined[source]}: each window would need its own map"
            )

    def _norm(self, node: fx.Node) -> Norm | NormOfCombined:
        for affine in (argument(node, "weight"), argument(node, "bias")):
            if affine is not None:
                self.require_map(affine, f"is used as weights of {operation(node)}")
        groups, source = norm_groups(self.block, node), tensor_inputs(node)[0]
        self._require_separate(source, operation(node))
        self._require_same_axes(source, "HW", operation(node))
        if source in self.polynomials:
            made = self.polynomials[source]
            variance = polynomials.variance(made)
            if variance is None:
                raise ConversionError(
                    f"{operation(node)} of a map that combines pixels and global statistics has "
                    f"no local form"
                )
            return NormOfCombined(polynomials.mean(made), variance, groups)
        return Norm(groups)

    # ---- softmax over the map

    def _softmax(self, node: fx.Node) -> PixelSoftmax:
        dim = argument(node, "dim") % self.block.rank(node)
        if self.block.require_map_dims(node) != (dim, dim, 1):
            raise ConversionError("its softmax normalises over other dims than the pixels")
        if operation(node) == "log_softmax":
            raise ConversionError("log_softmax over the map has no local form")
        source = tensor_inputs(node)[0]
        self._require_separate(source, "softmax")
        self._require_same_axes(source, "HW", "softmax")
        made = self.polynomials.get(source)
        if made is None:
            return PixelSoftmax(DeferredSoftmax(node, node), Plain(source))
        if isinstance(made, Affine) and made.is_unscaled:  # the constant cancels out
            return PixelSoftmax(DeferredSoftmax(node, node), made.whole)
        raise ConversionError(
            "the softmax of a map that combines pixels and global statistics has no local form"
        )

    def _of_softmax(self, node: fx.Node, operands: Sequence[fx.Node]) -> Role:
        """Return the role of a node that reads a softmax before it weighs other pixels."""
        block = self.block
        source = next(n for n in operands if n in self.softmaxes)
        softmax = self.softmaxes[source]
        others = [n for n in operands if self.softmaxes.get(n) is not softmax]
        if is_view(node) and not others and not softmax.is_scaled and block.is_map(node):
            return ViewedSoftmax(DeferredSoftmax(node, node), source)
        if (
            operation(node) == "mul"
            and len(others) == 1
            and not self._is_local(others[0])
            and block.map_dims(node) == block.map_dims(softmax.powers)
        ):
            return ScaledSoftmax(replace(softmax, product=node), source, others[0])
        for operand in operands:
            self.require_map(operand, "meets a softmax over the map")
        return Ordinary()
