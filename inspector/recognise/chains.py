"""Values that follow from constants: which nodes may be computed, and how large that may get.

Computing is left to onnx's reference evaluator. What it would cost is found out first, from the
inputs: a few bytes of a file can ask for a tensor of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from inspector.errors import UnreadableError
from inspector.facts.batchnorm import Origin
from inspector.facts.model import Model, Node, Tensor
from inspector.recognise.binding import Binding, Recipe, computed, told
from inspector.recognise.operators import FLOAT_TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays: TypeAlias = Sequence[NDArray[Any] | None]

_STRING = 8
"""ONNX's number of the type of strings."""

MOST_ELEMENTS = 2**18
"""Elements of any one value that is computed, or that goes into one: no layer has as many
channels, and a mistaken question costs milliseconds."""

MOST_BYTES = 2**27
"""Bytes of all values that are computed for one model."""

MOST_RUNS = 50_000
"""Nodes that are computed for one model: a function of constants may be called often."""

_MOVES = frozenset(
    "Identity Reshape Squeeze Unsqueeze Flatten Transpose Expand Slice Concat Split Gather Tile "
    "Constant ConstantOfShape Shape Size Cast CastLike".split()
)
"""Operators that move values or write them in another type, and make none."""

_BROADCAST = frozenset(
    "Add Sub Mul Div Pow Min Max Sum Mean Sqrt Reciprocal Neg Abs Exp Log Floor Ceil Round Sign "
    "Clip Where Identity Cast CastLike Transpose Flatten Reshape Squeeze Unsqueeze Slice Split "
    "DequantizeLinear QuantizeLinear".split()
)
"""Operators whose outputs have no more elements than their inputs broadcast to."""


