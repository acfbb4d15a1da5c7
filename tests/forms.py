"""BatchNorms of given parameters, written in every form an ONNX model may hold one in.

Three tables of builders, `NATIVE_STORAGES`, `DECOMPOSED` and `AFFINE`, each from a name to a
function of `Params` and keywords; and three ways to move what was built elsewhere: `in_if`,
`in_function`, `called_twice`. `KNOBS` has, for each table, the keywords with all their values,
so that a property test may draw from it. What is right comes from numpy and from onnx's own
evaluator: nothing here knows the code it is to test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
FOUR = ("scale", "bias", "mean", "var")

DTYPES = ("float16", "float32", "float64")
FRONTS = ("input", "relu", "conv")
BACKS = ("output", "relu")
NAMES = ("plain", "keras")
SHAPES = ("full", "tail")
VIAS = ("stored", "unsqueeze", "unsqueezes", "reshape", "late unsqueeze", "late reshape")
EPSILONS = ("scalar", "one", "filled")
SPATIAL = (3, 5, 4)
SCOPE = "model/batch_normalization/batchnorm/"
DOMAIN = "local"

Front = Literal["input", "relu", "conv"]
Back = Literal["output", "relu"]
Names = Literal["plain", "keras"]
Shape = Literal["full", "tail"]
"""`full` has every axis, [1, C, 1, 1] or [1, 1, 1, C]; `tail` no leading ones, [C, 1, 1] or [C]."""
Via = Literal["stored", "unsqueeze", "unsqueezes", "reshape", "late unsqueeze", "late reshape"]
"""How a parameter comes to its shape: stored in it, or from [C], at once or only beside the data.

`unsqueezes` adds one axis by one; what is `late` computes on [C], as PyTorch decomposes.
"""
EpsilonAs = Literal["scalar", "one", "filled"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Params:
    """A BatchNorm of C channels; the tensors are of one dtype."""

    scale: Array
    bias: Array
    mean: Array
    var: Array
    epsilon: float

    @property
    def channels(self) -> int:
        return len(self.scale)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.scale.dtype

    @property
    def tensors(self) -> dict[str, Array]:
        return {each: getattr(self, each) for each in FOUR}

    @property
    def slope(self) -> Array:
        """In float64, as `intercept`."""
        return self.scale.astype(float) / np.sqrt(self.var.astype(float) + self.epsilon)

    @property
    def intercept(self) -> Array:
        return self.bias.astype(float) - self.mean.astype(float) * self.slope


def random_params(seed: int, channels: int, dtype: DTypeLike, epsilon: float) -> Params:
    rng = np.random.default_rng(seed)
    sign = np.where(rng.random(channels) < 0.25, -1, 1)
    return Params(
        scale=(sign * rng.uniform(0.2, 2, channels)).astype(dtype),
        bias=rng.uniform(-2, 2, channels).astype(dtype),
        mean=rng.uniform(-2, 2, channels).astype(dtype),
        var=rng.uniform(0.01, 4, channels).astype(dtype),
        epsilon=epsilon,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A model and the values its BatchNorm sees; `entered` is the value that the norm takes."""

    model: onnx.ModelProto
    expected: Params
    entered: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """A model of a folded norm: y = slope · x + intercept, of the constants as they are stored."""

    model: onnx.ModelProto
    slope: Array
    intercept: Array
    entered: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Twice:
    """Two calls of one function, the second upon what the first gave."""

    model: onnx.ModelProto
    calls: tuple[Any, Any]
    entered: str


def along(values: Array, rank: int, *, channels_last: bool) -> Array:
    """[C] with the axes that broadcast it over the channels of data of this rank."""
    return values.reshape([-1 if each != 1 else 1 for each in _full(-1, rank, channels_last)])


def truth(params: Params, x: Array, *, channels_last: bool = False) -> Array:
    """The BatchNorm of x, in float64, by numpy alone."""
    wide = {
        name: along(values.astype(float), x.ndim, channels_last=channels_last)
        for name, values in params.tensors.items()
    }
    x = (x.astype(float) - wide["mean"]) / np.sqrt(wide["var"] + params.epsilon)
    return x * wide["scale"] + wide["bias"]


