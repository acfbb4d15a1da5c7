"""Turn the official protobuf messages into the facts of `inspector.facts.model`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, overload

from inspector.errors import UnreadableError
from inspector.facts.model import (
    NOTHING,
    Attribute,
    AttributeReference,
    Function,
    Graph,
    Node,
    Storage,
    Tensor,
    Value,
)
from inspector.facts.notes import KIND
from inspector.read.constants import as_value
from inspector.read.elements import DTYPES, MOST_AXES, check_dims, dtype_name
from inspector.read.protos import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    NodeProto,
    OperatorSetIdProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
)
from inspector.read.strings import text, texts
from inspector.read.weights import ProtoWeights

T = TypeVar("T")

MOST_GRAPHS = 10_000
"""Subgraphs of one file; an empty one takes it two bytes, and us a dozen objects."""

_NO_ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType({})


class Converter:
    """Converts one model's messages; its tensors go to `weights`, which hands out their keys.

    `notes` collects what a reader of any report on the model has to know.
    """

    def __init__(self, weights: ProtoWeights, where: str) -> None:
        self._weights = weights
        self._where = where
        self.notes: list[str] = []
        self._graphs = 0

    def graph(self, proto: GraphProto) -> Graph:
        """A graph with its subgraphs."""
        self._graphs += 1
        if self._graphs > MOST_GRAPHS:
            raise UnreadableError(
                f"it has more than {MOST_GRAPHS:,} subgraphs: no model has that many",
                where=self._where,
            )
        stored = self._stored(proto.initializer, Storage.INITIALIZER)
        stored += [self._sparse(e, Storage.SPARSE_INITIALIZER) for e in proto.sparse_initializer]
        initializers = {each.name: each for each in stored}
        nodes = tuple([self._node(each) for each in proto.node])
        names = [each.name for each in stored]
        names += [name for node in nodes for name in node.outputs if name]
        if len(set(names)) < len(names):
            self.notes.append(_given_twice(names))
        return Graph(
            name=text(proto.name),
            nodes=nodes,
            inputs=self._ends(proto.input),
            outputs=self._ends(proto.output),
            initializers=MappingProxyType(initializers),
            values=Values(proto),
        )

    def _ends(self, protos: Iterable[ValueInfoProto]) -> tuple[Value, ...]:
        """Inputs or outputs of a graph."""
        values = tuple(map(_value, protos))
        if not all(each.name for each in values):
            raise self._unnamed("an input or output")
        return values

    def _unnamed(self, what: str) -> UnreadableError:
        return UnreadableError(
            f"{what} has no name, so nothing can mean it",
            where=self._where,
            hint="export the model again",
        )

    def function(self, proto: FunctionProto) -> Function:
        """A model-local function."""
        if not proto.name:
            raise self._unnamed("a function")
        return Function(
            domain=text(proto.domain),
            name=text(proto.name),
            inputs=tuple(map(text, proto.input)),
            outputs=tuple(map(text, proto.output)),
            nodes=tuple(self._node(each) for each in proto.node),
            opsets=opsets(proto.opset_import),
            attributes=self._attributes(proto.attribute_proto),
        )

    def tensor(self, proto: TensorProto) -> Tensor:
        """A tensor among a node's attributes, known by its place."""
        (tensor,) = self._stored((proto,), Storage.ATTRIBUTE)
        return tensor

    def _stored(self, protos: Iterable[TensorProto], storage: Storage) -> list[Tensor]:
        """Tensors, each known by its place."""
        # A model has them by the ten thousand: no call that can be left out, and a slice of a
        # field, which is faster than its iterator.
        add, where, found = self._weights.add, self._where, []
        for proto in protos:
            name, dims, number = proto.name, tuple(proto.dims[:]), proto.data_type
            if not isinstance(name, str):
                name = text(name)
            if not name and storage is Storage.INITIALIZER:
                raise self._unnamed("an initializer")
            if dims and (min(dims) < 0 or len(dims) > MOST_AXES):
                check_dims(name, dims, where)
            found.append(
                Tensor(
                    name=name,
                    dtype=DTYPES.get(number) or dtype_name(number),
                    dims=dims,
                    storage=storage,
                    key=add(proto, dims, number),
                    external=self._weights.data.location(proto) if proto.data_location else "",
                )
            )
        return found

    def _sparse(self, proto: SparseTensorProto, storage: Storage = Storage.ATTRIBUTE) -> Tensor:
        name, dims = text(proto.values.name), tuple(proto.dims)
        if not name and storage is Storage.SPARSE_INITIALIZER:
            raise self._unnamed("a sparse initializer")
        check_dims(name, dims, self._where)
        outside = map(self._weights.data.location, (proto.values, proto.indices))
        return Tensor(
            name=name,
            dtype=dtype_name(proto.values.data_type),
            dims=dims,
            storage=storage,
            key=self._weights.add_sparse(proto),
            external=next(filter(None, outside), ""),
        )

    def _node(self, proto: NodeProto) -> Node:
        op_type, name, domain, overload = proto.op_type, proto.name, proto.domain, proto.overload
        inputs, outputs = tuple(proto.input), tuple(proto.output)
        try:
            # One call that fails on the first string that is no text, in place of one for each.
            "".join((op_type, name, domain, overload, *inputs, *outputs))
        except TypeError:
            op_type, name, domain, overload = texts((op_type, name, domain, overload))
            inputs, outputs = texts(inputs), texts(outputs)
        if not op_type:
            raise UnreadableError(
                f"a node has no operator (name {name!r}, outputs {list(outputs[:4])})",
                where=self._where,
                hint="export the model again",
            )
        attributes = _NO_ATTRIBUTES
        if proto.attribute:
            constant = op_type == "Constant" and domain in ("", "ai.onnx")
            attributes = self._attributes(
                map(as_value, proto.attribute) if constant else proto.attribute
            )
        return Node(
            op_type=op_type,
            domain=domain,
            name=name,
            inputs=inputs,
            outputs=outputs,
            attributes=attributes,
            overload=overload,
            metadata=Notes(proto) if proto.metadata_props else NOTHING,
        )

    def _attributes(self, protos: Iterable[AttributeProto]) -> Mapping[str, Attribute]:
        return MappingProxyType({text(each.name): self.attribute(each) for each in protos})

    def attribute(self, proto: AttributeProto) -> Attribute:
        """The value of an attribute, in Python's types or as facts."""
        if proto.ref_attr_name:
            return AttributeReference(name=text(proto.ref_attr_name))
        number = proto.type or _type_told(proto)
        plain = _PLAIN_ATTRIBUTES.get(number)
        if plain is not None:
            return plain(proto)
        match number:
            case AttributeProto.TENSOR:
                return self.tensor(proto.t)
            case AttributeProto.GRAPH:
                return self.graph(proto.g)
            case AttributeProto.TENSORS:
                return tuple(self.tensor(each) for each in proto.tensors)
            case AttributeProto.GRAPHS:
                return tuple(self.graph(each) for each in proto.graphs)
            case AttributeProto.SPARSE_TENSOR:
                return self._sparse(proto.sparse_tensor)
            case AttributeProto.SPARSE_TENSORS:
                return tuple(self._sparse(each) for each in proto.sparse_tensors)
            case _:
                return None


