"""Values of stored tensors, loaded one tensor at a time when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from inspector.errors import UnreadableError
from inspector.facts.model import Storage, Tensor
from inspector.read.external import read_external

DENSE_LIMIT = 2**28
"""Most elements a sparse tensor may spread out to: its dims cost the file nothing."""


class ProtoWeights:
    """The tensors of a parsed model, by the key that `inspector.facts.model.Tensor` carries."""

    def __init__(self, proto: onnx.ModelProto, where: str) -> None:
        self.proto = proto
        self.where = where
        self._tensors: list[onnx.TensorProto | onnx.SparseTensorProto] = []

    def add(self, tensor: onnx.TensorProto | onnx.SparseTensorProto) -> int:
        """Take a tensor in and return its key."""
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def tensors_of_proto(self) -> Iterator[onnx.TensorProto]:
        """Every dense tensor of the model, wherever it is stored."""
        yield from _tensors_of_graph(self.proto.graph)
        for function in self.proto.functions:
            yield from _tensors_of_nodes(function.node)

    def load(self, tensor: Tensor) -> NDArray[Any]:
        """See `inspector.facts.model.Weights`."""
        stored = self._tensors[tensor.key]
        try:
            if isinstance(stored, onnx.SparseTensorProto):
                values, indices = map(self._dense_values, (stored.values, stored.indices))
                return _spread(tuple(stored.dims), values, indices)
            return self._dense_values(stored)
        except UnreadableError:
            raise
        # numpy_helper raises whatever numpy and struct do on bytes that do not fit.
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            raise UnreadableError(
                f"tensor {tensor.name!r} is damaged: {error}",
                where=self.where,
                hint="export the model again",
            ) from error

    def _dense_values(self, stored: onnx.TensorProto) -> NDArray[Any]:
        if stored.data_location == onnx.TensorProto.EXTERNAL:
            filled = onnx.TensorProto(data_type=stored.data_type)
            filled.dims.extend(stored.dims)
            filled.raw_data = read_external(stored, self.where)
            stored = filled
        return np.asarray(numpy_helper.to_array(stored))


def _spread(dims: tuple[int, ...], values: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
    """A sparse tensor as a dense array (https://onnx.ai/onnx/repo-docs/IR.html, SparseTensor)."""
    if int(np.prod(dims, dtype=object)) > DENSE_LIMIT:
        raise ValueError(f"a sparse tensor of dims {dims} is too large to spread out")
    dense = np.zeros(dims, dtype=values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)
            if attribute.HasField("g"):
                yield from _tensors_of_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _tensors_of_graph(graph)


def storage_of(tensor: onnx.TensorProto | onnx.SparseTensorProto) -> Storage:
    """Where an initializer of this kind is stored."""
    if isinstance(tensor, onnx.SparseTensorProto):
        return Storage.SPARSE_INITIALIZER
    return Storage.INITIALIZER
