"""BatchNorms whose numbers were merged with others: with a factor, a shift, an operator's weights.

What stands around a BatchNorm in the reference is multiplied out, and so is every product of the
stock export. Where the two are one map, channel by channel, within what rounding explains, the
constant that took the slope in gets the value that it has in the reference, and the BatchNorm goes
behind the product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inspector.facts.arrays import Vector
from inspector.facts.model import Model, Node
from inspector.facts.traced import Fate
from inspector.recognise.around import dims_of
from inspector.recognise.folding import Layers, Sought, as_folded, room_for, same_map
from inspector.recognise.layers import layer_of
from inspector.recognise.place import Place
from inspector.recognise.scopes import places
from inspector.restore.folded import laid_out, matrix_of, take_out
from inspector.restore.kept import Kept, Linear, Original, Row
from inspector.restore.nodes import FIRST_OPSET, Gap, insert
from inspector.restore.product import Factor, Plain, Product, axis_of, behind, called, product_of
from inspector.restore.stock import Operator, may_be_fed
from inspector.write.splice import Editor, Splice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A row that was found merged with what stands around it.

    It is in an operator, `folded`; or behind `product`, whose constant `factor` is to be `value`
    (None takes it away), or whose operator `scaled` is to get the weights of the reference. `tail`
    is the arithmetic that gives way.
    """

    row: Row
    error: float
    allowed: float
    folded: Operator | None = None
    product: Product | None = None
    tail: tuple[Plain, ...] = ()
    factor: Factor | None = None
    value: Vector | None = None
    scaled: tuple[Node, Linear] | None = None

    @property
    def fate(self) -> Fate:
        """What the stock export has made of it."""
        return Fate.FOLDED if self.folded is not None or self.scaled else Fate.ARITHMETIC

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the stock export that hold its numbers."""
        nodes = [] if self.folded is None else [self.folded.node]
        nodes += [] if self.scaled is None else [self.scaled[0]]
        nodes += [] if self.factor is None else [self.factor.node]
        return (*nodes, *(each.node for each in self.tail))

    @property
    def where(self) -> str:
        """The same in words."""
        return ", ".join(called(each) for each in self.nodes)


class Search:
    """Looks for what of the reference was merged in a stock export; each place is found once.

    Parameters
    ----------
    taken
        Nodes in which other BatchNorms were found, as `called` has them.
    """

    def __init__(self, model: Model, kept: Kept, taken: Collection[str]) -> None:
        self._model, self._kept = model, kept
        self._taken = set(taken)
        self._places = list(places(model))
        self._layers = Layers(model)
        self._homes = {id(node): place for place in self._places for node in place.nodes}
        self._products: dict[int, list[tuple[Product, tuple[Plain, ...]]]] = {}

    def find(self, original: Original, free: Collection[int]) -> Found | None:
        """The row that begins with a BatchNorm, as short as it can be.

        Parameters
        ----------
        free
            Ids of the BatchNorms that a row may hold: those that nothing else was found for.
        """
        product = self._kept.product(original)
        for row in self._kept.rows(original):
            if any(id(each) not in free for each in row.originals):
                return None
            found = self._in_operator(row, product) or self._in_product(row, product)
            if found is not None:
                self._taken.update(called(each) for each in found.nodes)
                return found
        return None

    def _in_operator(self, row: Row, product: Product) -> Found | None:
        """An operator whose weights took in a row, with constants before or behind a BatchNorm."""
        for each in (row, self._kept.scaled(row, product)):
            if each is None or each.before is None or len(each.steps) == 1:
                continue
            original, sought = layer_of(*each.before), each.sought
            if original is None or original.weights.shape[0] != sought.slope.size:
                continue
            for at in self._layers.alike(original, sought):
                node, layer = self._layers.nodes[at], self._layers.load(at)
                if layer is None or called(node) in self._taken:
                    continue
                found = as_folded(layer, original, sought)
                if found is not None:
                    spot = Operator(node=node, place=self._homes[id(node)])
                    return Found(row=each, folded=spot, error=found[0], allowed=found[1])
        return None

    def _in_product(self, row: Row, reference: Product) -> Found | None:
        sought = row.sought
        for product, tail in self._of(sought.slope.size):
            if len(product.leaves) != len(reference.leaves):
                continue
            if any(called(each.node) in self._taken for each in product.factors):
                continue
            for length in range(len(tail) + 1):
                if length and called(tail[length - 1].node) in self._taken:
                    break
                found = self._fits(row, sought, reference, product, tail[:length])
                if found is not None:
                    return found
        return None

    def _fits(
        self,
        row: Row,
        sought: Sought,
        reference: Product,
        product: Product,
        tail: tuple[Plain, ...],
    ) -> Found | None:
        slope, intercept = _composed(tail, sought.slope.size)
        dtypes = [e.tensor.dtype for e in tail] + [e.tensor.dtype for e in product.factors]
        dtype = next(iter(dtypes), sought.dtype)
        with np.errstate(all="ignore"):
            # What an operator's weights are scaled by, if nothing else is missing.
            left = sought.slope * reference.by / (product.by * slope)
        if not bool(np.isfinite(left).all()):
            return None
        room = room_for(dtype, sought)
        shifted = same_map(sought.slope, intercept, dtype, sought)
        if shifted is None:
            return None
        if bool((np.abs(left - 1) <= room).all()):
            error = max(shifted[0], float(np.abs(left - 1).max(initial=0.0)))
            return _with_factor(row, reference, product, tail, (error, room))
        return self._with_scaled(row, reference, product, tail, left)

    def _with_scaled(
        self,
        row: Row,
        reference: Product,
        product: Product,
        tail: tuple[Plain, ...],
        left: Vector,
    ) -> Found | None:
        """The operator of a product whose weights took in what is `left` of the slope."""
        if any(factor.values.size > 1 for factor in product.factors) and not reference.factors:
            return None
        sought = Sought(
            norm=None,  # type: ignore[arg-type]  # none: what is asked for are numbers
            slope=left,
            intercept=np.zeros_like(left),
            terms=np.zeros_like(left),
            dtype=row.sought.dtype,
            before=None,
        )
        for before in reference.linear:
            original, linear = (
                layer_of(before, reference.place),
                self._kept.weights(before, reference.place),
            )
            for node in product.linear:
                layer = layer_of(node, product.place)
                if layer is None or original is None or isinstance(linear, str):
                    continue
                if layer.weights.shape != original.weights.shape or called(node) in self._taken:
                    continue
                found = as_folded(layer, original, sought)
                if found is not None and (linear.bias is None) == (not node.input(2)):
                    return Found(
                        row=row,
                        product=product,
                        tail=tail,
                        scaled=(node, linear),
                        error=found[0],
                        allowed=found[1],
                    )
        return None

    def _of(self, channels: int) -> list[tuple[Product, tuple[Plain, ...]]]:
        """The products of the stock export that so many channels may go through."""
        if channels not in self._products:
            self._products[channels] = [
                (product, tuple(behind(product.root, place, channels)))
                for place in self._places
                for product in _roots(place, channels)
            ]
        return self._products[channels]


def _roots(place: Place, channels: int) -> Iterator[Product]:
    """The products of a place that are no part of another one."""
    inner: set[str] = set()
    for node in reversed(place.nodes):
        if node.op_type not in ("Mul", "Div") or not node.outputs or node.outputs[0] in inner:
            continue
        if place.is_constant(node.outputs[0]):
            continue
        product = product_of(node.outputs[0], place, channels)
        inner.update(each.outputs[0] for each in product.nodes)
        if product.nodes and (product.factors or product.linear):
            yield product


def _composed(tail: Sequence[Plain], channels: int) -> tuple[Vector, Vector]:
    slope, intercept = np.ones(channels), np.zeros(channels)
    with np.errstate(all="ignore"):
        for each in tail:
            slope, intercept = slope * each.slope, intercept * each.slope + each.intercept
    return slope, intercept


def _with_factor(
    row: Row,
    reference: Product,
    product: Product,
    tail: tuple[Plain, ...],
    fit: tuple[float, float],
) -> Found | None:
    """Which constant of a product took the slope in, and what it is without.

    That is the one without which the least is left: nothing, one number, or one for each channel.
    """
    room = fit[1]
    best: tuple[int, Factor, Vector] | None = None
    for factor in product.factors:
        with np.errstate(all="ignore"):
            value = reference.by * factor.by / product.by
        if not bool(np.isfinite(value).all()):
            continue
        spread = float(np.abs(value - value[0]).max(initial=0.0))
        rank = 2 if spread > room * abs(value[0]) else 1
        rank = 0 if rank == 1 and abs(value[0] - 1) <= room else rank
        if best is None or rank < best[0]:
            best = rank, factor, value if rank == 2 else value[:1]
    if best is None:
        return None
    rank, factor, value = best
    return Found(
        row=row,
        product=product,
        tail=tail,
        factor=factor,
        value=value if rank else None,
        error=fit[0],
        allowed=room,
    )


def put_apart(found: Found, kept: Kept, splice: Splice, used: set[int]) -> list[str] | str:
    """Change a stock export so that what was found stands apart; the nodes' names, or why not."""
    if found.folded is not None:
        return take_out(found.row, [found.folded], kept, splice, used)
    product, tail = found.product, found.tail
    assert product is not None  # else it is folded
    place = product.place
    editor = splice.editor(place.scope)
    if editor is None:
        return "it stands in a function, whose body all of its calls share"
    why = _obstacle(found, place)
    if why:
        return why
    dims = dims_of(tail[-1].node.outputs[0] if tail else product.root, place)
    dims = dims or dims_of(product.root, place)
    if dims is None:
        return f"the rank of {product.root!r} is not known"
    axis = axis_of(product, tail, len(dims))
    if axis is None and found.scaled is not None:
        axis = 1 if found.scaled[0].op_type != "MatMul" else len(dims) - 1
    if axis is None or not 0 < axis < len(dims):
        return f"on which axis of {product.root!r} its channels lie is not known"
    return _done(found, product, (axis, len(dims)), editor, splice)