def reference(model: onnx.ModelProto) -> ReferenceEvaluator:
    """onnx's evaluator, led past three faults it has (onnx 1.23).

    BatchNormalization of opsets 9 to 13 always trains in it, and DequantizeLinear is missing
    before 19: older opsets become 19, by which nothing that is written here means another thing.
    And a Constant's sparse_value stays a sparse tensor that no operator takes, where the standard
    has it dense.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for holder in (copy, *copy.functions):
        for each in holder.opset_import:
            if not each.domain:
                each.version = max(each.version, 19)
        _make_dense(holder.graph.node if holder is copy else holder.node)
    return ReferenceEvaluator(copy)


def _make_dense(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in list(node.attribute):
            if attribute.type == onnx.AttributeProto.GRAPH:
                _make_dense(attribute.g.node)
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                sparse = attribute.sparse_tensor
                values = numpy_helper.to_array(sparse.values)
                dense = np.zeros(list(sparse.dims), values.dtype)
                dense.reshape(-1)[numpy_helper.to_array(sparse.indices)] = values
                tensor = numpy_helper.from_array(dense)
                attribute.CopyFrom(helper.make_attribute("value", tensor))


# Putting a graph together


class _Graph:
    """Nodes and initializers, named as `names` says, while a graph is put together."""

    def __init__(self, dtype: np.dtype[Any], *, opset: int, names: Names = "plain") -> None:
        self.dtype = dtype
        self.opset = opset
        self.names = names
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.taken: set[str] = set()

    def fresh(self, hint: str, letter: str) -> str:
        """A name that says nothing, or one as TensorFlow counts them: mul, mul_1, mul_2."""
        if self.names == "plain":
            return f"{letter}{len(self.nodes) + len(self.stored)}"
        name, count = hint, 0
        while name in self.taken:
            count += 1
            name = f"{hint}_{count}"
        self.taken.add(name)
        return f"{SCOPE}{name}"

    def name(self, hint: str) -> str:
        """A name for a stored tensor."""
        return self.fresh(hint, "c") + (":0" if self.names == "keras" else "")

    def keep(self, tensor: onnx.TensorProto) -> str:
        self.stored.append(tensor)
        return tensor.name

    def store(self, values: Array, hint: str = "Const") -> str:
        """An initializer, of the values' own dtype and shape."""
        tensor = numpy_helper.from_array(np.asarray(values, order="C"), self.name(hint))
        return self.keep(tensor)

    def ints(self, *values: int) -> str:
        return self.store(np.array(values, np.int64))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        hints = {"Mul": "mul", "Add": "add", "Sub": "sub", "Div": "truediv"}
        name = self.fresh(hints.get(op_type, op_type), "n")
        output = f"{name}:0" if self.names == "keras" else f"v{name[1:]}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name, **attributes))
        return output

    def model(self, y: str, x_dims: Sequence[int], y_dims: Sequence[int]) -> onnx.ModelProto:
        last = next(each for each in self.nodes if y in each.output)
        last.output[0] = "y"
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, ("N", *x_dims[1:]))],
            [helper.make_tensor_value_info("y", kind, ("N", *y_dims[1:]))],
            self.stored,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=8 if self.opset < 19 else 9,
        )


def _full(channels: int, rank: int, channels_last: bool) -> list[int]:
    return [1] * (rank - 1) + [channels] if channels_last else [1, channels] + [1] * (rank - 2)


def _dims(channels: int, rank: int, channels_last: bool) -> list[int]:
    spatial = SPATIAL[: rank - 2]
    return [1, *spatial, channels] if channels_last else [1, channels, *spatial]


def _perm(rank: int, *, to_last: bool) -> list[int]:
    spatial = list(range(2, rank))
    return [0, *spatial, 1] if to_last else [0, rank - 1, *range(1, rank - 1)]


@dataclass(frozen=True, kw_only=True)
class _Data:
    """The data around the norm."""

    channels: int
    rank: int
    channels_last: bool
    front: Front
    back: Back

    def enter(self, g: _Graph) -> str:
        """The value that the norm takes."""
        if self.front == "conv":
            return self._conv(g)
        return g.op("Relu", "x") if self.front == "relu" else "x"

    def _conv(self, g: _Graph) -> str:
        rng = np.random.default_rng(self.channels)
        kernel = rng.uniform(-1, 1, [self.channels, self.channels] + [1] * (self.rank - 2))
        if self.rank == 2:
            return g.op("MatMul", "x", g.store(kernel.astype(g.dtype)))
        x = g.op("Conv", "x", g.store(kernel.astype(g.dtype)))
        return self.turned(g, x, to_last=True) if self.channels_last else x

    def turned(self, g: _Graph, x: str, *, to_last: bool) -> str:
        return g.op("Transpose", x, perm=_perm(self.rank, to_last=to_last))

    def leave(self, g: _Graph, y: str) -> onnx.ModelProto:
        if self.back == "relu":
            y = g.op("Relu", y)
        after = _dims(self.channels, self.rank, self.channels_last)
        before = _dims(self.channels, self.rank, self.channels_last and self.front != "conv")
        return g.model(y, before, after)


# One BatchNormalization, its parameters stored


class _Stored(NamedTuple):
    value: str
    seen: Array | None
    """What the node sees; None where only running the graph tells."""


Storage = Callable[[_Graph, dict[str, Array]], dict[str, _Stored]]
NATIVE_STORAGES: dict[str, Callable[..., Built]] = {}


def _native(
    storage: Storage,
    params: Params,
    *,
    rank: int = 4,
    channels_last: bool = False,
    front: Front = "relu",
    back: Back = "output",
    opset: int = 18,
    names: Names = "plain",
) -> Built:
    """A BatchNormalization; of channels_last data it is between two Transposes."""
    g = _Graph(params.dtype, opset=opset, names=names)
    data = _Data(
        channels=params.channels, rank=rank, channels_last=channels_last, front=front, back=back
    )
    x = entered = data.enter(g)
    stored = storage(g, params.tensors)
    turn = channels_last and rank > 2
    if turn:
        x = data.turned(g, x, to_last=False)
    values = [stored[each].value for each in FOUR]
    x = g.op("BatchNormalization", x, *values, epsilon=params.epsilon)
    if turn:
        x = data.turned(g, x, to_last=True)
    model = data.leave(g, x)
    seen = [stored[each].seen for each in FOUR]
    if any(each is None for each in seen):
        seen = constants(model, values)
    tensors = dict(zip(FOUR, seen, strict=True))
    epsilon = float(np.float32(params.epsilon))
    return Built(model=model, expected=Params(**tensors, epsilon=epsilon), entered=entered)


