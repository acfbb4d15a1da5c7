"""Values of stored tensors, loaded one tensor at a time when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from inspector.errors import UnreadableError
from inspector.facts.model import Tensor
from inspector.read.elements import (
    BITS,
    ELEMENTS_FIELD,
    FIELD_NUMBERS,
    PLAIN,
    RAW_DATA,
    check_dims,
    stored_bytes,
    stored_elements,
)
from inspector.read.external import Extent, Folders, data_files_missing, fields_of
from inspector.read.protos import ModelProto, SparseTensorProto, TensorProto
from inspector.read.strings import text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspector.read.source import Source
    from inspector.read.wire import Embedded

DENSE_LIMIT = 2**24
"""Elements that any sparse tensor may spread out to: its dims cost the file nothing."""

SPARSEST = 256
"""Elements beyond `DENSE_LIMIT` that a stored value stands for, at most."""

SMALL = 4096
"""Bytes up to which a tensor may be a shape or axes, whose values the structure depends on."""

MESSAGE_LIMIT = 2**31 - 1
"""Most bytes of one message that protobuf's parsers take."""


class ProtoWeights:
    """The tensors of a parsed model, by the key that `inspector.facts.model.Tensor` carries.

    Parameters
    ----------
    proto
        The model, or its skeleton.
    where
        The model's path, for messages.
    folders
        Where data files may lie.
    source, token, embedded
        The file that a skeleton was made from, and what its stubs stand for
        (`inspector.read.wire.Skeleton`).

    Attributes
    ----------
    missing
        By location, how many of the tensors taken in have a data file that is not there.
    """

    def __init__(
        self,
        proto: ModelProto,
        where: str,
        folders: Folders | None = None,
        *,
        source: Source | None = None,
        token: str = "",
        embedded: Sequence[Embedded] = (),
    ) -> None:
        self.proto = proto
        self.where = where
        self.missing: dict[str, int] = {}
        self._folders = folders or Folders.of(Path(where))
        self._source = source
        self._token = token
        self._embedded = embedded
        self._tensors: list[TensorProto | SparseTensorProto] = []

    @property
    def is_one_file(self) -> bool:
        """Whether the model is one binary file, with no data file beside it."""
        outside = (each for each in tensors_of(self.proto) if _is_external(each))
        return self._source is not None and all(self._embedded_of(each) for each in outside)

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
            self._check(tensor)
        tensors = self._tensors
        tensors.append(tensor)
        return len(tensors) - 1

    def add_sparse(self, tensor: SparseTensorProto) -> int:
        """Take a sparse tensor in, as `add`."""
        for each in (tensor.values, tensor.indices):
            check_dims(text(tensor.values.name), tuple(each.dims), self.where)
            self._check(each)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def location(self, tensor: TensorProto) -> str:
        """The data file of a tensor as the model names it; empty where the model holds it."""
        if tensor.data_location != TensorProto.EXTERNAL or self._embedded_of(tensor) is not None:
            return ""
        return fields_of(tensor, self.where).get("location", "")

    def _check(self, tensor: TensorProto) -> None:
        if tensor.data_location == TensorProto.EXTERNAL:
            self._check_external(tensor)
            return
        needed = stored_bytes(tensor)
        if tensor.HasField("raw_data"):
            held = len(tensor.raw_data)
            if needed is not None and held != needed:
                raise self._wrong_length(tensor, f"{needed:,} bytes", f"{held:,}")
            return
        field = ELEMENTS_FIELD.get(tensor.data_type)
        if field is not None:
            self._check_elements(tensor, len(getattr(tensor, field)))

    def _check_elements(self, tensor: TensorProto, held: int) -> None:
        wanted = stored_elements(tensor)
        if wanted != held:
            raise self._wrong_length(tensor, f"{wanted:,} elements", f"{held:,}")

    def _check_external(self, tensor: TensorProto) -> None:
        embedded = self._embedded_of(tensor)
        if embedded is None:
            try:
                self._folders.locate(tensor, self.where)
            except FileNotFoundError:
                location = self.location(tensor)
                self.missing[location] = self.missing.get(location, 0) + 1
            return
        held = embedded.length if embedded.plain else embedded.entries.get(RAW_DATA)
        if held is None:
            field = FIELD_NUMBERS.get(ELEMENTS_FIELD.get(tensor.data_type, ""))
            if field is not None:
                self._check_elements(tensor, embedded.entries.get(field, 0))
            return
        needed = stored_bytes(tensor)
        if needed is not None and needed != held:
            raise self._wrong_length(tensor, f"{needed:,} bytes", f"{held:,}")

    def _wrong_length(self, tensor: TensorProto, needed: str, held: str) -> UnreadableError:
        dims = list(tensor.dims)
        return UnreadableError(
            f"tensor {text(tensor.name)!r} of dims {dims} takes {needed}, and its data has {held}",
            where=self.where,
            hint="export the model again",
        )

    def _embedded_of(self, tensor: TensorProto) -> Embedded | None:
        """What a stub of the skeleton stands for; None for external data of the file's own."""
        entries = tensor.external_data
        if self._token and len(entries) == 2 and entries[0].value == self._token:
            return self._embedded[int(entries[1].value)]
        return None

    def load(self, tensor: Tensor) -> NDArray[Any]:
        """See `inspector.facts.model.Weights`."""
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
                where=self.where,
                hint="export the model again",
            ) from error

    def load_together(self, tensors: Sequence[Tensor]) -> NDArray[Any]:
        """See `inspector.facts.model.Weights`."""
        import numpy as np

        dims = tensors[0].dims
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
        if stored.data_location != TensorProto.EXTERNAL:
            return _values(stored, stored.raw_data if stored.HasField("raw_data") else None)
        embedded = self._embedded_of(stored)
        if embedded is None:
            return _values(stored, self._folders.read(stored, self.where))
        data = self._bytes_of(embedded)
        return _values(stored, data) if embedded.plain else _values(self._message(data), None)

    def _bytes_of(self, embedded: Embedded) -> bytes:
        if self._source is None:
            raise ValueError("stubs of a skeleton want the file it was made from")
        with self._source.reading() as file:
            return file.read(embedded.offset, embedded.length)

    def _message(self, data: bytes) -> TensorProto:
        """A tensor whose data is not plain, as the official parser reads it."""
        if len(data) > MESSAGE_LIMIT:
            raise ValueError(f"{len(data):,} bytes are more than one protobuf message can hold")
        try:
            parsed: TensorProto = TensorProto.FromString(data)
            return parsed
        except DecodeError:
            raise ValueError("it does not parse") from None

    def linked(self, limit: int) -> tuple[ModelProto, str]:
        """A copy of the model that another reader can open, and the folder it names files from.

        Large initializers of the main graph stay where they lie, be it in the model's own file:
        the copy names that file by its real path, relative to the folder, as external data. All
        other data is inside.

        Raises
        ------
        inspector.errors.UnreadableError
            What has to be inside takes over `limit` bytes, or a data file is missing or fails.
        """
        copy = ModelProto()
        copy.CopyFrom(self.proto)
        copy.ClearField("training_info")
        extents = [self._extent(each) for each in copy.graph.initializer]
        # ONNX Runtime reads shapes and axes before it opens any data file.
        extents = [each if each and each.length > SMALL else None for each in extents]
        folder = _common_folder(each.path for each in extents if each is not None)
        inside = []
        for at, tensor in enumerate(tensors_of(copy)):
            if not _is_external(tensor):
                continue
            extent = extents[at] if at < len(extents) else None
            if extent is None or folder is None:
                inside.append(tensor)
            else:
                _link(tensor, extent, folder)
        size = copy.ByteSize() + sum(self._bytes_inside(each) for each in inside)
        if size > limit:
            raise UnreadableError(
                f"a copy of it would take {size:,} bytes, more than one message can hold",
                where=self.where,
                hint="save it with external data",
            )
        for tensor in inside:
            self._fill(tensor)
        return copy, str(folder or "")

    def inside(self, tensor: TensorProto) -> TensorProto:
        """A copy of a tensor with its data inside, wherever it lies now.

        Raises
        ------
        inspector.errors.UnreadableError
            Its data file is missing, or cannot be read.
        """
        copy = TensorProto()
        copy.CopyFrom(tensor)
        if _is_external(copy):
            self._fill(copy)
        return copy

    def _extent(self, tensor: TensorProto) -> Extent | None:
        """Where the plain bytes of an initializer lie in a file; None where they do not."""
        if not _is_external(tensor):
            return None
        embedded = self._embedded_of(tensor)
        if embedded is None:
            try:
                return self._folders.locate(tensor, self.where)
            except FileNotFoundError:
                raise data_files_missing({self.location(tensor): 1}, self.where) from None
        if self._source is None or not embedded.plain:
            return None
        path = Path(os.path.realpath(self._source.path))
        return Extent(path=path, offset=embedded.offset, length=embedded.length)

    def _bytes_inside(self, tensor: TensorProto) -> int:
        embedded = self._embedded_of(tensor)
        return embedded.length if embedded is not None else stored_bytes(tensor) or 0

    def _fill(self, tensor: TensorProto) -> None:
        embedded = self._embedded_of(tensor)
        if embedded is None:
            data = self._folders.read(tensor, self.where)
        else:
            data = self._bytes_of(embedded)
            if not embedded.plain:
                tensor.CopyFrom(self._message(data))
                return
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.raw_data = data