_PLAIN_ATTRIBUTES: Mapping[int, Callable[[Any], Attribute]] = {
    AttributeProto.INT: lambda proto: int(proto.i),
    AttributeProto.FLOAT: lambda proto: float(proto.f),
    AttributeProto.STRING: lambda proto: bytes(proto.s),
    AttributeProto.INTS: lambda proto: tuple(proto.ints),
    AttributeProto.FLOATS: lambda proto: tuple(proto.floats),
    AttributeProto.STRINGS: lambda proto: tuple(proto.strings),
}


class Notes(Mapping[str, str]):
    """What an exporter noted about a node: read when first asked for, as it may be pages."""

    def __init__(self, proto: NodeProto) -> None:
        self._proto = proto

    @cached_property
    def _notes(self) -> dict[str, str]:
        return {text(each.key): text(each.value) for each in self._proto.metadata_props}

    def __getitem__(self, key: str) -> str:
        return self._notes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._notes)

    def __len__(self) -> int:
        return len(self._notes)


class Values(Mapping[str, Value]):
    """What a graph declares of its values by name, converted when first asked for.

    An exporter may declare every value there is, and most questions are about none of them.
    """

    def __init__(self, proto: GraphProto) -> None:
        self._proto = proto

    @cached_property
    def _values(self) -> dict[str, Value]:
        proto = self._proto
        known = (*map(_value, proto.value_info), *map(_value, proto.input))
        return {each.name: each for each in (*known, *map(_value, proto.output))}

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    @overload
    def get(self, key: str, /) -> Value | None: ...
    @overload
    def get(self, key: str, /, default: Value | T) -> Value | T: ...
    def get(self, key: str, /, default: object = None) -> object:
        """As every mapping has it, but without an exception for each name that is not there."""
        return self._values.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _given_twice(names: Iterable[str]) -> str:
    """What to say of names that several values of one graph have."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    shown = ", ".join(map(repr, twice[:3])) + (f" and {len(twice) - 3} more" if twice[3:] else "")
    return (
        f"several values have the same name: {shown}; ONNX forbids it, and of initializers "
        "the last one counts"
    )


def opsets(imports: Iterable[OperatorSetIdProto]) -> Mapping[str, int]:
    """Version of each domain; the standard one has two spellings, and some files import both."""
    named = ((text(each.domain), each.version) for each in imports)
    return MappingProxyType({"" if name == "ai.onnx" else name: version for name, version in named})


def _type_told(proto: AttributeProto) -> int:
    """Files of IR version 1 may leave the type out: the field that is set tells it."""
    fields = {field.name for field, _ in proto.ListFields()}
    for name, number in _TYPE_OF_FIELD.items():
        if name in fields:
            return number
    return int(AttributeProto.UNDEFINED)


_TYPE_OF_FIELD: Mapping[str, int] = {
    "ints": AttributeProto.INTS,
    "floats": AttributeProto.FLOATS,
    "strings": AttributeProto.STRINGS,
    "f": AttributeProto.FLOAT,
    "s": AttributeProto.STRING,
    "i": AttributeProto.INT,
    "t": AttributeProto.TENSOR,
    "g": AttributeProto.GRAPH,
    "tensors": AttributeProto.TENSORS,
    "graphs": AttributeProto.GRAPHS,
}


def _value(proto: ValueInfoProto) -> Value:
    noted = _noted(proto) if proto.metadata_props else ""
    if not proto.type.HasField("tensor_type"):
        return Value(name=text(proto.name), dtype=None, dims=None, noted=noted)
    tensor = proto.type.tensor_type
    return Value(
        name=text(proto.name),
        dtype=dtype_name(tensor.elem_type) if tensor.elem_type else None,
        dims=tuple(_dim(each) for each in tensor.shape.dim) if tensor.HasField("shape") else None,
        noted=noted,
    )


def _noted(proto: ValueInfoProto) -> str:
    """The kind of input of torch's exported program that a value was."""
    return next((text(each.value) for each in proto.metadata_props if each.key == KIND), "")


def _dim(proto: Any) -> int | str | None:
    match proto.WhichOneof("value"):
        case "dim_value":
            return int(proto.dim_value)
        case "dim_param":
            return text(proto.dim_param)
        case _:
            return None
