"""A model as a list of layers, free of what exporters write differently.

Two exports of one network differ in names, in the order of nodes, in how a dense layer is
written (Gemm, or MatMul and Add), and in the Transpose and Reshape nodes between layouts. Here
each becomes the same list: layers in an order that follows from the graph alone, with the
operators that only move values left out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inspector.compare.attributes import words_of
from inspector.compare.digest import digest_of_tensor
from inspector.compare.layout import Flat, Layouts
from inspector.compare.order import captured
from inspector.compare.pair import Pair
from inspector.facts.model import Model, Node, Tensor

_MOVES = frozenset("Identity Transpose Reshape Flatten Squeeze Unsqueeze".split())
COMMUTATIVE = frozenset("Add Mul Sum Mean Max Min And Or Xor Equal".split())
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_BIASED = _CONVOLUTIONS | {"Dense"}
_INLINE = 64
"""Elements up to which an integer constant (axes, pads, a shape) is shown as an attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A stored tensor that a layer reads, and where its node reads it.

    `dims` are those in which the node reads it, behind any Unsqueeze or Transpose of the tensor;
    None where they are not known. `transposed` says that a dense kernel is read [out, in],
    `turned` that it is stored the other way round than it is read; `flat` gives the order of the
    input features of a dense kernel, or of a vector with one element a feature, where a Flatten
    in front tells it.
    """

    role: str
    tensor: Tensor
    node: str
    position: int
    dims: tuple[int, ...] | None
    transposed: bool = False
    turned: bool = False
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


def build_both(
    models: tuple[Model, Model],
    layouts: tuple[Layouts, Layouts],
    inputs: Sequence[Pair],
    outputs: Sequence[Pair],
) -> tuple[Network, Network]:
    """Both models' layers; see `build`."""
    left = build(
        models[0],
        layouts[0],
        inputs=[each.left.name for each in inputs],
        outputs=[each.left.name for each in outputs],
    )
    right = build(
        models[1],
        layouts[1],
        inputs=[each.right.name for each in inputs],
        outputs=[each.right.name for each in outputs],
    )
    return left, right


def build(
    model: Model, layouts: Layouts, *, inputs: Sequence[str], outputs: Sequence[str]
) -> Network:
    """Layers of the main graph that the outputs depend on.

    Parameters
    ----------
    model
        With inferred shapes, default attributes (see `inspector.read`) and its nodes in order.
    inputs, outputs
        Names as they are paired with the other model's.
    """
    return _Builder(model, layouts, inputs, outputs).build()