def constants(model: onnx.ModelProto, values: Sequence[str]) -> list[Array]:
    """What the graph computes of its constants alone, as onnx's evaluator computes it."""
    parts = _split(model.graph, "x")
    graph = onnx.GraphProto(name="constants", initializer=model.graph.initializer)
    graph.node.extend(parts.constant)
    graph.output.extend(onnx.ValueInfoProto(name=each) for each in values)
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    return list(reference(alone).run(None, {}))


def _storage(name: str) -> Callable[[Storage], Storage]:
    def register(storage: Storage) -> Storage:
        NATIVE_STORAGES[name] = partial(_native, storage)
        return storage

    return register


Single = Callable[[_Graph, str, Array], str | _Stored]


def _each(name: str) -> Callable[[Single], Single]:
    """Register what stores each of the four by itself, and unchanged unless it says otherwise."""

    def register(single: Single) -> Single:
        def storage(g: _Graph, tensors: dict[str, Array]) -> dict[str, _Stored]:
            made = {which: single(g, which, values) for which, values in tensors.items()}
            return {
                which: one if isinstance(one, _Stored) else _Stored(one, tensors[which])
                for which, one in made.items()
            }

        _storage(name)(storage)
        return single

    return register


@_each("initializer")
def _initializer(g: _Graph, which: str, values: Array) -> str:
    return g.store(values, which)


@_each("typed data")
def _typed(g: _Graph, which: str, values: Array) -> str:
    return g.keep(_in_typed_field(values, g.name(which)))


def _in_typed_field(values: Array, name: str) -> onnx.TensorProto:
    """The tensor with its numbers one by one instead of as bytes."""
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=values.shape)
    match values.dtype.itemsize:
        case 2:
            tensor.int32_data.extend(values.view(np.uint16).tolist())
        case 4:
            tensor.float_data.extend(values.tolist())
        case _:
            tensor.double_data.extend(values.tolist())
    return tensor


@_each("Constant value")
def _constant(g: _Graph, which: str, values: Array) -> str:
    return g.op("Constant", value=numpy_helper.from_array(values))


@_each("Constant typed data")
def _constant_typed(g: _Graph, which: str, values: Array) -> str:
    return g.op("Constant", value=_in_typed_field(values, ""))


@_each("Constant value_floats")
def _floats(g: _Graph, which: str, values: Array) -> str | _Stored:
    """The attribute is of float32; another dtype comes from it by a Cast."""
    narrow = values.astype(np.float32)
    value = g.op("Constant", value_floats=narrow.tolist())
    if values.dtype == np.float32:
        return value
    return _Stored(_cast(g, value, values.dtype), narrow.astype(values.dtype))


@_each("Constant sparse_value")
def _sparse(g: _Graph, which: str, values: Array) -> str:
    (at,) = np.nonzero(values)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(values[at]), numpy_helper.from_array(at), values.shape
    )
    return g.op("Constant", sparse_value=sparse)


@_each("Identity")
def _identity(g: _Graph, which: str, values: Array) -> str:
    return g.op("Identity", g.store(values, which))


@_each("three Identities")
def _identities(g: _Graph, which: str, values: Array) -> str:
    return g.op("Identity", g.op("Identity", _identity(g, which, values)))


def _cast(g: _Graph, value: str, dtype: DTypeLike) -> str:
    return g.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


@_each("Cast from wider")
def _from_wider(g: _Graph, which: str, values: Array) -> str | _Stored:
    """Exact; nothing is wider than float64, which comes from a narrower one."""
    if values.dtype == np.float64:
        return _from_narrower(g, which, values)
    return _cast(g, g.store(values.astype(_wider(values.dtype)), which), values.dtype)


@_each("Cast from narrower")
def _from_narrower(g: _Graph, which: str, values: Array) -> str | _Stored:
    """The parameters as the narrower dtype has them; nothing is narrower than float16."""
    if values.dtype == np.float16:
        return _from_wider(g, which, values)
    narrow = values.astype(np.float16 if values.dtype == np.float32 else np.float32)
    value = _cast(g, g.store(narrow, which), values.dtype)
    return _Stored(value, narrow.astype(values.dtype))


def _wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype == np.float16 else np.float64)


@_each("Reshape")
def _reshape(g: _Graph, which: str, values: Array) -> str:
    return g.op("Reshape", g.store(values.reshape(1, -1, 1, 1), which), g.ints(-1))


@_each("Squeeze")
def _squeeze(g: _Graph, which: str, values: Array) -> str:
    return g.op("Squeeze", g.store(values.reshape(1, -1, 1, 1), which), g.ints(0, 2, 3))


@_each("Unsqueeze")
def _unsqueeze(g: _Graph, which: str, values: Array) -> str:
    """Of one channel from a scalar, of more there and back."""
    if len(values) == 1:
        return g.op("Unsqueeze", g.store(values.reshape(()), which), g.ints(0))
    value = g.op("Unsqueeze", g.store(values, which), g.ints(0))
    return g.op("Squeeze", value, g.ints(0))


def _uniform(values: Array) -> Array:
    return np.full_like(values, values[0])


@_each("Expand")
def _expand(g: _Graph, which: str, values: Array) -> _Stored:
    value = g.op("Expand", g.store(values[0], which), g.ints(len(values)))
    return _Stored(value, _uniform(values))