def _obstacle(found: Found, place: Place) -> str:
    """Why a place cannot be changed; empty where it can."""
    if place.opset < FIRST_OPSET:
        return f"opset {place.opset} has another BatchNormalization; convert the file to 7 up"
    held = [each.node.inputs[each.position] for each in found.tail]
    if found.factor is not None:
        held.append(found.factor.node.inputs[found.factor.position])
    if found.scaled is not None:
        held += [each for each in found.scaled[0].inputs[1:3] if each]
    if any(may_be_fed(each, place) for each in held):
        return "its numbers may be fed as inputs"
    tensors: list[Plain | Factor] = [*found.tail]
    tensors += [] if found.factor is None else [found.factor]
    for each in tensors:
        for original in found.row.originals:
            if each.tensor.dtype != original.dtype:
                stored, framework = each.tensor.dtype, original.dtype
                return f"the stock export stores {stored}, the framework {framework}"
    return ""


def _done(
    found: Found, product: Product, axes: tuple[int, int], editor: Editor, splice: Splice
) -> list[str]:
    """Carry out what was found possible."""
    root, tail = product.root, list(found.tail)
    end = tail[-1].node.outputs[0] if tail else root
    axis, rank = axes
    if found.scaled is not None:
        _unscale(*found.scaled, product.place, editor, splice)
    if found.factor is not None and not (
        found.value is None and found.factor.node.outputs[0] == root
    ):
        _unfactor(found.factor, found.value, product.place, editor, splice)
        entered = root
    else:
        entered = _data(found.factor) if found.factor is not None else root
    gone = bool(tail) or entered != root
    if not gone:
        entered = splice.value(f"{root}_product")
        editor.rename_output(root, entered)
        beside = entered
    else:
        beside = splice.value(f"{end}_arithmetic")
        editor.rename_output(end, beside)
    gap = Gap(beside, before=gone, editor=editor, splice=splice)
    names = insert(found.row, entered, end, gap=gap, axis=axis, rank=rank)
    if gone:
        editor.remove(beside)
    return names


