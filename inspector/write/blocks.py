"""Products of weights that are kept in a few bits, a scale for each block of them, as plain ones.

MatMulNBits and GatherBlockQuantized (domain com.microsoft) are how language models and large dense
layers are stored in 2, 4 or 8 bits; what they read and how it is packed is said in
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Activations are not on
grids there, so nothing is lost but what rounding the weights did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from inspector.write.fix_bodies import names_of, unique
from inspector.write.nodes import CannotExpandError, attribute, has_all

BLOCK_OPERATORS = frozenset({"MatMulNBits", "GatherBlockQuantized"})

_PACKED_BITS = (2, 4, 8)
"""Widths of which a whole number goes into a byte."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Integers, and for each its zero point and its scale, in shapes that go with each other."""

    values: Any
    zero: Any
    scale: Any
    ends: tuple[int, int]

    @property
    def steps(self) -> Any:
        """Distances between the numbers that the integers can stand for."""
        return widened(np.abs(self.scale), self.values, self.ends)

    @property
    def real(self) -> Any:
        """What the integers stand for, in the type of the scales."""
        # Infinite products are what the operators give, too.
        with np.errstate(over="ignore", invalid="ignore"):
            apart = self.values.astype(np.float32) - self.zero.astype(np.float32)
            return np.ascontiguousarray(apart.astype(self.scale.dtype) * self.scale)


def expand_blocks(
    graph: onnx.GraphProto, load: Callable[[onnx.TensorProto], Any]
) -> Mapping[str, Any]:
    """Write every such operator of the main graph as MatMul or Gather of real numbers.

    Parameters
    ----------
    load
        Gives the values of a stored tensor.

    Returns
    -------
    Mapping[str, numpy.ndarray]
        Distances between the numbers that each new tensor could have, by its name.

    Raises
    ------
    CannotExpandError
        One of them is not well-formed, or reads weights that are computed.
    """
    if not any(node.op_type in BLOCK_OPERATORS for node in graph.node):
        return {}
    return _Blocks(graph, load).run()