@_each("ConstantOfShape")
def _of_shape(g: _Graph, which: str, values: Array) -> _Stored:
    one = numpy_helper.from_array(values[:1])
    return _Stored(g.op("ConstantOfShape", g.ints(len(values)), value=one), _uniform(values))


@_each("Transpose")
def _transpose(g: _Graph, which: str, values: Array) -> str:
    value = g.op("Transpose", g.store(values.reshape(-1, 1), which), perm=[1, 0])
    return g.op("Reshape", value, g.ints(-1))


@_storage("Slice")
def _slices(g: _Graph, tensors: dict[str, Array]) -> dict[str, _Stored]:
    """All four out of one tensor of 4 · C numbers."""
    packed = g.store(np.concatenate(list(tensors.values())), "packed")
    made, start = {}, 0
    for which, values in tensors.items():
        end = start + len(values)
        value = g.op("Slice", packed, g.ints(start), g.ints(end), g.ints(0))
        made[which] = _Stored(value, values)
        start = end
    return made


@_each("Concat")
def _concat(g: _Graph, which: str, values: Array) -> str:
    """Two halves; one channel is alone."""
    half = len(values) // 2
    parts = [each for each in (values[:half], values[half:]) if len(each)]
    return g.op("Concat", *(g.store(each, which) for each in parts), axis=0)


@_each("arithmetic")
def _arithmetic(g: _Graph, which: str, values: Array) -> _Stored:
    """Each computed of constants by another operator; the variance from its root."""
    three = values.dtype.type(3)
    first, second, op_type = {
        "scale": (values / three, three, "Mul"),
        "bias": (values - three, three, "Add"),
        "mean": (values * three, three, "Div"),
        "var": (values, None, "Sqrt"),
    }[which]
    stored = g.store(np.asarray(first), which)
    if second is None:
        root = g.op("Sqrt", stored)
        return _Stored(g.op("Mul", root, root), None)
    return _Stored(g.op(op_type, stored, g.store(np.asarray(second))), None)


@_each("DequantizeLinear")
def _dequantized(g: _Graph, which: str, values: Array) -> _Stored:
    """int8 of a float32 step; float16 directly from opset 19 on, else by a Cast."""
    at_once = values.dtype == np.float32 or (values.dtype == np.float16 and g.opset >= 19)
    kind = values.dtype if at_once else np.dtype(np.float32)
    step = np.asarray(np.abs(values).max() / 100, kind)
    zero = np.int8(-5 if which in {"bias", "mean"} else 0)
    whole = np.rint(values.astype(float) / float(step)) + zero
    whole = np.maximum(whole, 1) if which == "var" else whole
    inputs = [g.store(whole.astype(np.int8), which), g.store(step)]
    if zero:
        inputs.append(g.store(np.asarray(zero)))
    value = g.op("DequantizeLinear", *inputs)
    return _Stored(value if at_once else _cast(g, value, values.dtype), None)


# Arithmetic with all four tensors


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How constants get the shape in which they meet the data."""

    rank: int
    channels_last: bool
    shape: Shape
    via: Via

    def dims(self, channels: int) -> list[int]:
        dims = _full(channels, self.rank, self.channels_last)
        return dims if self.shape == "full" else dims[self.at :]

    @property
    def at(self) -> int:
        """The channel's axis."""
        return self.rank - 1 if self.channels_last else 1

    def bring(self, g: _Graph, value: str, channels: int) -> str:
        """[C] in the shape."""
        if self.via.endswith("reshape"):
            return g.op("Reshape", value, g.ints(*self.dims(channels)))
        axes = [each for each in range(self.rank) if each != self.at]
        if self.shape == "tail":
            axes = [each - self.at for each in axes if each > self.at]
        if self.via == "unsqueezes":
            for axis in axes:
                value = g.op("Unsqueeze", value, g.ints(axis))
            return value
        return g.op("Unsqueeze", value, g.ints(*axes)) if axes else value

    def early(self, g: _Graph, values: Array, hint: str, *, cast: DTypeLike | None = None) -> str:
        """A stored constant, in its shape unless that is for later."""
        stored = values.reshape(self.dims(len(values))) if self.via == "stored" else values
        value = g.store(stored, hint)
        if cast is not None:
            value = _cast(g, value, cast)
        if self.via == "stored" or self.is_late:
            return value
        return self.bring(g, value, len(values))

    @property
    def is_late(self) -> bool:
        return self.via.startswith("late")


@dataclass(frozen=True, kw_only=True)
class _Norm:
    """The four values, and what a formula makes of them."""

    g: _Graph
    layout: _Layout
    channels: int
    dtype: np.dtype[Any]
    scale: str
    bias: str
    mean: str
    var: str
    epsilon: float
    epsilon_as: EpsilonAs
    epsilon_left: bool

    def op(self, op_type: str, *inputs: str) -> str:
        return self.g.op(op_type, *inputs)

    def number(self, value: float, hint: str) -> str:
        return self.g.store(np.asarray(value, self.dtype), hint)

    def at(self, value: str) -> str:
        """The value where it meets the data."""
        if not self.layout.is_late:
            return value
        return self.layout.bring(self.g, value, self.channels)

    @property
    def shifted(self) -> str:
        """var + eps."""
        dims = {
            "scalar": [],
            "one": [1],
            "filled": [self.channels] if self.layout.is_late else self.layout.dims(self.channels),
        }[self.epsilon_as]
        epsilon = self.g.store(np.full(dims, self.epsilon, self.dtype), "add/y")
        return self.op("Add", *((epsilon, self.var) if self.epsilon_left else (self.var, epsilon)))

    @property
    def root(self) -> str:
        return self.op("Sqrt", self.shifted)

    @property
    def rsqrt(self) -> str:
        return self.op("Reciprocal", self.root)

    @property
    def slope(self) -> str:
        return self.op("Mul", self.rsqrt, self.scale)

    @property
    def slope_div(self) -> str:
        return self.op("Div", self.scale, self.root)

    def powered(self, exponent: float) -> str:
        return self.op("Pow", self.shifted, self.number(exponent, "pow/y"))

    def centred(self, x: str) -> str:
        return self.op("Sub", x, self.at(self.mean))

    def scaled(self, x: str) -> str:
        return self.op("Mul", x, self.at(self.scale))

    def lifted(self, x: str) -> str:
        return self.op("Add", x, self.at(self.bias))

    def shift(self, slope: str) -> str:
        """bias - mean · slope."""
        return self.op("Sub", self.bias, self.op("Mul", self.mean, slope))


