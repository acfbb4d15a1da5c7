"""Values of stored tensors, loaded one tensor at a time when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from inspector.errors import UnreadableError
from inspector.facts.model import Storage, Tensor
from inspector.read.data import TensorData, is_outside
from inspector.read.elements import BITS, PLAIN, check_dims
from inspector.read.protos import ModelProto, SparseTensorProto, TensorProto
from inspector.read.strings import text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DENSE_LIMIT = 2**24
"""Elements that any sparse tensor may spread out to: its dims cost the file nothing."""

SPARSEST = 256
"""Elements beyond `DENSE_LIMIT` that a stored value stands for, at most."""


class ProtoWeights:
    """The tensors of a parsed model, by the key that `inspector.facts.model.Tensor` carries.

    Parameters
    ----------
    proto
        The model, or its skeleton.
    data
        Where the bytes of its tensors lie.
    """

    def __init__(self, proto: ModelProto, data: TensorData) -> None:
        self.proto = proto
        self.data = data
        self._tensors: list[TensorProto | SparseTensorProto] = []
        self._kept: list[NDArray[Any]] = []

    def add(self, tensor: TensorProto, dims: Sequence[int], number: int) -> int:
        """Take a tensor in and return its key. Dims and type are its own, read already.

        Raises
        ------
        inspector.errors.UnreadableError
            Its data is not as long as its dims and type say, or lies where it must not.
        """
        raw = tensor.raw_data
        # Most tensors by far, in one line: this runs once for each tensor of a model.
        if not raw or tensor.data_location or 8 * len(raw) != prod(dims) * BITS.get(number, 0):
            self.data.check(tensor)
        tensors = self._tensors
        tensors.append(tensor)
        return len(tensors) - 1

    def add_sparse(self, tensor: SparseTensorProto) -> int:
        """Take a sparse tensor in, as `add`."""
        for each in (tensor.values, tensor.indices):
            check_dims(text(tensor.values.name), tuple(each.dims), self.data.where)
            self.data.check(each)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def keep(self, name: str, values: NDArray[Any]) -> Tensor:
        """See `inspector.facts.model.Weights`."""
        self._kept.append(values)
        return Tensor(
            name=name,
            dtype=_name_of(values.dtype),
            dims=values.shape,
            storage=Storage.NOWHERE,
            key=-len(self._kept),
        )

    def load(self, tensor: Tensor) -> NDArray[Any]:
        """See `inspector.facts.model.Weights`."""
        if tensor.key < 0:
            return self._kept[-tensor.key - 1]
        stored = self._tensors[tensor.key]
        try:
            if isinstance(stored, SparseTensorProto):
                values, indices = map(self._dense_values, (stored.values, stored.indices))
                return _spread(tuple(stored.dims), values, indices)
            return self._dense_values(stored)
        except UnreadableError:
            raise
        # numpy and struct raise what they like on bytes that do not fit.
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
            raise UnreadableError(
                f"tensor {tensor.name!r} is damaged: {error}",
                where=self.data.where,
                hint="export the model again",
            ) from error

    def load_together(self, tensors: Sequence[Tensor]) -> NDArray[Any]:
        """See `inspector.facts.model.Weights`."""
        import numpy as np

        dims = tensors[0].dims
        if any(each.key < 0 for each in tensors):
            return np.stack([self.load(each) for each in tensors])
        stored = [self._tensors[each.key] for each in tensors]
        plain = PLAIN.get(stored[0].data_type) if isinstance(stored[0], TensorProto) else None
        if plain is not None and not any(
            isinstance(each, SparseTensorProto) or each.data_location or not each.raw_data
            for each in stored
        ):
            # Their lengths were checked when they were taken in.
            data = b"".join([each.raw_data for each in stored])
            return np.frombuffer(data, dtype=plain).reshape((len(tensors), *dims))
        return np.stack([self.load(each) for each in tensors])

    def _dense_values(self, stored: TensorProto) -> NDArray[Any]:
        if not is_outside(stored):
            raw = stored.raw_data
            return _values(stored, raw if raw or stored.HasField("raw_data") else None)
        data = self.data.plain_bytes(stored)
        return _values(stored if data is not None else self.data.filled(stored), data)


@lru_cache(maxsize=64)
def _name_of(dtype: np.dtype[Any]) -> str:
    """Its name, which numpy puts together at each time."""
    return dtype.name


def _values(stored: TensorProto, data: bytes | None) -> NDArray[Any]:
    """A tensor's values, from its plain bytes where there are any."""
    plain = PLAIN.get(stored.data_type)
    if data is not None and plain is not None:
        import numpy as np

        return np.frombuffer(data, dtype=plain).reshape(tuple(stored.dims))
    from onnx import numpy_helper

    if data is not None:
        # Never the tensor itself, which may still name a data file for onnx to open.
        filled = TensorProto(data_type=stored.data_type, dims=stored.dims, raw_data=data)
        return numpy_helper.to_array(filled)
    return numpy_helper.to_array(stored)


def _spread(dims: tuple[int, ...], values: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
    """A sparse tensor as a dense array (https://onnx.ai/onnx/repo-docs/IR.html, SparseTensor)."""
    import numpy as np

    if prod(dims) > max(DENSE_LIMIT, SPARSEST * values.size):
        raise ValueError(f"a sparse tensor of dims {dims} is too large to spread out")
    if indices.size and int(indices.min()) < 0:
        # numpy would count it from the end.
        raise ValueError("an index is negative")
    dense = np.zeros(dims, dtype=values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense
