"""Operators that compute with integers, written as float operators between grids.

QLinearConv becomes DequantizeLinear → Conv → QuantizeLinear, and so on for what ONNX and ONNX
Runtime (domain com.microsoft) have of them, as their specifications define them:
https://onnx.ai/onnx/operators/ and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Dynamic quantisation
is the float operator with the same weights: what its grids do to activations goes with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.write.nodes import (
    CannotExpandError,
    all_read,
    attribute,
    attributes_but,
    has_all,
    in_use,
    node_of,
    read_within,
)
from inspector.write.quantised_lstm import lstm_of

MICROSOFT = "com.microsoft"

Load = Callable[[onnx.TensorProto], Any]
Grid = tuple[str, str, str]
"""Names of a value on a grid, its scale and its zero point; the last is empty for 0."""

_ONE = {
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearSoftmax": "Softmax",
    "QLinearReduceMean": "ReduceMean",
}
"""Operators of one value on a grid (value, scale, zero point, and those of the result)."""

_TWO = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
"""The same of two."""

_OWN = {"channels_last", "opset"}
"""Attributes that the operators of ONNX have not."""

_DYNAMIC = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}

_LEAST = {
    **dict.fromkeys(_ONE, 4),
    **dict.fromkeys(_TWO, 7),
    **dict.fromkeys(_DYNAMIC, 2),
    "QLinearConv": 8,
    "QLinearMatMul": 8,
    "QGemm": 6,
    "QLinearConcat": 4,
    "QLinearWhere": 9,
    "DynamicQuantizeLinear": 1,
    "MatMulIntegerToFloat": 4,
    "DynamicQuantizeMatMul": 3,
    "DynamicQuantizeLSTM": 11,
}
"""How many inputs each has at least, with those that may be empty in between."""


def computes_with_integers(node: onnx.NodeProto) -> bool:
    """Whether a node is of the kind that is written out here, known or not."""
    name = node.op_type
    return (
        name in _LEAST
        or name.startswith(("QLinear", "DynamicQuantize"))
        or (node.domain == MICROSOFT and name.startswith(("QAttention", "QEmbed", "QOrdered")))
        or "Integer" in name
    )


def expand(graph: onnx.GraphProto, load: Load) -> None:
    """Write every such operator of the main graph out.

    Parameters
    ----------
    load
        Gives the values of a stored tensor.

    Raises
    ------
    CannotExpandError
        One of them is not known, or is not well-formed.
    """
    _Expanding(graph, load).run()


class _Expanding:
    def __init__(self, graph: onnx.GraphProto, load: Load) -> None:
        self._graph = graph
        self._load = load
        self._stored = {each.name: each for each in graph.initializer}
        self._producer = {name: n for n in graph.node for name in n.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in all_read(node):
                self._readers.setdefault(name, []).append(node)
        self._ends = {each.name for each in graph.output}
        self._within = {name for node in graph.node for name in read_within(node)}
        self._gone: set[int] = set()
        self._real: dict[tuple[str, ...], str] = {}

    def run(self) -> None:
        made: dict[int, list[onnx.NodeProto]] = {}
        # What is dynamic goes first: it takes nodes around it along.
        for node in self._graph.node:
            if node.op_type in _DYNAMIC:
                end, several = self._dynamic(node)
                made[id(end)] = several
        for node in self._graph.node:
            if id(node) not in made and id(node) not in self._gone:
                made[id(node)] = list(self._written(node))
        nodes = [each for node in self._graph.node for each in made.get(id(node), ())]
        copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
        del self._graph.node[:]
        self._graph.node.extend(in_use(copies, self._ends))

    def _written(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        name, given = node.op_type, list(node.input)
        if not computes_with_integers(node):
            yield node
            return
        _check(node)
        match name:
            case "DynamicQuantizeLinear":
                if not (self._within | self._ends).isdisjoint(node.output):
                    raise CannotExpandError(name)
                return  # those that read it read what it is made of
            case "QLinearConv":
                yield from self._convolution(node, given)
            case "QLinearMatMul":
                yield from self._product(node, given)
            case "QGemm":
                yield from self._gemm(node, given)
            case "QLinearConcat":
                grids = [_grid(given, at) for at in range(2, len(given), 3)]
                yield from self._plain(node, "Concat", grids, (given[0], given[1]))
            case "QLinearWhere":
                yield from self._where(node, given)
            case "MatMulIntegerToFloat":
                yield from self._to_float(node, given)
            case "DynamicQuantizeMatMul":
                yield from self._dynamic_product(node, given)
            case "DynamicQuantizeLSTM":
                yield from lstm_of(node, self._values, self._store)
            case _ if name in _ONE:
                if attribute(node, "channels_last").i:
                    raise CannotExpandError(name)
                scale, *zero = given[3:]
                yield from self._plain(
                    node, _ONE[name], [_grid(given, 0)], (scale, zero[0] if zero else "")
                )
            case _ if name in _TWO:
                scale, *zero = given[6:]
                grids = [_grid(given, 0), _grid(given, 3)]
                yield from self._plain(node, _TWO[name], grids, (scale, zero[0] if zero else ""))
            case _:
                raise CannotExpandError(name)

    def _plain(
        self, node: onnx.NodeProto, op: str, grids: Sequence[Grid], end: tuple[str, str]
    ) -> Iterator[onnx.NodeProto]:
        """A float operator on values from grids, its result put onto one."""
        names = []
        for each in grids:
            yield from self._from_grid(each)
            names.append(self._real[each])
        yield from self._computed(node, op, names, end, attributes_but(node, _OWN))

    def _computed(
        self,
        node: onnx.NodeProto,
        op: str,
        names: Sequence[str],
        end: tuple[str, str],
        attributes: Sequence[onnx.AttributeProto],
    ) -> Iterator[onnx.NodeProto]:
        if not end[0]:
            raise CannotExpandError("a result whose scale is not given")
        value = f"{node.output[0]}_real"
        yield node_of(op, names, [value], node.name or value, attributes)
        yield helper.make_node(
            "QuantizeLinear", [value, *filter(None, end)], [node.output[0]], name=f"{value}/grid"
        )

    def _from_grid(self, grid: Grid, axis: int | None = None) -> Iterator[onnx.NodeProto]:
        """A value on a grid as real numbers, once for all that read it."""
        if grid in self._real:
            return
        found = f"{grid[0]}_from_{grid[1]}" if grid[0] not in self._stored else f"{grid[0]}_real"
        self._real[grid] = found
        node = helper.make_node("DequantizeLinear", list(filter(None, grid)), [found], name=found)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        yield node

    def _convolution(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        image, kernel = _grid(given, 0), _grid(given, 3)
        yield from self._from_grid(image)
        yield from self._from_grid(kernel, axis=0)
        names = [self._real[image], self._real[kernel]]
        if len(given) > 8 and given[8]:
            yield from self._bias(given[8], image[1], kernel[1], 1.0)
            names.append(self._real[given[8], image[1], kernel[1]])
        yield from self._computed(
            node, "Conv", names, (given[6], given[7]), attributes_but(node, _OWN)
        )

    def _product(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        one, other = _grid(given, 0), _grid(given, 3)
        yield from self._from_grid(one, axis=0)
        yield from self._from_grid(other, axis=-1)
        names = [self._real[one], self._real[other]]
        yield from self._computed(node, "MatMul", names, (given[6], given[7]), ())

    def _gemm(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        attributes = attributes_but(node, _OWN)
        one, other = _grid(given, 0), _grid(given, 3)
        yield from self._from_grid(one)
        yield from self._from_grid(other, axis=0 if attribute(node, "transB").i else 1)
        names = [self._real[one], self._real[other]]
        if len(given) > 6 and given[6]:
            # One int32 is alpha · scale of A · scale of B.
            alpha = attribute(node, "alpha", 1.0).f
            yield from self._bias(given[6], one[1], other[1], alpha)
            names.append(self._real[given[6], one[1], other[1]])
        if len(given) > 7 and given[7]:
            end = given[7], given[8] if len(given) > 8 else ""
            yield from self._computed(node, "Gemm", names, end, attributes)
        else:
            yield node_of("Gemm", names, node.output[:1], node.name, attributes)

    def _bias(self, bias: str, one: str, other: str, alpha: float) -> Iterator[onnx.NodeProto]:
        """An int32 bias on the grid of the products that it is added to."""
        key = bias, one, other
        if key in self._real:
            return
        factors = [self._values(each).reshape(-1) for each in (one, other)]
        sizes = {each.size for each in factors}
        if any(each.dtype.kind != "f" for each in factors) or len(sizes - {1}) > 1:
            raise CannotExpandError("scales that do not go with each other")
        with np.errstate(over="ignore", invalid="ignore"):
            scale = (factors[0] * factors[1] * np.float32(alpha)).astype(np.float32)
        name = f"{bias}_scale_of_products"
        if name not in self._stored:
            self._store(name, scale.reshape(()) if scale.size == 1 else scale)
        self._real[key] = f"{bias}_real"
        axis = self._values(bias).ndim - 1
        yield helper.make_node(
            "DequantizeLinear", [bias, name], [self._real[key]], name=self._real[key], axis=axis
        )

    def _where(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        one, other = _grid(given, 1), _grid(given, 4)
        yield from self._from_grid(one)
        yield from self._from_grid(other)
        names = [given[0], self._real[one], self._real[other]]
        yield from self._computed(node, "Where", names, (given[7], given[8]), ())

    def _to_float(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        given = [*given, *[""] * (7 - len(given))]
        weights = given[1], given[3], given[5]
        yield from self._weights(weights, axis=-1)
        yield from _with_bias(node, [self._source(given[0]), self._real[weights]], given[6])

    def _dynamic_product(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        given = [*given, *[""] * (5 - len(given))]
        weights = given[1], given[2], given[3]
        yield from self._weights(weights, axis=-1)
        yield from _with_bias(node, [given[0], self._real[weights]], given[4])

    def _dynamic(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, list[onnx.NodeProto]]:
        """The last node of a dynamic product with its Cast and its scales, and what stands for it.

        Raises
        ------
        CannotExpandError
            It is not followed by them.
        """
        _check(node)
        given = [*node.input, *[""] * (4 - len(node.input))]
        source = self._producer.get(given[0])
        if source is None or source.op_type != "DynamicQuantizeLinear":
            raise CannotExpandError(node.op_type)
        _check(source, outputs=2)
        cast = self._only_reader(node.output[0], "Cast")
        scaled = self._only_reader(cast.output[0], "Mul")
        scales = next((name for name in scaled.input if name != cast.output[0]), "")
        product = self._producer.get(scales)
        if product is None or product.op_type != "Mul":
            raise CannotExpandError(node.op_type)
        own = source.output[1]
        other = next((name for name in product.input if name != own), own)
        if own not in product.input:
            raise CannotExpandError(node.op_type)
        op = _DYNAMIC[node.op_type]
        made: list[onnx.NodeProto] = []
        if given[1] in self._stored:
            weights = given[1], other, given[3]
            made += self._weights(weights, axis=0 if op == "Conv" else -1)
            second = self._real[weights]
        else:
            second = self._source(given[1])
        self._gone |= {id(node), id(cast)}
        if len(self._readers.get(scales, ())) == 1 and scales not in self._ends:
            self._gone.add(id(product))
        names, last = [self._source(given[0]), second], scaled
        biased = self._bias_behind(scaled) if op == "Conv" else None
        if biased is not None:
            last = biased[0]
            names.append(biased[1])
            self._gone.add(id(scaled))
        name = node.name or last.output[0]
        attributes = attributes_but(node, _OWN)
        return last, [*made, node_of(op, names, last.output[:1], name, attributes)]

    def _bias_behind(self, scaled: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | None:
        """The Add behind a convolution and the vector that it adds to each channel, if any."""
        readers = self._readers.get(scaled.output[0], [])
        if len(readers) != 1 or readers[0].op_type != "Add" or not has_all(readers[0], inputs=2):
            return None
        if scaled.output[0] in self._ends:
            return None
        other = next((name for name in readers[0].input if name != scaled.output[0]), "")
        shaped = self._producer.get(other)
        if (
            shaped is None
            or shaped.op_type != "Reshape"
            or len(shaped.input) < 2
            or not set(shaped.input) <= set(self._stored)
        ):
            return None
        bias, shape = shaped.input[0], self._values(shaped.input[1]).reshape(-1).tolist()
        # [1, C, 1, 1], however its C is written.
        by_channel = len(shape) > 2 and all(each == 1 for each in (shape[0], *shape[2:]))
        return (readers[0], bias) if by_channel and self._values(bias).ndim == 1 else None

    def _weights(self, grid: Grid, axis: int) -> Iterator[onnx.NodeProto]:
        """Stored weights as real numbers."""
        if grid[0] not in self._stored or grid[1] not in self._stored:
            raise CannotExpandError("weights that are not stored")
        return self._from_grid(grid, axis)

    def _only_reader(self, value: str, op: str) -> onnx.NodeProto:
        readers = self._readers.get(value, [])
        if len(readers) != 1 or readers[0].op_type != op or value in self._ends:
            raise CannotExpandError(op)
        if not has_all(readers[0], inputs=1):
            raise CannotExpandError("a node that gives nothing out")
        return readers[0]

    def _source(self, value: str) -> str:
        """What was put onto a grid that depends on it."""
        node = self._producer.get(value)
        if node is None or node.op_type != "DynamicQuantizeLinear" or not node.input:
            raise CannotExpandError("a value whose grid is not known")
        return str(node.input[0])

    def _values(self, name: str) -> Any:
        if name not in self._stored:
            raise CannotExpandError("a grid that is not stored")
        return self._load(self._stored[name])

    def _store(self, name: str, values: Any) -> None:
        tensor = numpy_helper.from_array(values, name)
        self._graph.initializer.append(tensor)
        self._stored[name] = tensor


def _grid(given: Sequence[str], at: int) -> Grid:
    found = [*given[at : at + 3], "", "", ""]
    if not found[0] or not found[1]:
        raise CannotExpandError("a value without a scale")
    return found[0], found[1], found[2]


def _with_bias(node: onnx.NodeProto, names: list[str], bias: str) -> Iterator[onnx.NodeProto]:
    product = f"{node.output[0]}_real" if bias else node.output[0]
    yield helper.make_node("MatMul", names, [product], name=node.name)
    if bias:
        yield helper.make_node("Add", [product, bias], node.output[:1], name=f"{product}/bias")


def _check(node: onnx.NodeProto, outputs: int = 1) -> None:
    """Refuse a node that has fewer inputs or outputs than its operator."""
    few = len(node.input) < _LEAST.get(node.op_type, 0)
    if few or not has_all(node, inputs=1, outputs=outputs):
        raise CannotExpandError(node.op_type)