Formula = Callable[[_Norm, str], str]
DECOMPOSED: dict[str, Callable[..., Built]] = {}


def _formula(name: str) -> Callable[[Formula], Formula]:
    def register(formula: Formula) -> Formula:
        DECOMPOSED[name] = partial(_decomposed, formula)
        return formula

    return register


def _decomposed(
    formula: Formula,
    params: Params,
    *,
    rank: int = 4,
    channels_last: bool = False,
    shape: Shape = "full",
    via: Via = "stored",
    epsilon_as: EpsilonAs = "scalar",
    epsilon_left: bool = False,
    cast: bool = False,
    transposed: bool = False,
    front: Front = "relu",
    back: Back = "output",
    opset: int = 18,
    names: Names = "plain",
) -> Built:
    """A formula; `cast` computes it in the next wider dtype, `transposed` in the other layout."""
    g = _Graph(params.dtype, opset=opset, names=names)
    data = _Data(
        channels=params.channels, rank=rank, channels_last=channels_last, front=front, back=back
    )
    x = entered = data.enter(g)
    dtype = _wider(params.dtype) if cast else params.dtype
    inside = channels_last != transposed
    layout = _Layout(rank=rank, channels_last=inside, shape=shape, via=via)
    stored = {
        each: layout.early(g, values, each, cast=dtype if cast else None)
        for each, values in params.tensors.items()
    }
    norm = _Norm(
        g=g,
        layout=layout,
        channels=params.channels,
        dtype=dtype,
        **stored,
        epsilon=params.epsilon,
        epsilon_as=epsilon_as,
        epsilon_left=epsilon_left,
    )
    if transposed:
        x = data.turned(g, x, to_last=inside)
    if cast:
        x = _cast(g, x, dtype)
    x = formula(norm, x)
    if cast:
        x = _cast(g, x, params.dtype)
    if transposed:
        x = data.turned(g, x, to_last=not inside)
    expected = replace(params, epsilon=float(dtype.type(params.epsilon)))
    return Built(model=data.leave(g, x), expected=expected, entered=entered)


@_formula("Sub Div Mul Add")
def _(n: _Norm, x: str) -> str:
    x = n.op("Div", n.centred(x), n.at(n.root))
    return n.lifted(n.scaled(x))


@_formula("Sub Mul(Reciprocal(Sqrt)) Mul Add")
def _(n: _Norm, x: str) -> str:
    x = n.op("Mul", n.centred(x), n.at(n.rsqrt))
    return n.lifted(n.scaled(x))


@_formula("Sub Mul(Pow -0.5) Mul Add")
def _(n: _Norm, x: str) -> str:
    x = n.op("Mul", n.centred(x), n.at(n.powered(-0.5)))
    return n.lifted(n.scaled(x))


@_formula("Sub Div(Pow 0.5) Mul Add")
def _(n: _Norm, x: str) -> str:
    x = n.op("Div", n.centred(x), n.at(n.powered(0.5)))
    return n.lifted(n.scaled(x))


@_formula("Sub Mul(Div(1, Sqrt)) Mul Add")
def _(n: _Norm, x: str) -> str:
    inverse = n.op("Div", n.number(1, "truediv/x"), n.root)
    return n.lifted(n.scaled(n.op("Mul", n.centred(x), n.at(inverse))))


@_formula("Sub Mul(scale) Div Add")
def _(n: _Norm, x: str) -> str:
    return n.lifted(n.op("Div", n.scaled(n.centred(x)), n.at(n.root)))


@_formula("Sub Mul(slope) Add")
def _(n: _Norm, x: str) -> str:
    return n.lifted(n.op("Mul", n.centred(x), n.at(n.slope)))


@_formula("Sub Mul(Div(scale, Sqrt)) Add")
def _(n: _Norm, x: str) -> str:
    return n.lifted(n.op("Mul", n.centred(x), n.at(n.slope_div)))


@_formula("Sub Div(Div(Sqrt, scale)) Add")
def _(n: _Norm, x: str) -> str:
    step = n.op("Div", n.root, n.scale)
    return n.lifted(n.op("Div", n.centred(x), n.at(step)))


@_formula("all swapped")
def _(n: _Norm, x: str) -> str:
    """bias + (scale · ((x - mean) · rsqrt)), the constant first wherever order is free."""
    x = n.op("Mul", n.at(n.rsqrt), n.centred(x))
    return n.op("Add", n.at(n.bias), n.op("Mul", n.at(n.scale), x))


