"""A model with its local functions written out, and with constant choices taken.

Comparing looks at the main graph. BatchNorms inside of functions, and those in the branch of an
`If` whose condition is stored, belong there: this puts them there, under names that still say
which call they came from.

onnx's own inliner (https://onnx.ai/onnx/api/inliner.html, 1.23) loses an attribute that is passed
on through two calls, which makes another function of the model; leaves a function alone whose
opset is another than the model's although its operators are the same in both; and gives values
names such as ``h__1`` that keep no trace of the call. ONNX Runtime is what the tests hold this one
against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from inspector.facts.model import Model, function_name
from inspector.read.convert import Converter, opsets
from inspector.read.data import TensorData
from inspector.read.evaluate import ReferenceEvaluation
from inspector.read.weights import ProtoWeights

_MOST_NODES = 200_000
"""Nodes that calls unfold into, as `inspector.recognise.scopes` has it."""

_MOST_NESTED = 100
"""Calls inside of calls; ONNX forbids circles, and a file can have them all the same."""

_FIRST_WITHOUT_INPUTS = 4
"""Before this IR version every initializer was listed as an input, and none could be fed."""

_M = TypeVar("_M", NodeProto, onnx.FunctionProto)

_Attributes = Mapping[str, AttributeProto | None]


def inlined(model: Model) -> Model:
    """The same function with local functions and constant choices written out.

    Values that others read keep their names; those inside are called ``call/value``. Functions
    that cannot be written out stay calls: those that import another version of an operator than
    the model does. A model with nothing to write out comes back as it is.
    """
    weights = model.weights
    if not isinstance(weights, ProtoWeights) or model.missing_data:
        return model
    if not model.functions and not _chooses(weights.proto.graph):
        return model
    proto = onnx.ModelProto()
    proto.CopyFrom(weights.proto)
    try:
        changed = _Inliner(proto).run()
    except _TooMuchError:
        return model
    return _opened(model, proto, weights.data) if changed else model


def _opened(model: Model, proto: onnx.ModelProto, data: TensorData) -> Model:
    """The facts of a changed copy, whose large tensors still lie where the file has them."""
    weights = ProtoWeights(proto, data)
    converter = Converter(weights, model.path)
    functions = {
        (each.domain, function_name(each.name, each.overload)): converter.function(each)
        for each in proto.functions
    }
    return replace(
        model,
        graph=converter.graph(proto.graph),
        functions=MappingProxyType(functions),
        opsets=opsets(proto.opset_import),
        weights=weights,
        evaluator=ReferenceEvaluation(weights),
    )


class _TooMuchError(Exception):
    """Calls unfold without end, or into more than anyone wants to look at."""


class _Inliner:
    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self._functions = {
            (each.domain, function_name(each.name, each.overload)): each for each in proto.functions
        }
        self._opsets = dict(opsets(proto.opset_import))
        self._taken = set(_names(proto.graph))
        self._made = 0
        self._changed = False

    def run(self) -> bool:
        """Write everything out; whether there was anything."""
        graph = self._proto.graph
        constants = _Constants(graph, self._proto.ir_version)
        self._graph(graph, graph, constants, 0)
        if self._changed:
            kept = [_copy_of(each) for each in self._still_called()]
            del self._proto.functions[:]
            self._proto.functions.extend(kept)
        return self._changed

    def _still_called(self) -> list[onnx.FunctionProto]:
        """The functions that calls remain to, be it from another function."""
        found: dict[tuple[str, str], onnx.FunctionProto] = {}
        pending = [self._proto.graph.node]
        while pending:
            for node in _with_inner(pending.pop()):
                key = _key(node)
                if key in self._functions and key not in found:
                    found[key] = self._functions[key]
                    pending.append(found[key].node)
        return list(found.values())

    def _graph(self, graph: GraphProto, home: GraphProto, known: _Constants, depth: int) -> None:
        """Write out what one graph calls; what branches store goes to `home`, the same graph."""
        nodes = list(self._expanded(graph.node, home, known, depth))
        if self._changed:
            copies = [_copy_of(each) for each in nodes]
            del graph.node[:]
            graph.node.extend(copies)

    def _expanded(
        self, nodes: Any, home: GraphProto, known: _Constants, depth: int
    ) -> Iterator[NodeProto]:
        if depth > _MOST_NESTED:
            raise _TooMuchError
        for node in nodes:
            known.learn(node)
            function = self._functions.get(_key(node))
            if function is not None and self._imports(function):
                self._changed = True
                yield from self._expanded(self._body(node, function), home, known, depth + 1)
                continue
            branch = known.branch(node)
            if branch is not None:
                self._changed = True
                yield from self._expanded(self._chosen(node, branch, home), home, known, depth + 1)
                continue
            for inner in _graphs(node):
                inside = _Constants(inner, _FIRST_WITHOUT_INPUTS, outer=known)
                self._graph(inner, inner, inside, depth + 1)
            self._count()
            yield node

    def _count(self) -> None:
        self._made += 1
        if self._made > _MOST_NODES:
            raise _TooMuchError

    def _imports(self, function: onnx.FunctionProto) -> bool:
        """Whether a function's operators mean in the model what they mean in it."""
        wanted = opsets(function.opset_import)
        for node in _with_inner(function.node):
            domain = "" if node.domain == "ai.onnx" else node.domain
            if _key(node) in self._functions:
                continue
            here, there = self._opsets.get(domain), wanted.get(domain)
            if here is None or there is None or here == there:
                continue
            if _since(node.op_type, here, domain) != _since(node.op_type, there, domain):
                return False
        for domain, version in wanted.items():
            if domain not in self._opsets:
                self._opsets[domain] = version
                self._proto.opset_import.add(domain=domain, version=version)
        return True

    def _body(self, call: NodeProto, function: onnx.FunctionProto) -> list[NodeProto]:
        """The function's nodes with the call's values and attributes in place."""
        prefix = self._prefix(call)
        names = {"": ""}
        # Arguments that are left out are the empty name; results that nobody takes get one.
        names |= {each: "" for each in function.input}
        names |= dict(zip(function.input, call.input, strict=False))
        passed: list[NodeProto] = []
        for inner, outer in zip(function.output, call.output, strict=False):
            if not outer:
                continue
            if inner in names:  # an argument, or a result that is taken twice
                passed.append(onnx.helper.make_node("Identity", [names[inner]], [outer]))
                passed[-1].name = self._free(f"{prefix}/{inner}")
            else:
                names[inner] = outer
        given: dict[str, AttributeProto | None] = dict.fromkeys(function.attribute)
        given |= {each.name: each for each in function.attribute_proto}
        given |= {each.name: each for each in call.attribute}
        self._rename_fresh(function.node, names, prefix)
        nodes = [self._bound(each, names, given, prefix) for each in function.node]
        return nodes + passed

    def _rename_fresh(self, nodes: Any, names: dict[str, str], prefix: str) -> None:
        for node in nodes:
            for name in node.output:
                if name not in names:
                    names[name] = self._free(f"{prefix}/{name}")

    def _bound(
        self, node: NodeProto, names: Mapping[str, str], given: _Attributes, prefix: str
    ) -> NodeProto:
        """A copy of a function's node, or of one in a branch, as it reads in the new place."""
        copy = _copy_of(node)
        # One without a name goes by its first result's, which may be what the call's is called.
        own = node.name or next((each for each in node.output if each), "")
        copy.name = f"{prefix}/{own}"
        for field in (copy.input, copy.output):
            renamed = [names.get(each, each) for each in field]
            del field[:]
            field.extend(renamed)
        attributes = []
        for each in copy.attribute:
            found = _resolved(each, given)
            if found is None:
                continue
            if not each.ref_attr_name:  # a graph that the call gives reads the call's values
                for graph in _graphs_of(found):
                    self._inner(graph, names, given, prefix)
            attributes.append(found)
        del copy.attribute[:]
        copy.attribute.extend(attributes)
        return copy

    def _inner(
        self, graph: GraphProto, outer: Mapping[str, str], given: _Attributes, prefix: str
    ) -> None:
        """Rename what a subgraph has of its own, and what it reads from around it."""
        names = dict(outer)
        for value in (*graph.input, *graph.initializer):
            names[value.name] = self._free(f"{prefix}/{value.name}")
        for sparse in graph.sparse_initializer:
            names[sparse.values.name] = self._free(f"{prefix}/{sparse.values.name}")
        for node in graph.node:
            for name in node.output:
                if name:
                    names[name] = self._free(f"{prefix}/{name}")
        for value in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
            value.name = names.get(value.name, value.name)
        for sparse in graph.sparse_initializer:
            sparse.values.name = names[sparse.values.name]
        nodes = [self._bound(each, names, given, prefix) for each in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)

    def _chosen(self, node: NodeProto, branch: GraphProto, home: GraphProto) -> list[NodeProto]:
        """The nodes of the branch that an `If` always takes; what it stores goes to `home`."""
        prefix = self._prefix(node)
        names = {"": ""}
        for tensor in branch.initializer:
            stored = home.initializer.add()
            stored.CopyFrom(tensor)
            stored.name = names[tensor.name] = self._free(f"{prefix}/{tensor.name}")
        for sparse in branch.sparse_initializer:
            kept = home.sparse_initializer.add()
            kept.CopyFrom(sparse)
            kept.values.name = names[sparse.values.name] = self._free(
                f"{prefix}/{sparse.values.name}"
            )
        own = {name for each in branch.node for name in each.output if name}
        passed = []
        for value, outer in zip(branch.output, node.output, strict=False):
            if not outer:
                continue
            if value.name in own and value.name not in names:
                names[value.name] = outer
            else:  # an outer value, a stored one, or one that is given twice
                source = names.get(value.name, value.name)
                passed.append(onnx.helper.make_node("Identity", [source], [outer]))
                passed[-1].name = self._free(f"{prefix}/{value.name}")
        self._rename_fresh(branch.node, names, prefix)
        return [*(self._bound(each, names, {}, prefix) for each in branch.node), *passed]

    def _prefix(self, node: NodeProto) -> str:
        """What the call is called: its name, or its first result's."""
        return node.name or next((each for each in node.output if each), node.op_type)

    def _free(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


class _Constants:
    """Booleans that a graph stores, and those of the graphs around it."""

    def __init__(self, graph: GraphProto, ir_version: int, outer: _Constants | None = None) -> None:
        self._values: dict[str, bool | None] = dict(outer._values) if outer is not None else {}
        fed = {each.name for each in graph.input}
        self._values |= dict.fromkeys(fed)
        for tensor in graph.initializer:
            overridable = tensor.name in fed and ir_version >= _FIRST_WITHOUT_INPUTS
            self._values[tensor.name] = None if overridable else _truth(tensor)

    def learn(self, node: NodeProto) -> None:
        """Take note of what a node stores or passes on."""
        if node.domain not in ("", "ai.onnx") or not node.output:
            return
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            self._values[node.output[0]] = _truth(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input:
            self._values[node.output[0]] = self._values.get(node.input[0])

    def branch(self, node: NodeProto) -> GraphProto | None:
        """The branch that an `If` always takes; None for what is no such choice."""
        if node.op_type != "If" or node.domain not in ("", "ai.onnx") or not node.input:
            return None
        truth = self._values.get(node.input[0])
        if truth is None:
            return None
        wanted = "then_branch" if truth else "else_branch"
        return next((each.g for each in node.attribute if each.name == wanted), None)


def _truth(tensor: onnx.TensorProto) -> bool | None:
    """The value of a boolean scalar that lies in the message; None for anything else."""
    if tensor.data_type != onnx.TensorProto.BOOL or tensor.data_location:
        return None
    values = onnx.numpy_helper.to_array(tensor)
    return bool(values.reshape(-1)[0]) if values.size == 1 else None


def _resolved(attribute: AttributeProto, given: _Attributes) -> AttributeProto | None:
    """An attribute with the value that the call gives it; None where it gives none."""
    if not attribute.ref_attr_name:
        return attribute
    value = given.get(attribute.ref_attr_name)
    if value is None:
        return None
    found = AttributeProto()
    found.CopyFrom(value)
    found.name = attribute.name
    return found


def _chooses(graph: GraphProto) -> bool:
    return any(each.op_type == "If" for each in _with_inner(graph.node))


def _key(node: NodeProto) -> tuple[str, str]:
    return node.domain, function_name(node.op_type, node.overload)


def _since(op_type: str, version: int, domain: str) -> int | None:
    try:
        return int(onnx.defs.get_schema(op_type, version, domain).since_version)
    except onnx.defs.SchemaError:
        return None


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        yield from _graphs_of(attribute)


def _graphs_of(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _with_inner(nodes: Any) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in _graphs(node):
            yield from _with_inner(graph.node)


def _names(graph: GraphProto) -> Iterator[str]:
    """Every name that a value has, in subgraphs too."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from node.output
        for inner in _graphs(node):
            yield from _names(inner)


def _copy_of(message: _M) -> _M:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