class Chains:
    """Computes constants for one model, each of them once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._settled: dict[int, Binding] = {}
        self._held: list[Recipe] = []  # so that no id is given twice
        self._empty: dict[str, Tensor] = {}
        self._outputs: dict[tuple[object, ...], Sequence[NDArray[Any]]] = {}
        self._bytes = 0
        self._runs = 0

    def settled(self, binding: Binding) -> Binding:
        """The binding with its values computed, or the reason why they cannot be."""
        if binding.recipe is None:
            return binding
        pending = [binding.recipe]
        while pending:
            recipe = pending[-1]
            if id(recipe) in self._settled:
                pending.pop()
                continue
            waiting = [
                each.recipe
                for each in recipe.inputs
                if each is not None
                and each.recipe is not None
                and id(each.recipe) not in self._settled
            ]
            if waiting:
                pending += waiting
                continue
            self._held.append(recipe)
            self._settled[id(recipe)] = self._computed(recipe)
            pending.pop()
        found = self._settled[id(binding.recipe)]
        return Binding(
            origin=binding.origin,
            tensor=found.tensor,
            reason=found.reason,
            arithmetic=found.arithmetic,
        )

    def told(self, binding: Binding) -> tuple[tuple[int, ...], bool] | None:
        """Dims of a constant, and whether it is of floats: computed only if nothing else tells."""
        return told(binding) or told(self.settled(binding))

    def load(self, tensor: Tensor) -> NDArray[Any] | None:
        """Values of a tensor; None where its data file is missing."""
        return self._model.values(tensor)

    def empty(self, dtype: str) -> Tensor | None:
        """A tensor of a type and no elements; None where numpy has no such type of its own."""
        import numpy as np

        if dtype not in self._empty:
            try:
                self._empty[dtype] = self.keep("", np.zeros(0, dtype=dtype))
            except TypeError:
                return None
        return self._empty[dtype]

    def keep(self, name: str, values: NDArray[Any]) -> Tensor:
        """A tensor of values that follow from others."""
        return self._model.weights.keep(name, values)

    def _computed(self, recipe: Recipe) -> Binding:
        """What a recipe gives, all its inputs being settled."""
        inputs = [
            each if each is None or each.recipe is None else self._settled[id(each.recipe)]
            for each in recipe.inputs
        ]
        reason = next((each.reason for each in inputs if each and each.tensor is None), "")
        if reason:
            return _unknown(reason)
        if (same := _passed_on(recipe, inputs)) is not None:
            return same
        try:
            values = self._run(recipe, inputs)
        except UnreadableError as error:
            return _unknown(error.what)
        made = [name for each in inputs if each for name in each.arithmetic]
        if recipe.node.op_type not in _MOVES:
            made.append(recipe.node.op_type)
        name = recipe.node.outputs[recipe.position]
        return Binding(
            origin=Origin.CHAIN,
            tensor=self._model.weights.keep(name, values),
            arithmetic=tuple(dict.fromkeys(made)),
        )

    def _run(self, recipe: Recipe, inputs: Sequence[Binding | None]) -> NDArray[Any]:
        """The values that a recipe gives; a node with several outputs is computed once."""
        node = recipe.node
        same = (
            id(node),
            recipe.opset,
            *(each and each.tensor and each.tensor.key for each in inputs),
        )
        if same not in self._outputs:
            arrays = [None if each is None else self._loaded(each) for each in inputs]
            self._check_cost(node, arrays)
            found = self._model.evaluator.run(node, arrays, recipe.opset)
            self._runs += 1
            self._bytes += sum(each.nbytes for each in found)
            if len(node.outputs) == 1:
                return found[0]
            self._outputs[same] = found
        return self._outputs[same][recipe.position]

    def _check_cost(self, node: Node, arrays: Arrays) -> None:
        """Refuse what would take too much time or memory, before it is computed."""
        try:
            size = _MOST[node.op_type](node, arrays)
        # What the file gives as a shape may be NaN, text, or not there at all.
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise UnreadableError(
                f"{node.op_type} {node.label!r} cannot be computed: its inputs make no sense"
            ) from error
        if node.op_type == "Cast" and node.int_attribute("to", 0) == _STRING:
            raise UnreadableError(f"{node.op_type} {node.label!r} makes strings")
        if size > MOST_ELEMENTS or self._bytes > MOST_BYTES or self._runs > MOST_RUNS:
            raise UnreadableError(
                f"{node.op_type} {node.label!r} makes {size:,} elements of constants: too many "
                "to compute here, with those before it"
            )

    def _loaded(self, binding: Binding) -> NDArray[Any]:
        tensor = binding.tensor
        assert tensor is not None  # the caller has looked
        if tensor.external in self._model.missing_data:
            raise UnreadableError(f"computed from {tensor.name!r}, whose data file is missing")
        if tensor.elements > MOST_ELEMENTS:
            raise UnreadableError(
                f"computed from {tensor.name!r}: its {tensor.elements:,} elements are too many"
            )
        return self._model.weights.load(tensor)


def _passed_on(recipe: Recipe, inputs: Sequence[Binding | None]) -> Binding | None:
    """The input of a Cast to the type that it has: nothing is to be computed."""
    first = inputs[0] if inputs else None
    if recipe.node.op_type != "Cast" or first is None or first.tensor is None:
        return None
    same = FLOAT_TYPES.get(recipe.node.int_attribute("to", 0)) == first.tensor.dtype
    return first if same else None


def recipe_for(node: Node, inputs: Sequence[Binding | None], opset: int, value: str) -> Binding:
    """What `value`, an output of `node`, stands for, given what its inputs stand for."""
    if node.op_type == "Identity" and inputs and inputs[0] is not None:
        return inputs[0]
    over = False
    for each in inputs:
        if each is not None:
            if each.tensor is None and each.recipe is None:
                return computed(node)
            over = over or each.origin is Origin.OVERRIDABLE
    position = node.outputs.index(value)
    return Binding(
        origin=Origin.OVERRIDABLE if over else Origin.CHAIN,
        tensor=None,
        recipe=Recipe(node, inputs, opset, position),
    )


def may_compute(node: Node) -> bool:
    """Whether this operator is computed where all its inputs are constants."""
    return node.op_type in COMPUTABLE and node.is_standard


def _unknown(reason: str) -> Binding:
    return Binding(origin=Origin.CHAIN, tensor=None, reason=reason)


def _broadcast(node: Node, arrays: Arrays) -> int:
    """Elements of the shape that all inputs broadcast to, or more, for each of the inputs."""
    shapes = [each.shape for each in arrays if each is not None]
    if len(shapes) == 1:
        return prod(shapes[0])
    rank = max(map(len, shapes), default=0)
    padded = [(1,) * (rank - len(each)) + each for each in shapes]
    one = prod(map(max, zip(*padded, strict=True))) if padded else 0
    # Two operands are one step; of many the elements add up.
    return one * max(len(shapes) - 1, 1)


def _together(node: Node, arrays: Arrays) -> int:
    return sum(each.size for each in arrays if each is not None)


def _asked(node: Node, arrays: Arrays) -> int:
    """Elements of the shape that the last input writes down, over those of the others."""
    *others, shape = (each for each in arrays if each is not None)
    dims = [abs(int(each)) for each in shape.reshape(-1)[:64]]
    rank = max([len(dims), *(each.ndim for each in others)])
    sizes = [(1,) * (rank - each.ndim) + each.shape for each in others]
    wanted = (1,) * (rank - len(dims)) + tuple(dims)
    return prod(map(max, zip(wanted, *sizes, strict=True)))


def _repeated(node: Node, arrays: Arrays) -> int:
    first, repeats = arrays[0], arrays[1]
    if first is None or repeats is None:
        return 0
    return first.size * prod(abs(int(each)) for each in repeats.reshape(-1)[:64])


def _gathered(node: Node, arrays: Arrays) -> int:
    data, indices = arrays[0], arrays[1]
    if data is None or indices is None:
        return 0
    axis = node.int_attribute("axis", 0)
    along = data.shape[axis] if -data.ndim <= axis < data.ndim else 1
    return indices.size * (data.size // max(along, 1))


def _few(node: Node, arrays: Arrays) -> int:
    """A list in an attribute, or dims: what the file itself spells out."""
    longest = (len(each) for each in node.attributes.values() if isinstance(each, tuple))
    return max(longest, default=64)


_MOST: Mapping[str, Callable[[Node, Arrays], int]] = {
    **dict.fromkeys(_BROADCAST, _broadcast),
    "Concat": _together,
    "ConstantOfShape": _asked,
    "Expand": _asked,
    "Tile": _repeated,
    "Gather": _gathered,
    "Constant": _few,
    "Shape": _few,
    "Size": _few,
}
"""How many elements each operator may give, or more."""

COMPUTABLE = frozenset(_MOST)
"""Operators that are computed where all their inputs are constants."""