@_formula("bias + Mul(Sub, slope)")
def _(n: _Norm, x: str) -> str:
    return n.op("Add", n.at(n.bias), n.op("Mul", n.centred(x), n.at(n.slope)))


@_formula("bias - Mul(Sub(mean, x), slope)")
def _(n: _Norm, x: str) -> str:
    x = n.op("Mul", n.op("Sub", n.at(n.mean), x), n.at(n.slope))
    return n.op("Sub", n.at(n.bias), x)


@_formula("Add(Neg(mean)) Mul Add")
def _(n: _Norm, x: str) -> str:
    x = n.op("Add", x, n.at(n.op("Neg", n.mean)))
    return n.lifted(n.op("Mul", x, n.at(n.slope)))


@_formula("tf")
def _(n: _Norm, x: str) -> str:
    """As tf.nn.batch_normalization has it, and in its order."""
    slope = n.slope
    x = n.op("Mul", x, n.at(slope))
    return n.op("Add", x, n.at(n.shift(slope)))


@_formula("tf, Div(scale, Sqrt)")
def _(n: _Norm, x: str) -> str:
    slope = n.slope_div
    x = n.op("Mul", x, n.at(slope))
    return n.op("Add", x, n.at(n.shift(slope)))


@_formula("tf, Pow -0.5")
def _(n: _Norm, x: str) -> str:
    slope = n.op("Mul", n.scale, n.powered(-0.5))
    return n.op("Add", n.op("Mul", x, n.at(slope)), n.at(n.shift(slope)))


@_formula("tf, Sub(mean · slope, bias)")
def _(n: _Norm, x: str) -> str:
    slope = n.slope
    back = n.op("Sub", n.op("Mul", n.mean, slope), n.bias)
    return n.op("Sub", n.op("Mul", x, n.at(slope)), n.at(back))


@_formula("tf swapped")
def _(n: _Norm, x: str) -> str:
    slope = n.slope
    return n.op("Add", n.at(n.shift(slope)), n.op("Mul", n.at(slope), x))


@_formula("tf, Neg and bias apart")
def _(n: _Norm, x: str) -> str:
    slope = n.slope
    back = n.op("Neg", n.op("Mul", n.mean, slope))
    return n.lifted(n.op("Add", n.op("Mul", x, n.at(slope)), n.at(back)))


@_formula("tf, Add(Neg, bias)")
def _(n: _Norm, x: str) -> str:
    slope = n.slope
    shift = n.op("Add", n.op("Neg", n.op("Mul", slope, n.mean)), n.bias)
    return n.op("Add", n.op("Mul", x, n.at(slope)), n.at(shift))


# Arithmetic whose constants are folded


class _Held(NamedTuple):
    value: str
    values: Array
    """In float64, what is stored."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A graph in which a line of x is written, of constants made of the norm's parameters."""

    g: _Graph
    layout: _Layout
    params: Params

    def hold(self, values: Array, hint: str) -> _Held:
        """A constant of the dtype, where it meets the data."""
        stored = values.astype(self.g.dtype)
        value = self.layout.early(self.g, stored, hint)
        if self.layout.is_late:
            value = self.layout.bring(self.g, value, len(stored))
        return _Held(value, stored.astype(float))

    @property
    def slope(self) -> _Held:
        return self.hold(self.params.slope, "mul")

    @property
    def intercept(self) -> _Held:
        return self.hold(self.params.intercept, "sub")

    @property
    def crossing(self) -> Array:
        """Where the line is zero."""
        return -self.params.intercept / self.params.slope

    @property
    def mean(self) -> _Held:
        return self.hold(self.params.mean.astype(float), "moving_mean")

    @property
    def bias(self) -> _Held:
        return self.hold(self.params.bias.astype(float), "beta")


class _Drawn(NamedTuple):
    y: str
    slope: Array
    intercept: Array


Folded = Callable[[_Line, str], _Drawn]
AFFINE: dict[str, Callable[..., Affine]] = {}


def _folded(name: str) -> Callable[[Folded], Folded]:
    def register(folded: Folded) -> Folded:
        AFFINE[name] = partial(_affine, folded)
        return folded

    return register


def _affine(
    folded: Folded,
    params: Params,
    *,
    rank: int = 4,
    channels_last: bool = False,
    shape: Shape = "full",
    via: Via = "stored",
    front: Front = "relu",
    back: Back = "output",
    opset: int = 18,
    names: Names = "plain",
) -> Affine:
    g = _Graph(params.dtype, opset=opset, names=names)
    data = _Data(
        channels=params.channels, rank=rank, channels_last=channels_last, front=front, back=back
    )
    entered = data.enter(g)
    g.taken.add("add")  # var + eps, which was folded away: so the norm's own are mul_1 and add_1
    layout = _Layout(rank=rank, channels_last=channels_last, shape=shape, via=via)
    drawn = folded(_Line(g=g, layout=layout, params=params), entered)
    return Affine(
        model=data.leave(g, drawn.y),
        slope=drawn.slope,
        intercept=drawn.intercept,
        entered=entered,
    )


@_folded("Mul Add")
def _(line: _Line, x: str) -> _Drawn:
    a, b, g = line.slope, line.intercept, line.g
    return _Drawn(g.op("Add", g.op("Mul", x, a.value), b.value), a.values, b.values)