class _Builder:
    def __init__(
        self, model: Model, layouts: Layouts, inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self._model = model
        self._graph = model.graph
        self._layouts = layouts
        self._inputs = inputs
        self._outputs = outputs
        self._producer = {name: n for n in self._graph.nodes for name in n.outputs if name}
        self._users: dict[str, int] = defaultdict(int)
        for node in self._graph.nodes:
            for name in dict.fromkeys((*node.inputs, *captured(node))):
                self._users[name] += 1
        self._tensors = self._find_stored()
        self._read: dict[int, list[str]] = {}
        self._origins: dict[str, str] = {}
        self._bias_of: dict[int, Node] = {}
        self._absorbed: dict[str, Node] = {}
        self._pair_biases()

    def build(self) -> Network:
        layers = tuple(self._layer(node) for node in self._order())
        sources = {
            name: self._source(name) for node in self._graph.nodes for name in node.outputs if name
        }
        return Network(model=self._model, layers=layers, layouts=self._layouts, sources=sources)

    def _stored(self, value: str) -> Tensor | None:
        """The stored tensor that `value` stands for.

        Looks through Identity, and through whatever leaves the order of a vector's elements.
        """
        return self._tensors.get(value)

    def _find_stored(self) -> dict[str, Tensor]:
        found = dict(self._graph.initializers)
        for node in self._graph.nodes:
            if not node.is_standard or not node.outputs:
                continue
            constant = node.attributes.get("value")
            if node.op_type == "Constant" and isinstance(constant, Tensor):
                found[node.outputs[0]] = constant
            inner = found.get(node.input(0))
            if inner is None:
                continue
            vector = inner.elements == max(inner.dims, default=1)
            keeps = node.op_type in ("Unsqueeze", "Squeeze", "Reshape") and vector
            if node.op_type == "Identity" or keeps:
                found[node.outputs[0]] = inner
        return found

    def _kernel(self, node: Node) -> tuple[Tensor, bool] | None:
        """The stored matrix that a node reads second, and whether behind a Transpose."""
        tensor = self._stored(node.input(1))
        if tensor is not None:
            return (tensor, False) if len(tensor.dims) == 2 else None
        above = self._producer.get(node.input(1))
        if above is None or above.op_type != "Transpose" or not above.is_standard:
            return None
        tensor = self._stored(above.input(0))
        turns = above.ints_attribute("perm") in (None, (1, 0))
        return (tensor, True) if tensor is not None and len(tensor.dims) == 2 and turns else None

    def _moves(self, node: Node) -> bool:
        if not node.is_standard:
            return False
        if node.op_type == "Dropout":
            return len([name for name in node.outputs if name]) == 1 and not node.input(2)
        return node.op_type in _MOVES

    def _source(self, value: str) -> str:
        """The value of a layer or the graph input that `value` is moved from."""
        way: dict[str, None] = {}
        while value not in self._origins:
            way[value] = None
            node = self._producer.get(value)
            if (
                node is None
                or value in self._absorbed
                or not self._moves(node)
                or (node.input(0) in way)
            ):
                self._origins[value] = value
                break
            value = node.input(0)
        for each in way:
            self._origins[each] = self._origins[value]
        return self._origins[value]

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
        shown = any(value == each.name for each in self._graph.outputs)
        alone = self._users[value] == 1 and not shown
        if not alone or not owner.is_standard or id(owner) in self._bias_of:
            return False
        if owner.op_type == "MatMul" and (kernel := self._kernel(owner)) is not None:
            out = kernel[0].dims[0 if kernel[1] else 1]
            return bias.elements == out and bias.dims in ((out,), (1, out))
        weight = self._stored(owner.input(1))
        if weight is None:
            return False
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
        rank = self._digests(contents=False)
        if self._has_ties(rank):
            rank = self._digests(contents=True)
        seen: set[int] = set()
        order: list[Node] = []
        for output in self._outputs:
            stack = [(self._source(output), False)]
            while stack:
                value, ready = stack.pop()
                node = self._layer_node(value)
                if node is None:
                    continue
                if ready:
                    order.append(node)
                    continue
                if id(node) in seen:
                    continue
                seen.add(id(node))
                stack.append((value, True))
                inputs = self._dynamic_inputs(node)
                if _commutes(node):
                    inputs = sorted(inputs, key=lambda name: rank.get(name, ""))
                stack.extend((name, False) for name in reversed(inputs))
        return order

    def _has_ties(self, rank: Mapping[str, str]) -> bool:
        """Whether an operator that commutes reads two values that look the same."""
        for node in self._graph.nodes:
            if _commutes(node):
                inputs = dict.fromkeys(self._dynamic_inputs(node))
                if len({rank.get(name, "") for name in inputs}) < len(inputs):
                    return True
        return False

    def _layer_node(self, value: str) -> Node | None:
        return self._absorbed.get(value) or self._producer.get(value)

    def _dynamic_inputs(self, node: Node) -> list[str]:
        """What a node and its subgraphs read of layers and graph inputs, behind what moves it."""
        if id(node) not in self._read:
            self._read[id(node)] = self._find_dynamic_inputs(node)
        return self._read[id(node)]

    def _find_dynamic_inputs(self, node: Node) -> list[str]:
        kernel = node.input(1) if self._is_dense(node) else ""
        names = [*node.inputs, *captured(node)]
        return [
            self._source(name)
            for name in names
            if name and name != kernel and self._stored(name) is None
        ]

    def _digests(self, *, contents: bool) -> dict[str, str]:
        """What each layer's value is computed by, as a digest of operators and sizes.

        With `contents` also of the smallest and largest stored values, which no layout changes.
        """
        digests = {name: f"input {at}" for at, name in enumerate(self._inputs)}
        for node in self._graph.nodes:
            owner = self._absorbed.get(_first(node))
            if owner is not None:
                digests[_first(node)] = digests.get(_first(owner), "")
                continue
            inputs = [digests.get(name, "") for name in self._dynamic_inputs(node)]
            if _commutes(node):
                inputs.sort()
            tensors = [t for n in node.inputs if (t := self._stored(n)) is not None]
            sizes = max((each.elements for each in tensors), default=0)
            ends = [self._ends(each) for each in tensors] if contents else []
            text = repr((_op(node), sizes, ends, inputs))
            digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
            for at, name in enumerate(node.outputs):
                digests[name] = f"{digest} {at}"
        return digests

    def _ends(self, tensor: Tensor) -> tuple[str, ...]:
        values = self._model.weights.load(tensor)
        if not values.size or values.dtype.kind not in "fiu":
            return ()
        return (str(values.min()), str(values.max()))

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
            node=_first(node),
            value=bias.outputs[0] if bias is not None else _first(node),
            inputs=tuple(self._dynamic_inputs(node)),
            stored=stored,
            attributes=attributes,
            node_fact=node,
        )

    def _is_dense(self, node: Node) -> bool:
        if not node.is_standard or node.op_type not in ("MatMul", "Gemm"):
            return False
        if self._kernel(node) is None:
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
        kernel = self._kernel(node) if dense else None
        flat = self._layouts.flat.get(node.input(0))
        for position, name in enumerate(node.inputs):
            of_kernel = kernel is not None and position == 1
            tensor = kernel[0] if kernel is not None and of_kernel else self._stored(name)
            if tensor is None:
                continue
            if not tensor.is_float and tensor.elements <= _INLINE:
                inline[f"input {position}"] = str(self._model.weights.load(tensor).tolist())
                continue
            by_feature = of_kernel or (not dense and len(tensor.dims) == 1)
            found.append(
                Stored(
                    role=_role(node, position),
                    tensor=tensor,
                    node=_first(node),
                    position=position,
                    dims=self._read_dims(name, tensor),
                    transposed=of_kernel and node.int_attribute("transB", 0) != 0,
                    turned=kernel is not None and of_kernel and kernel[1],
                    flat=flat if by_feature else None,
                )
            )
        if bias is not None:
            at = 0 if self._stored(bias.input(0)) is not None else 1
            tensor = self._stored(bias.input(at))
            assert tensor is not None  # that is how the pair was found
            found.append(
                Stored(
                    role="bias",
                    tensor=tensor,
                    node=bias.outputs[0],
                    position=at,
                    dims=self._read_dims(bias.input(at), tensor),
                )
            )
        return tuple(found), inline

    def _read_dims(self, name: str, tensor: Tensor) -> tuple[int, ...] | None:
        """The dims in which a stored tensor is read under `name`."""
        if name in self._graph.initializers or self._producer[name].op_type == "Constant":
            return tensor.dims
        known = self._graph.values.get(name)
        dims = known.dims if known is not None else None
        found = tuple(dim for dim in dims or () if isinstance(dim, int))
        return found if dims is not None and len(found) == len(dims) else None

    def _attributes(self, node: Node, *, dense: bool) -> dict[str, str]:
        """The attributes that say what the operator computes, in words that can be compared."""
        if dense:
            return {}
        known = self._graph.values.get(node.input(0))
        return words_of(
            node,
            self._model,
            axes=self._layouts.axes.get(node.input(0)),
            dims=known.dims if known is not None else None,
            weight=self._stored(node.input(1)) if node.op_type in _CONVOLUTIONS else None,
            outer=self._outer(node),
        )

    def _outer(self, node: Node) -> dict[str, str]:
        """Digests of what a node's subgraphs read: values by place, stored tensors by content."""
        found: dict[str, str] = {}
        for name in captured(node):
            tensor = self._stored(name)
            here = len(found)
            found[name] = digest_of_tensor(self._model, tensor) if tensor else f"value {here}"
        return found


def _first(node: Node) -> str:
    """A node's first output that is asked for: the name that stands for the node."""
    return next((name for name in node.outputs if name), "")


def _commutes(node: Node) -> bool:
    return node.op_type in COMMUTATIVE and node.is_standard


def _op(node: Node) -> str:
    """The operator as the digest sees it: a Gemm and a MatMul are one."""
    return "Dense" if node.op_type in ("Gemm", "MatMul") else f"{node.domain}:{node.op_type}"


def _role(node: Node, position: int) -> str:
    if node.op_type in COMMUTATIVE and node.is_standard and len(node.inputs) == 2:
        # Which side of a sum the constant stands on is the exporter's choice.
        return "operand"
    names = {
        "BatchNormalization": ("", "scale", "B", "mean", "var"),
        "Conv": ("", "kernel", "bias"),
        "ConvTranspose": ("", "kernel", "bias"),
        "Gemm": ("", "kernel", "bias"),
        "MatMul": ("", "kernel"),
    }.get(node.op_type, ())
    known = names[position] if position < len(names) else ""
    return known or f"input {position}"