def _common_folder(paths: Iterable[Path]) -> Path | None:
    """The folder that holds all these files; None where there is none, or none that ONNX names."""
    try:
        folder = Path(os.path.commonpath({str(each.parent) for each in paths}))
        str(folder).encode()
    # No path at all, paths on several drives, or names that are no text.
    except ValueError:
        return None
    return folder


def _link(tensor: TensorProto, extent: Extent, folder: Path) -> None:
    """Name the stretch of a file that holds a tensor's data."""
    del tensor.external_data[:]
    for key, value in (
        ("location", extent.path.relative_to(folder).as_posix()),
        ("offset", str(extent.offset)),
        ("length", str(extent.length)),
    ):
        tensor.external_data.add(key=key, value=value)


def _is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


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


def tensors_of(proto: ModelProto) -> Iterator[TensorProto]:
    """Every dense tensor of a model, wherever it is stored."""
    yield from _tensors_of_graph(proto.graph)
    for function in proto.functions:
        yield from _tensors_of_nodes(function.node)
        for attribute in function.attribute_proto:
            yield from tensors_of_attribute(attribute)


def _tensors_of_graph(graph: Any) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from tensors_of_attribute(attribute)


def tensors_of_attribute(attribute: Any) -> Iterator[TensorProto]:
    """Every dense tensor in one attribute."""
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