@_folded("Mul Add swapped")
def _(line: _Line, x: str) -> _Drawn:
    a, b, g = line.slope, line.intercept, line.g
    return _Drawn(g.op("Add", b.value, g.op("Mul", a.value, x)), a.values, b.values)


@_folded("Mul Sub")
def _(line: _Line, x: str) -> _Drawn:
    a, b, g = line.slope, line.hold(-line.params.intercept, "sub"), line.g
    return _Drawn(g.op("Sub", g.op("Mul", x, a.value), b.value), a.values, -b.values)


@_folded("Sub(intercept, Mul)")
def _(line: _Line, x: str) -> _Drawn:
    a, b, g = line.hold(-line.params.slope, "mul"), line.intercept, line.g
    return _Drawn(g.op("Sub", b.value, g.op("Mul", x, a.value)), -a.values, b.values)


@_folded("Div Add")
def _(line: _Line, x: str) -> _Drawn:
    a, b, g = line.hold(1 / line.params.slope, "mul"), line.intercept, line.g
    return _Drawn(g.op("Add", g.op("Div", x, a.value), b.value), 1 / a.values, b.values)


@_folded("Sub Mul")
def _(line: _Line, x: str) -> _Drawn:
    a, c, g = line.slope, line.hold(line.crossing, "sub"), line.g
    y = g.op("Mul", g.op("Sub", x, c.value), a.value)
    return _Drawn(y, a.values, -c.values * a.values)


@_folded("Add Mul")
def _(line: _Line, x: str) -> _Drawn:
    a, c, g = line.slope, line.hold(-line.crossing, "sub"), line.g
    y = g.op("Mul", g.op("Add", x, c.value), a.value)
    return _Drawn(y, a.values, c.values * a.values)


@_folded("Add Mul swapped")
def _(line: _Line, x: str) -> _Drawn:
    a, c, g = line.slope, line.hold(-line.crossing, "sub"), line.g
    y = g.op("Mul", a.value, g.op("Add", c.value, x))
    return _Drawn(y, a.values, c.values * a.values)


@_folded("Sub Mul Add")
def _(line: _Line, x: str) -> _Drawn:
    a, m, b, g = line.slope, line.mean, line.bias, line.g
    y = g.op("Add", g.op("Mul", g.op("Sub", x, m.value), a.value), b.value)
    return _Drawn(y, a.values, b.values - m.values * a.values)


@_folded("Sub Mul Add swapped")
def _(line: _Line, x: str) -> _Drawn:
    a, m, b, g = line.slope, line.mean, line.bias, line.g
    y = g.op("Add", b.value, g.op("Mul", a.value, g.op("Sub", x, m.value)))
    return _Drawn(y, a.values, b.values - m.values * a.values)


@_folded("Sub Div Add")
def _(line: _Line, x: str) -> _Drawn:
    a, m, b, g = line.hold(1 / line.params.slope, "mul"), line.mean, line.bias, line.g
    y = g.op("Add", g.op("Div", g.op("Sub", x, m.value), a.value), b.value)
    return _Drawn(y, 1 / a.values, b.values - m.values / a.values)


@_folded("Mul")
def _(line: _Line, x: str) -> _Drawn:
    """The slope alone: the mean and the bias are not in it."""
    a = line.slope
    return _Drawn(line.g.op("Mul", x, a.value), a.values, np.zeros_like(a.values))


@_folded("Div")
def _(line: _Line, x: str) -> _Drawn:
    """The slope alone, as a divisor."""
    a = line.hold(1 / line.params.slope, "mul")
    return _Drawn(line.g.op("Div", x, a.value), 1 / a.values, np.zeros_like(a.values))


_AROUND: Mapping[str, tuple[Any, ...]] = {
    "rank": (2, 3, 4, 5),
    "channels_last": (False, True),
    "front": FRONTS,
    "back": BACKS,
    "opset": tuple(range(13, 21)),
    "names": NAMES,
}
_SHAPED: Mapping[str, tuple[Any, ...]] = {**_AROUND, "shape": SHAPES, "via": VIAS}
_WRITTEN: Mapping[str, tuple[Any, ...]] = {
    **_SHAPED,
    "epsilon_as": EPSILONS,
    "epsilon_left": (False, True),
    "cast": (False, True),
    "transposed": (False, True),
}
KNOBS = {"NATIVE_STORAGES": _AROUND, "DECOMPOSED": _WRITTEN, "AFFINE": _SHAPED}
"""Every keyword of the builders of a table, with its values."""


# Elsewhere than in the main graph


class _Parts(NamedTuple):
    front: list[onnx.NodeProto]
    """Those that compute what the norm takes."""
    constant: list[onnx.NodeProto]
    """Those that depend on no data."""
    norm: list[onnx.NodeProto]


def _split(graph: onnx.GraphProto, entered: str) -> _Parts:
    front: list[onnx.NodeProto] = []
    needed = {entered}
    for node in reversed(graph.node):
        if needed & set(node.output):
            front.insert(0, node)
            needed |= set(node.input)
    reached = {"x", entered}.union(*(node.output for node in front))
    constant, norm = [], []
    for node in graph.node:
        if node in front:
            continue
        if reached & set(node.input):
            norm.append(node)
            reached |= set(node.output)
        else:
            constant.append(node)
    return _Parts(front, constant, norm)