def _data(factor: Factor) -> str:
    return factor.node.inputs[1 - factor.position]


def _unfactor(
    factor: Factor, value: Vector | None, place: Place, editor: Editor, splice: Splice
) -> None:
    """Give a constant another value, or take its operator away."""
    output = factor.node.outputs[0]
    if value is None:
        (reader,) = place.readers(output)
        position = reader.inputs.index(output)
        editor.set_input(reader.outputs[0], position, _data(factor))
        return
    values = (1.0 / value if factor.inverse else value).astype(factor.tensor.dtype)
    dims = (
        factor.tensor.dims
        if value.size == factor.tensor.elements
        else (1,) * len(factor.tensor.dims)
    )
    name = factor.tensor.name or factor.node.inputs[factor.position]
    stored = splice.tensor((output, factor.position), name, values.reshape(dims))
    editor.set_input(output, factor.position, stored)


def _unscale(node: Node, linear: Linear, place: Place, editor: Editor, splice: Splice) -> None:
    """Give an operator the weights and the bias of the reference."""
    tensor = place.binding(node.input(1)).tensor
    assert tensor is not None  # it was compared
    weights = laid_out(matrix_of(linear), node, tensor.dims)
    key = (*linear.weights.key, weights.shape, "scaled")
    editor.set_input(node.outputs[0], 1, splice.tensor(key, linear.weights.name, weights))
    if linear.bias is not None:
        bias = linear.bias.values.reshape(-1)
        stored = splice.tensor((*linear.bias.key, "bias"), linear.bias.name, bias)
        editor.set_input(node.outputs[0], 2, stored)