def along_blocks(grid: Any, shape: tuple[int, ...], axis: int, block: int) -> Any:
    """The element of `grid` that belongs to each place, where an axis is cut into blocks.

    Raises
    ------
    CannotExpandError
        It has another number of blocks, or its other axes are not those of the values.
    """
    if not -len(shape) <= axis < len(shape) or block < 1:
        raise CannotExpandError("blocks along no axis")
    axis %= len(shape)
    blocks = -(-shape[axis] // block)
    if grid.shape != (*shape[:axis], blocks, *shape[axis + 1 :]):
        raise CannotExpandError("scales or zero points that do not go with their blocks")
    return np.take(grid, np.arange(shape[axis]) // block, axis=axis)


def widened(steps: Any, values: Any, ends: tuple[int, int]) -> Any:
    """Steps of the shape of `values`, twice as wide at the ends of a grid of few numbers.

    A grid that is symmetric about zero has one number more on one side. In few bits its scale is
    chosen for the side that reaches further, and what lies beyond the other end is cut off there:
    by up to a step, where it would be rounded by up to half of one.
    """
    cut = (values == ends[0]) | (values == ends[1])
    return np.where(cut, 2 * steps, steps).astype(steps.dtype)


class _Blocks:
    def __init__(self, graph: onnx.GraphProto, load: Callable[[onnx.TensorProto], Any]) -> None:
        self._graph = graph
        self._load = load
        self._stored = {each.name: each for each in graph.initializer}
        self._names: dict[tuple[Any, ...], str] = {}
        self._taken = names_of(graph)
        self._steps: dict[str, Any] = {}

    def run(self) -> Mapping[str, Any]:
        made = [each for node in self._graph.node for each in self._written(node)]
        copies = [onnx.NodeProto.FromString(each.SerializeToString()) for each in made]
        del self._graph.node[:]
        self._graph.node.extend(copies)
        return self._steps

    def _written(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        if node.op_type not in BLOCK_OPERATORS:
            yield node
            return
        if not has_all(node, inputs=3):
            raise CannotExpandError(node.op_type)
        given = [*node.input, *[""] * (6 - len(node.input))]
        if node.op_type == "MatMulNBits":
            yield from self._product(node, given)
        else:
            yield from self._rows(node, given)

    def _product(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        weights = self._real(node, (given[1], given[2], given[3], given[4]), self._of_product)
        whole = node.output[0]
        product = unique(f"{whole}_product", self._taken) if given[5] else whole
        yield helper.make_node("MatMul", [given[0], weights], [product], name=node.name)
        if given[5]:
            name = f"{product}/bias"
            yield helper.make_node("Add", [product, given[5]], node.output[:1], name=name)

    def _rows(self, node: onnx.NodeProto, given: list[str]) -> Iterator[onnx.NodeProto]:
        rows = self._real(node, (given[0], given[2], given[3]), self._of_rows)
        axis = attribute(node, "gather_axis").i
        names, made = [rows, given[1]], node.output[:1]
        yield helper.make_node("Gather", names, made, name=node.name, axis=axis)

    def _real(
        self,
        node: onnx.NodeProto,
        names: tuple[str, ...],
        grid: Callable[[onnx.NodeProto, tuple[str, ...]], tuple[Grid, tuple[int, ...]]],
    ) -> str:
        """The name of weights as real numbers, stored once for all that read them."""
        key = (*names, *sorted(each.SerializeToString() for each in node.attribute))
        if key not in self._names:
            found, order = grid(node, names)
            name = unique(f"{names[0]}_real", self._taken)
            self._names[key] = name
            real = np.ascontiguousarray(found.real.transpose(order))
            self._graph.initializer.append(numpy_helper.from_array(real, name))
            self._steps[name] = found.steps.transpose(order)
        return self._names[key]

    def _of_product(
        self, node: onnx.NodeProto, names: tuple[str, ...]
    ) -> tuple[Grid, tuple[int, ...]]:
        """Weights [N, K] of a product, K cut into blocks; it is read as [K, N]."""
        bits = _bits(node)
        rows, columns = (attribute(node, each).i for each in ("N", "K"))
        block = attribute(node, "block_size").i
        if rows < 1 or columns < 1 or block < 1:
            raise CannotExpandError("a product without a size")
        blocks = -(-columns // block)
        packed = self._values(names[0])
        if packed.dtype != np.uint8 or packed.size != rows * blocks * -(-block * bits // 8):
            raise CannotExpandError("packed weights that are not of the size they should have")
        values = _unpacked(packed.reshape(rows * blocks, -1), bits)[:, :block]
        values = values.reshape(rows, blocks * block)[:, :columns]
        scale = _scales(self._values(names[1]), (rows, blocks))
        zero = np.full((rows, blocks), 2 ** (bits - 1), np.float32)
        if names[2]:
            zero = _zero_points(self._values(names[2]), rows, blocks, bits)
        of = np.arange(columns) // block
        if names[3]:
            of = self._values(names[3]).reshape(-1)
            if of.dtype.kind not in "iu" or of.size < columns or not _within(of, blocks):
                raise CannotExpandError("an order of blocks that does not go with them")
            of = of[:columns]
        found = Grid(values=values, zero=zero[:, of], scale=scale[:, of], ends=(0, 2**bits - 1))
        return found, (1, 0)

    def _of_rows(
        self, node: onnx.NodeProto, names: tuple[str, ...]
    ) -> tuple[Grid, tuple[int, ...]]:
        """A table of weights, one of its axes cut into blocks."""
        values = self._values(names[0])
        bits = _bits(node)
        zero_of_type = 0
        packed = values.dtype == np.uint8
        first = -(2 ** (bits - 1)) if values.dtype.name.startswith("int") else 0
        if packed:
            zero_of_type = 2 ** (bits - 1)
            values = _unpacked(values, bits)
        block = attribute(node, "block_size").i or 128
        given = {each.name: each.i for each in node.attribute}
        axis = given.get("quantize_axis", 1)
        scale = self._values(names[1])
        if scale.dtype.kind != "f":
            raise CannotExpandError("a scale that is no real number")
        zero = np.full(scale.shape, zero_of_type, np.float32)
        if names[2]:
            zero = self._values(names[2])
            zero = _unpacked(zero, bits)[..., : scale.shape[-1]] if packed else zero
        scale, zero = (along_blocks(each, values.shape, axis, block) for each in (scale, zero))
        found = Grid(values=values, zero=zero, scale=scale, ends=(first, first + 2**bits - 1))
        return found, tuple(range(values.ndim))

    def _values(self, name: str) -> Any:
        if name not in self._stored:
            raise CannotExpandError("weights that are not stored")
        return self._load(self._stored[name])


def _bits(node: onnx.NodeProto) -> int:
    given = {each.name: each.i for each in node.attribute}
    bits = given.get("bits", 4)
    if bits not in _PACKED_BITS:
        raise CannotExpandError(f"{bits} bits")
    return int(bits)


def _unpacked(packed: Any, bits: int) -> Any:
    """What the bytes of the last axis hold, the lowest bits first."""
    if packed.ndim < 1:
        raise CannotExpandError("packed values without an axis")
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(*packed.shape[:-1], -1)


def _scales(scales: Any, shape: tuple[int, int]) -> Any:
    if scales.dtype.kind != "f" or scales.size != shape[0] * shape[1]:
        raise CannotExpandError("scales that do not go with their blocks")
    return scales.reshape(shape)


def _zero_points(points: Any, rows: int, blocks: int, bits: int) -> Any:
    """Zero points [N, blocks]: packed as the weights are, or real numbers."""
    if points.dtype.kind == "f":
        return _scales(points, (rows, blocks))
    if points.dtype != np.uint8 or points.size != rows * -(-blocks * bits // 8):
        raise CannotExpandError("zero points that do not go with their blocks")
    return _unpacked(points.reshape(rows, -1), bits)[:, :blocks]


def _within(places: Any, blocks: int) -> bool:
    return bool(places.size and places.min() >= 0 and places.max() < blocks)