def _captured(nodes: Iterable[onnx.NodeProto], entered: str) -> list[str]:
    """What the nodes take that none of them makes, in order of use, without `entered`."""
    nodes = list(nodes)
    made = {output for node in nodes for output in node.output}
    taken = (value for node in nodes for value in node.input)
    return list(dict.fromkeys(each for each in taken if each not in made | {entered, ""}))


def _renamed(nodes: Iterable[onnx.NodeProto], to: Mapping[str, str]) -> list[onnx.NodeProto]:
    made = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [to.get(each, each) for each in node.input]
        copy.output[:] = [to.get(each, each) for each in node.output]
        made.append(copy)
    return made


Moved = TypeVar("Moved", Built, Affine)


def _used_by(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {value for node in nodes for value in node.input}


def in_if(built: Moved, *, captured: bool = True) -> Moved:
    """The norm in the then_branch of an If on a fed `take`; the else_branch is an Identity.

    Its parameters are captured from the outer graph or stored in the branch. What comes before
    the norm stays outside. It takes what `in_function` gives, but not the other way round.
    """
    graph = built.model.graph
    parts = _split(graph, built.entered)
    fronts = _used_by(parts.front)
    outer = [each for each in graph.initializer if captured or each.name in fronts]
    inner = [each for each in graph.initializer if not captured and each.name not in fronts]
    inside = parts.norm if captured else parts.constant + parts.norm
    kind = graph.output[0].type

    def branch(name: str, nodes: list[onnx.NodeProto], stored: list[TensorProto]) -> Any:
        output = onnx.ValueInfoProto(name=f"{name}_y", type=kind)
        return helper.make_graph(nodes, name, [], [output], stored)

    chosen = helper.make_node(
        "If",
        ["take"],
        ["y"],
        name="If",
        then_branch=branch("then", _renamed(inside, {"y": "then_y"}), inner),
        else_branch=branch("else", [helper.make_node("Identity", [built.entered], ["else_y"])], []),
    )
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(parts.front + (parts.constant if captured else []) + [chosen])
    model.graph.initializer.extend(outer)
    model.graph.input.append(helper.make_tensor_value_info("take", TensorProto.BOOL, []))
    return replace(built, model=model)


def _constant_node(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [tensor.name], value=tensor)


def _function(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], taken: list[str]
) -> onnx.FunctionProto:
    """The nodes as a function of what they take, under names of its own."""
    formal = {value: f"a{count}" for count, value in enumerate(taken)}
    body = _renamed(nodes, {**formal, "y": "result"})
    return helper.make_function(
        DOMAIN, "Norm", list(formal.values()), ["result"], body, model.opset_import
    )


def _calling(
    model: onnx.ModelProto,
    nodes: Iterable[onnx.NodeProto],
    stored: Iterable[TensorProto],
    function: onnx.FunctionProto,
) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(stored)
    made.functions.append(function)
    made.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return made


def _call(inputs: Sequence[str], output: str) -> onnx.NodeProto:
    return helper.make_node("Norm", inputs, [output], name=f"call_{output}", domain=DOMAIN)


def in_function(built: Moved, *, stored: bool = False) -> Moved:
    """The norm in a function of the model; its parameters are arguments, or `stored` in it.

    An argument is whatever the norm's own nodes take: an initializer of the main graph, or the
    result of a node there. A function has no initializers: `stored` are Constant nodes.
    """
    graph = built.model.graph
    parts = _split(graph, built.entered)
    fronts = _used_by(parts.front)
    if stored:
        own = [each for each in graph.initializer if each.name not in fronts]
        body = [_constant_node(each) for each in own] + parts.constant + parts.norm
        outer, nodes = [each for each in graph.initializer if each.name in fronts], parts.front
    else:
        body = parts.norm
        outer, nodes = list(graph.initializer), parts.front + parts.constant
    taken = [built.entered, *_captured(body, built.entered)]
    function = _function(built.model, body, taken)
    model = _calling(built.model, [*nodes, _call(taken, "y")], outer, function)
    return replace(built, model=model)


def called_twice(builder: Callable[..., Any], first: Params, second: Params, **knobs: Any) -> Twice:
    """One function, called with the first's parameters and then with the second's.

    The epsilon is the first's, since it may be an attribute within the function.
    """
    one = builder(first, **knobs)
    two = builder(replace(second, epsilon=first.epsilon), **knobs)
    parts, others = (_split(each.model.graph, each.entered) for each in (one, two))
    if parts.norm != others.norm:
        raise ValueError("the two norms are not of one form")
    body, entered = parts.norm, one.entered
    taken = _captured(body, entered)
    function = _function(one.model, body, [entered, *taken])
    fronts = _used_by(others.front)
    again = [each for each in two.model.graph.initializer if each.name not in fronts]
    constant_outputs = [output for node in others.constant for output in node.output]
    fresh = {each: f"again_{each}" for each in (*(t.name for t in again), *constant_outputs)}
    moved = []
    for each in again:
        tensor = TensorProto()
        tensor.CopyFrom(each)
        tensor.name = fresh[each.name]
        moved.append(tensor)
    constant = _renamed(others.constant, fresh)
    for node in constant:
        node.name = f"again_{node.name}"
    model = _calling(
        one.model,
        [
            *parts.front,
            *parts.constant,
            *constant,
            _call([entered, *taken], "between"),
            _call(["between", *(fresh[each] for each in taken)], "y"),
        ],
        [*one.model.graph.initializer, *moved],
        function,
    )
    return Twice(model=model, calls=(one, two), entered=entered)
