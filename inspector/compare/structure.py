"""A model as a list of layers, free of what exporters write differently.

Two exports of one network differ in names, in the order of nodes, in how a dense layer is
written (Gemm, or MatMul and Add), and in the Transpose and Reshape nodes between layouts. Here
each becomes the same list: layers in an order that follows from the graph alone, with the
operators that only move values left out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from inspector.compare.layout import Flat, Layouts, find_layouts
from inspector.facts.model import Attribute, Graph, Model, Node, Tensor

_MOVES = frozenset("Identity Transpose Reshape Flatten Squeeze Unsqueeze".split())
COMMUTATIVE = frozenset("Add Mul Sum Mean Max Min And Or Xor Equal".split())
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_BIASED = _CONVOLUTIONS | {"Dense"}
_NOT_STRUCTURE = frozenset(
    "momentum kernel_shape consumed_inputs spatial is_test training_mode".split()
)
_INLINE = 64
"""Elements up to which an integer constant (axes, pads, a shape) is shown as an attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A stored tensor that a layer reads, and where its node reads it.

    `transposed` says that a dense kernel is stored [out, in]; `flat` gives the order of a dense
    kernel's input features where a Flatten in front tells it.
    """

    role: str
    tensor: Tensor
    node: str
    position: int
    transposed: bool = False
    flat: Flat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator of the network; a dense layer and its bias are one.

    `value` is what it computes, `node` the first output of its main node (how patches address
    it), `inputs` the values it reads from other layers or graph inputs.
    """

    op: str
    domain: str
    label: str
    node: str
    value: str
    inputs: tuple[str, ...]
    stored: tuple[Stored, ...]
    attributes: Mapping[str, str]
    node_fact: Node

    @property
    def shown(self) -> str:
        """How messages name it."""
        return f"{self.op} {self.label!r}" if self.label else self.op


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The layers of one model in canonical order, its layouts, and what no layer reads.

    `sources` maps a value to the layer value or graph input it is moved from.
    """

    model: Model
    layers: tuple[Layer, ...]
    layouts: Layouts
    sources: Mapping[str, str]


def build(model: Model) -> Network:
    """Layers of the main graph that the outputs depend on.

    `model` should carry inferred shapes and default attributes (see `inspector.read`).
    """
    return _Builder(model).build()


class _Builder:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._graph = model.graph
        self._layouts = find_layouts(model)
        self._producer = {name: n for n in self._graph.nodes for name in n.outputs if name}
        self._users: dict[str, list[Node]] = defaultdict(list)
        for node in self._graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self._users[name].append(node)
        self._outputs = {value.name for value in self._graph.outputs}
        self._bias_of: dict[int, Node] = {}
        self._absorbed: dict[str, Node] = {}
        self._pair_biases()

    def build(self) -> Network:
        order = self._order()
        layers = tuple(self._layer(node) for node in order)
        sources = {
            name: self._source(name) for node in self._graph.nodes for name in node.outputs if name
        }
        return Network(model=self._model, layers=layers, layouts=self._layouts, sources=sources)

    def _stored(self, value: str) -> Tensor | None:
        """The stored tensor that `value` stands for, looking through Identity."""
        for _ in range(64):
            if (tensor := self._graph.initializers.get(value)) is not None:
                return tensor
            node = self._producer.get(value)
            if node is None or not node.is_standard:
                return None
            if node.op_type == "Constant":
                constant = node.attributes.get("value")
                return constant if isinstance(constant, Tensor) else None
            if node.op_type != "Identity":
                return None
            value = node.input(0)
        return None

    def _moves(self, node: Node) -> bool:
        if not node.is_standard:
            return False
        if node.op_type == "Dropout":
            return len([name for name in node.outputs if name]) == 1 and not node.input(2)
        return node.op_type in _MOVES

    def _source(self, value: str) -> str:
        """The value of a layer or the graph input that `value` is moved from."""
        for _ in range(len(self._graph.nodes) + 1):
            node = self._producer.get(value)
            if node is None:
                return value
            if value in self._absorbed:
                return value
            if not self._moves(node):
                return value
            value = node.input(0)
        return value

    def _pair_biases(self) -> None:
        """Find the Add behind a MatMul or a bias-less Conv that is really its bias."""
        for node in self._graph.nodes:
            if node.op_type != "Add" or not node.is_standard:
                continue
            for at in (0, 1):
                bias, owner = self._stored(node.input(1 - at)), self._producer.get(node.input(at))
                if bias is not None and owner is not None and self._takes_bias(owner, bias):
                    self._bias_of[id(owner)] = node
                    self._absorbed[node.outputs[0]] = owner
                    break

    def _takes_bias(self, owner: Node, bias: Tensor) -> bool:
        value = owner.outputs[0]
        alone = len(self._users[value]) == 1 and value not in self._outputs
        weight = self._stored(owner.input(1))
        if not alone or weight is None or not owner.is_standard or id(owner) in self._bias_of:
            return False
        if owner.op_type == "MatMul":
            return len(weight.dims) == 2 and bias.dims == (weight.dims[1],)
        if owner.op_type in _CONVOLUTIONS and not owner.input(2):
            spatial = len(weight.dims) - 2
            at = 0 if owner.op_type == "Conv" else 1
            channels = weight.dims[at] * (1 if at == 0 else owner.int_attribute("group", 1))
            return bias.dims[-spatial - 1 :] == (channels, *(1,) * spatial) and (
                bias.elements == channels
            )
        return False

    def _order(self) -> list[Node]:
        """Nodes that are layers, in an order that does not depend on names or on the file."""
        digests = self._digests()
        done: set[str] = set()
        order: list[Node] = []
        for output in self._graph.outputs:
            stack = [(self._source(output.name), False)]
            while stack:
                value, ready = stack.pop()
                node = self._layer_node(value)
                if node is None or node.outputs[0] in done:
                    continue
                if ready:
                    done.add(node.outputs[0])
                    order.append(node)
                    continue
                stack.append((value, True))
                inputs = self._dynamic_inputs(node)
                if node.op_type in COMMUTATIVE and node.is_standard:
                    inputs = sorted(inputs, key=lambda name: digests.get(name, ""))
                stack.extend((name, False) for name in reversed(inputs))
        return order

    def _layer_node(self, value: str) -> Node | None:
        return self._absorbed.get(value) or self._producer.get(value)

    def _dynamic_inputs(self, node: Node) -> list[str]:
        names = [*node.inputs, *_captured(node)]
        return [self._source(name) for name in names if name and self._stored(name) is None]

    def _digests(self) -> dict[str, str]:
        """What each layer's value is computed by, as a digest of operators and sizes alone."""
        digests: dict[str, str] = {
            value.name: f"input {at}" for at, value in enumerate(self._graph.inputs)
        }
        for node in self._graph.nodes:
            inputs = [digests.get(name, "") for name in self._dynamic_inputs(node)]
            if node.op_type in COMMUTATIVE:
                inputs.sort()
            sizes = [t.elements for n in node.inputs if (t := self._stored(n)) is not None]
            text = repr((_op(node), sorted(sizes), inputs))
            digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            for name in node.outputs:
                digests[name] = digest
        return digests

    def _layer(self, node: Node) -> Layer:
        bias = self._bias_of.get(id(node))
        dense = self._is_dense(node)
        op = "Dense" if dense else node.op_type
        stored, inline = self._stored_inputs(node, dense=dense, bias=bias)
        attributes = {**self._attributes(node, dense=dense), **inline}
        return Layer(
            op=op,
            domain="" if node.is_standard else node.domain,
            label=node.label,
            node=node.outputs[0],
            value=bias.outputs[0] if bias is not None else node.outputs[0],
            inputs=tuple(self._dynamic_inputs(node)),
            stored=stored,
            attributes=attributes,
            node_fact=node,
        )

    def _is_dense(self, node: Node) -> bool:
        weight = self._stored(node.input(1))
        if not node.is_standard or weight is None or len(weight.dims) != 2:
            return False
        if node.op_type == "MatMul":
            return True
        plain = node.int_attribute("transA", 0) == 0 and node.float_attribute("alpha", 1.0) == 1.0
        return node.op_type == "Gemm" and plain and node.float_attribute("beta", 1.0) == 1.0

    def _stored_inputs(
        self, node: Node, *, dense: bool, bias: Node | None
    ) -> tuple[tuple[Stored, ...], dict[str, str]]:
        found: list[Stored] = []
        inline: dict[str, str] = {}
        for position, name in enumerate(node.inputs):
            tensor = self._stored(name)
            if tensor is None:
                continue
            if not tensor.is_float and tensor.elements <= _INLINE:
                inline[f"input {position}"] = str(self._model.weights.load(tensor).tolist())
                continue
            kernel = dense and position == 1
            found.append(
                Stored(
                    role=_role(node, position),
                    tensor=tensor,
                    node=node.outputs[0],
                    position=position,
                    transposed=kernel and node.int_attribute("transB", 0) != 0,
                    flat=self._layouts.flat.get(node.input(0)) if kernel else None,
                )
            )
        if bias is not None:
            at = 0 if self._stored(bias.input(0)) is not None else 1
            tensor = self._stored(bias.input(at))
            assert tensor is not None  # that is how the pair was found
            found.append(Stored(role="bias", tensor=tensor, node=bias.outputs[0], position=at))
        return tuple(found), inline

    def _attributes(self, node: Node, *, dense: bool) -> dict[str, str]:
        """The attributes that say what the operator computes, in words that can be compared."""
        if dense:
            return {}
        found: dict[str, str] = {}
        for name, value in sorted(node.attributes.items()):
            if name in _NOT_STRUCTURE or (
                node.op_type == "BatchNormalization" and name == "epsilon"
            ):
                continue
            if _is_default(name, value):
                continue
            if name in ("axis", "axes") and isinstance(value, int | tuple):
                found[name] = str(self._canonical_axes(node, value))
            else:
                found[name] = _in_words(value)
        return self._without_auto_pad(node, found)

    def _canonical_axes(self, node: Node, value: Attribute) -> list[int]:
        """Axes counted from the front, in channel-first order where the layout is known."""
        axes = self._layouts.axes.get(node.input(0))
        known = self._graph.values.get(node.input(0))
        rank = len(known.dims) if known is not None and known.dims is not None else None
        found = []
        for each in value if isinstance(value, tuple) else (value,):
            at = int(each) + rank if rank is not None and int(each) < 0 else int(each)  # type: ignore[arg-type]  # axes are ints
            found.append(axes[at] if axes is not None and 0 <= at < len(axes) else at)
        return found

    def _without_auto_pad(self, node: Node, found: dict[str, str]) -> dict[str, str]:
        """SAME padding written out where it does not depend on the size of the input."""
        auto = found.get("auto_pad")
        weight = self._stored(node.input(1)) if node.op_type == "Conv" else None
        if auto in ("NOTSET", "VALID"):
            del found["auto_pad"]
        elif auto in ("SAME_UPPER", "SAME_LOWER") and weight is not None and "strides" not in found:
            kernel = weight.dims[2:]
            dilations = node.ints_attribute("dilations") or (1,) * len(kernel)
            total = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
            first = [(t + (auto == "SAME_LOWER")) // 2 for t in total]
            pads = (*first, *(t - f for t, f in zip(total, first, strict=True)))
            del found["auto_pad"]
            if any(pads):
                found["pads"] = _in_words(pads)
        return found


def _op(node: Node) -> str:
    """The operator as the digest sees it: a Gemm and a MatMul are one."""
    return "Dense" if node.op_type in ("Gemm", "MatMul") else f"{node.domain}:{node.op_type}"


def _role(node: Node, position: int) -> str:
    names = {
        "BatchNormalization": ("", "scale", "B", "mean", "var"),
        "Conv": ("", "kernel", "bias"),
        "ConvTranspose": ("", "kernel", "bias"),
        "Gemm": ("", "kernel", "bias"),
        "MatMul": ("", "kernel"),
    }.get(node.op_type, ())
    known = names[position] if position < len(names) else ""
    return known or f"input {position}"


def _is_default(name: str, value: Attribute) -> bool:
    """Lists that say nothing; the operators' schemas give no default for them."""
    if isinstance(value, tuple):
        if name == "pads":
            return not any(value)
        if name in ("strides", "dilations"):
            return all(each == 1 for each in value)
    return value is None


def _in_words(value: Attribute) -> str:
    match value:
        case bytes():
            return value.decode("utf-8", "replace")
        case float():
            return f"{value:.7g}"
        case tuple():
            return "[" + ", ".join(_in_words(each) for each in value) + "]"
        case Tensor():
            return f"tensor {list(value.dims)}"
        case Graph():
            return f"subgraph of {len(value.nodes)} nodes"
        case _:
            return str(value)


def _captured(node: Node) -> list[str]:
    """Names that a node's subgraphs read from outside."""
    found: dict[str, None] = {}
    for value in node.attributes.values():
        for graph in value if isinstance(value, tuple) else (value,):
            if isinstance(graph, Graph):
                inner = {v.name for v in graph.inputs} | set(graph.initializers)
                inner |= {name for each in graph.nodes for name in each.outputs}
                for each in graph.nodes:
                    names = (*each.inputs, *_captured(each))
                    found.update((name, None) for name in names if name and name not in inner)
                found.update((v.name, None) for v in graph.outputs if v.name not in inner)
    return list(found)
