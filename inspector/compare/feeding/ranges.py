"""What values an input may take, told by the operators that read it.

Names tell nothing: an input is an index because a Gather reads it as one, a mask because it is
compared with 0 or cast to bool. Values outside of what an operator takes would end in an error,
or in a shape of billions of elements; values that it never looks at would show nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.facts.model import Graph, Model, Node, Tensor

Readers = dict[str, list[tuple[Node, int]]]

MOST_KNOWN = 1000
"""Keys and words of a model that are drawn from."""

MOST_LOADED = 2**16
"""Elements of a stored tensor that is looked into."""

_PASSES = frozenset(
    "Identity Cast Reshape Squeeze Unsqueeze Transpose Flatten Expand Slice Split Tile "
    "Gather GatherElements GatherND Concat StringNormalizer ArrayFeatureExtractor".split()
)
"""Operators that hand on the elements of what they read first."""

_INDICES = {
    ("Gather", 1): 0,
    ("GatherElements", 1): 0,
    ("GatherND", 1): 0,
    ("ScatterElements", 1): 0,
    ("Scatter", 1): 0,
    ("ScatterND", 1): 0,
    ("EmbedLayerNormalization", 0): 2,
    ("EmbedLayerNormalization", 1): 4,
}
"""Inputs that hold indices, with the position of the table that they point into."""

_LENGTHS = {("ReverseSequence", 1): 0, ("LSTM", 4): 0, ("GRU", 4): 0, ("RNN", 4): 0}
"""Inputs that hold lengths of sequences, with the position of the sequences."""

_BOUNDS: Mapping[tuple[str, int], tuple[float, float]] = {
    ("Div", 1): (1, np.inf),
    ("Mod", 1): (1, np.inf),
    # A shape is a product of these.
    ("ConstantOfShape", 0): (1, 4),
    ("Expand", 1): (1, 2),
    ("Tile", 1): (1, 3),
    ("Resize", 3): (2, 9),
    ("AffineGrid", 1): (1, 4),
    ("CenterCropPad", 1): (1, 4),
    ("Range", 0): (0, 1),
    ("Range", 1): (2, 7),
    ("Range", 2): (1, 2),
    ("Loop", 0): (1, 4),
    ("Pad", 1): (0, 3),
    ("Slice", 1): (0, 1),
    ("Slice", 2): (1, 4),
    ("Slice", 4): (1, 2),
    ("TopK", 1): (1, 2),
    ("OneHot", 1): (2, 5),
    ("NonMaxSuppression", 2): (1, 9),
    ("BitShift", 1): (0, 4),
    ("Pow", 1): (0, 4),
    ("HannWindow", 0): (2, 9),
    ("HammingWindow", 0): (2, 9),
    ("BlackmanWindow", 0): (2, 9),
    # Axes, positions and batches: the first is there always.
    ("CumSum", 1): (0, 1),
    ("Squeeze", 1): (0, 1),
    ("Unsqueeze", 1): (0, 1),
    ("SequenceAt", 1): (0, 1),
    ("RoiAlign", 2): (0, 1),
    ("MaxUnpool", 1): (0, 4),
    ("Trilu", 1): (0, 3),
}
"""What whole numbers an operator takes at a position: from, and below what."""

_REAL_BOUNDS: Mapping[tuple[str, int], tuple[float, float]] = {
    ("BatchNormalization", 4): (0.1, 2.0),
    ("QuantizeLinear", 1): (0.01, 0.1),
    ("DequantizeLinear", 1): (0.01, 0.1),
    ("Resize", 2): (1.0, 2.0),
    ("Upsample", 1): (1.0, 2.0),
    ("Dropout", 1): (0.0, 0.9),
    ("Range", 0): (0.0, 1.0),
    ("Range", 1): (2.0, 7.0),
    ("Range", 2): (1.0, 2.0),
    ("Acosh", 0): (1.0, 3.0),
    ("Acos", 0): (-0.95, 0.95),
    ("Asin", 0): (-0.95, 0.95),
    ("Atanh", 0): (-0.95, 0.95),
    ("Log", 0): (0.05, 3.0),
    ("Sqrt", 0): (0.0, 3.0),
}
"""The same for inputs that are floats."""

_REDUCTIONS = frozenset(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare".split()
)

_KEYS = {
    "LabelEncoder": ("keys_strings", "keys_int64s", "classes_strings"),
    "CategoryMapper": ("cats_strings", "cats_int64s"),
    "OneHotEncoder": ("cats_strings", "cats_int64s"),
    "TfIdfVectorizer": ("pool_strings", "pool_int64s"),
}
"""Attributes of the operators that look something up, with what they know."""

_COMPARISONS = frozenset("Equal Greater GreaterOrEqual Less LessOrEqual".split())

_BOOL, _STRING = 9, 8
"""Numbers of data types in a Cast (onnx.proto, TensorProto.DataType)."""

NUMERALS = ("0", "1", "2", "42", "7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What an input may hold. Bounds are from `low` to below `high`; None is whatever its type has.

    `real` bounds floats; `grid` is what a quantised model can tell apart of them, beyond which it
    cuts off by design; one that is `mild` was calibrated on inputs that nothing tells. `known` are
    numbers or words that the model itself knows, and where
    it is `closed` it takes no other words. `mask` is what
    is looked at as there or not, `never` what has to be false (a training mode), `is_shape` a
    Reshape's target, `is_axes` a list of axes, `is_length` a length of a sequence whose own length
    is open.
    """

    low: int | None = None
    high: int | None = None
    real: tuple[float, float] | None = None
    grid: tuple[float, float] | None = None
    mild: bool = False
    known: tuple[int | str, ...] = ()
    closed: bool = False
    mask: bool = False
    never: bool = False
    is_shape: bool = False
    is_axes: bool = False
    is_length: bool = False

    def __and__(self, other: Range) -> Range:
        """What both allow; where that is nothing, what the tighter from above does."""
        lows = [each for each in (self.low, other.low) if each is not None]
        highs = [each for each in (self.high, other.high) if each is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low >= high:
            low = max((each for each in lows if each < high), default=min(0, high - 1))
        real, grid = _both(self.real, other.real), _both(self.grid, other.grid)
        return Range(
            low=low,
            high=high,
            real=real,
            grid=grid,
            mild=self.mild or other.mild,
            known=tuple(dict.fromkeys((*self.known, *other.known)))[:MOST_KNOWN],
            closed=self.closed or other.closed,
            mask=self.mask or other.mask,
            never=self.never or other.never,
            is_shape=self.is_shape or other.is_shape,
            is_axes=self.is_axes or other.is_axes,
            is_length=self.is_length or other.is_length,
        )


def _both(
    one: tuple[float, float] | None, other: tuple[float, float] | None
) -> tuple[float, float] | None:
    """What lies within both bounds; None where there are none, or nothing does."""
    if one is None or other is None:
        return one or other
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return (low, high) if low < high else None


def find_ranges(values: Sequence[str], model: Model) -> tuple[Range, ...]:
    """What the operators of the main graph and its subgraphs that read each value tell of it."""
    readers = _readers(model.graph)
    # Not that of a model whose grids depend on what is fed.
    mild = Range(mild=any(each.op_type == "QuantizeLinear" for each in model.graph.nodes))
    return tuple(_found(each, readers, model) & mild for each in values)


def _found(value: str, readers: Readers, model: Model) -> Range:
    found = Range()
    pending, seen = [value], {value}
    while pending:
        for node, position in readers.get(pending.pop(), ()):
            found &= _Use(node, position, model).range()
            if node.op_type in _PASSES and (position == 0 or node.op_type == "Concat"):
                fresh = [each for each in node.outputs if each and each not in seen]
                seen.update(fresh)
                pending.extend(fresh)
    return found


def _readers(graph: Graph) -> Readers:
    """Nodes by what they read, those of subgraphs too: they see the values around them."""
    readers: Readers = defaultdict(list)
    pending = [graph]
    while pending:
        for node in pending.pop().nodes:
            for position, name in enumerate(node.inputs):
                readers[name].append((node, position))
            for attribute in node.attributes.values():
                several = attribute if isinstance(attribute, tuple) else (attribute,)
                pending.extend(each for each in several if isinstance(each, Graph))
    return readers


class _Use:
    """A node that reads a value at a position, and what it takes there."""

    def __init__(self, node: Node, position: int, model: Model) -> None:
        self._node, self._position, self._model = node, position, model
        self._place = (node.op_type, position)

    def range(self) -> Range:
        node = self._node
        if node.op_type in _KEYS:
            closed = node.op_type == "OneHotEncoder" and not node.int_attribute("zeros", 1)
            return Range(known=self._keys(), closed=closed)
        if self._place in _INDICES:
            return self._index()
        if self._place == ("OneHot", 0):
            depth = self._scalar(1)
            return Range(low=0, high=int(depth)) if depth and depth >= 1 else Range(low=0)
        if self._place in _LENGTHS:
            return self._length()
        if self._place in (("Dropout", 2), ("BatchNormalization", 5)):
            return Range(never=True)
        if self._place == ("Reshape", 1):
            return Range(is_shape=True)
        if self._place == ("Slice", 3) or (node.op_type in _REDUCTIONS and self._position == 1):
            return Range(is_axes=True)
        if self._place == ("QuantizeLinear", 0):
            return Range(grid=self._grid())
        found = self._bounded()
        return found if found != Range() else self._compared()

    def _grid(self) -> tuple[float, float] | None:
        """What integers on the grid of a whole tensor stand for; None where that is not stored."""
        scale, zero = self._values(1), self._values(2)
        if scale is None or scale.size != 1 or (zero is None and self._node.input(2)):
            return None
        dtype = np.dtype(np.uint8) if zero is None else zero.dtype
        if dtype.kind not in "iu":
            return None
        step, point = float(scale.reshape(-1)[0]), 0 if zero is None else int(zero.reshape(-1)[0])
        ends = [step * (int(end) - point) for end in (np.iinfo(dtype).min, np.iinfo(dtype).max)]
        return (ends[0], ends[1]) if np.isfinite(ends).all() and ends[0] < ends[1] else None

    def _bounded(self) -> Range:
        low, high = _BOUNDS.get(self._place, (None, None))
        found = Range(real=_REAL_BOUNDS.get(self._place))
        if low is None or high is None:
            return found
        return replace(found, low=int(low), high=None if np.isinf(high) else int(high))

    def _index(self) -> Range:
        node = self._node
        dims = self._dims(_INDICES[self._place])
        if dims is None:
            return Range(low=0)
        if node.op_type.endswith("ND"):
            first = node.int_attribute("batch_dims", 0)
            lengths = [each for each in dims[first:] if isinstance(each, int)]
        else:
            axis = node.int_attribute("axis", 0)
            length = dims[axis] if -len(dims) <= axis < len(dims) else None
            lengths = [length] if isinstance(length, int) else []
        # A table without rows takes no index at all: whatever is drawn, the runtime says so.
        return Range(low=0, high=max(1, min(lengths, default=0)) if lengths else None)

    def _length(self) -> Range:
        dims = self._dims(_LENGTHS[self._place])
        axis = self._node.int_attribute(
            "time_axis", 1 if self._node.int_attribute("layout", 0) else 0
        )
        length = dims[axis] if dims is not None and 0 <= axis < len(dims) else None
        if not isinstance(length, int):
            return Range(low=1, is_length=True)
        return Range(low=1, high=max(2, length + 1))

    def _compared(self) -> Range:
        """What is compared with a constant, or only asked whether it is there."""
        node = self._node
        if node.op_type == "Cast":
            to = node.int_attribute("to", 0)
            if to == _BOOL:
                return Range(mask=True)
            is_number = to != _STRING and self._is_text()
            return Range(known=NUMERALS, closed=True) if is_number else Range()
        if node.op_type == "Sub" and self._position == 1 and self._scalar(0) == 1.0:
            return Range(mask=True)  # 1 − mask, times a large number
        if node.op_type in _COMPARISONS:
            other = self._values(1 - self._position)
            if other is None or other.size != 1:
                return Range()
            if other.dtype.kind in "OUS":
                return Range(known=(_text(other.reshape(-1)[0]),))
            number = float(other.reshape(-1)[0])
            if number in (0.0, 1.0):
                return Range(mask=True, known=(int(number),))
            return Range(known=(int(number),)) if abs(number) < 2**31 else Range()
        return Range()

    def _is_text(self) -> bool:
        name = self._node.input(self._position)
        known = self._model.graph.values.get(name)
        declared = next((each for each in self._model.graph.inputs if each.name == name), known)
        return declared is not None and declared.dtype == "string"

    def _keys(self) -> tuple[int | str, ...]:
        found: list[int | str] = []
        for name in _KEYS[self._node.op_type]:
            given = self._node.attributes.get(name)
            if isinstance(given, tuple):
                found += [each for each in map(_key, given[:MOST_KNOWN]) if each is not None]
        tensor = self._node.attributes.get("keys_tensor")
        if isinstance(tensor, Tensor) and (values := self._loaded(tensor)) is not None:
            keys = (_key(each) for each in values.reshape(-1)[:MOST_KNOWN].tolist())
            found += [each for each in keys if each is not None]
        return tuple(found)

    def _dims(self, position: int) -> Sequence[int | str | None] | None:
        name = self._node.input(position)
        stored = self._model.graph.initializers.get(name)
        if stored is not None:
            return stored.dims
        value = self._model.graph.values.get(name)
        return value.dims if value is not None else None

    def _scalar(self, position: int) -> float | None:
        values = self._values(position)
        if values is None or values.size != 1 or values.dtype.kind not in "fiub":
            return None
        return float(values.reshape(-1)[0])

    def _values(self, position: int) -> Array | None:
        """A constant's values, where it is one and is small."""
        name = self._node.input(position)
        stored: object = self._model.graph.initializers.get(name)
        producer = self._model.graph.wiring.producers.get(name)
        if stored is None and producer is not None and producer.op_type == "Constant":
            stored = next(iter(producer.attributes.values()), None)
        if isinstance(stored, Tensor):
            return self._loaded(stored)
        return np.asarray(stored) if isinstance(stored, int | float | bytes) else None

    def _loaded(self, tensor: Tensor) -> Array | None:
        return self._model.values(tensor) if tensor.elements <= MOST_LOADED else None


def _key(value: object) -> int | str | None:
    match value:
        case bytes() | str():
            return _text(value)
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case _:
            return None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
