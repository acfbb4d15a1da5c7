"""What the values of a graph really are: stored tensors, layers, or values moved from elsewhere.

Exporters put Identity, Transpose and Reshape between operators, keep constants in nodes, and
write a dense layer in two nodes; whoever compares graphs has to look through all of it.
"""

from __future__ import annotations

from collections import defaultdict

from inspector.compare.graphs.broadcast import lengthened
from inspector.compare.graphs.padding import Padding, together
from inspector.compare.pairing.defaults import overridable
from inspector.compare.runtime.run import Array
from inspector.facts.graphs import captured
from inspector.facts.model import Model, Node, Tensor

_MOVES = frozenset("Identity Transpose Reshape Flatten Squeeze Unsqueeze".split())
COMMUTATIVE = frozenset("Add Mul Sum Mean Max Min And Or Xor Equal".split())
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


class View:
    """The main graph of a model whose nodes are in order.

    `bias_of` gives the Add that holds a layer's bias by the identity of its node, `absorbed` the
    layer's node by what that Add gives. `pads_of` gives, likewise, the padding of a convolution
    with a Pad in front that is a part of it, and `put_apart` that part.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.graph = model.graph
        self.producer = {name: n for n in self.graph.nodes for name in n.outputs if name}
        self._users: dict[str, int] = defaultdict(int)
        for node in self.graph.nodes:
            for name in dict.fromkeys((*node.inputs, *captured(node))):
                self._users[name] += 1
        self._tensors = self._find_stored()
        self._padding: set[int] = set()
        self._read: dict[int, list[str]] = {}
        self._origins: dict[str, str] = {}
        self.bias_of: dict[int, Node] = {}
        self.absorbed: dict[str, Node] = {}
        self.pads_of: dict[int, tuple[int, ...]] = {}
        self.put_apart: dict[int, tuple[int, ...]] = {}
        self._find_padding()
        self._pair_biases()

    def _find_padding(self) -> None:
        """Take what Pads put around what windows read for their own padding."""
        ends = {each.name for each in self.graph.outputs}
        fed = overridable(self.model)

        def values(name: str) -> Array | None:
            tensor = None if name in fed else self.stored(name)
            return None if tensor is None else self.model.weights.load(tensor)

        padding = Padding(
            self.producer, lambda name: self._users[name] == 1 and name not in ends, values
        )
        for node in self.graph.nodes:
            found = padding.in_front(node)
            if found is None:
                continue
            above, more = found
            whole = together(node.ints_attribute("pads"), more)
            if whole is not None:
                self.pads_of[id(node)] = whole
                self.put_apart[id(node)] = more
                self._padding.add(id(above))

    def stored(self, value: str) -> Tensor | None:
        """The stored tensor that `value` stands for.

        Looks through Identity, and through whatever leaves the order of a vector's elements.
        """
        return self._tensors.get(value)

    def read_dims(self, name: str, tensor: Tensor) -> tuple[int, ...] | None:
        """The dims in which a stored tensor is read under `name`."""
        if name in self.graph.initializers or self.producer[name].op_type == "Constant":
            return tensor.dims
        known = self.graph.values.get(name)
        if known is None or known.dims is None:
            return lengthened(self.producer[name], tensor)
        found = tuple(dim for dim in known.dims if isinstance(dim, int))
        return found if len(found) == len(known.dims) else None

    def _find_stored(self) -> dict[str, Tensor]:
        found = dict(self.graph.initializers)
        for node in self.graph.nodes:
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

    def kernel(self, node: Node) -> tuple[Tensor, bool] | None:
        """The stored matrix that a node reads second, and whether behind a Transpose."""
        tensor = self.stored(node.input(1))
        if tensor is not None:
            return (tensor, False) if len(tensor.dims) == 2 else None
        above = self.producer.get(node.input(1))
        if above is None or above.op_type != "Transpose" or not above.is_standard:
            return None
        tensor = self.stored(above.input(0))
        turns = above.ints_attribute("perm") in (None, (1, 0))
        return (tensor, True) if tensor is not None and len(tensor.dims) == 2 and turns else None

    def _moves(self, node: Node) -> bool:
        if not node.is_standard:
            return False
        if id(node) in self._padding:
            return True
        if node.op_type == "Dropout":
            return len([name for name in node.outputs if name]) == 1 and not node.input(2)
        return node.op_type in _MOVES

    def source(self, value: str) -> str:
        """The value of a layer or the graph input that `value` is moved from."""
        way: dict[str, None] = {}
        while value not in self._origins:
            way[value] = None
            node = self.producer.get(value)
            if (
                node is None
                or value in self.absorbed
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
        for node in self.graph.nodes:
            if node.op_type != "Add" or not node.is_standard:
                continue
            for at in (0, 1):
                name, owner = node.input(1 - at), self.producer.get(node.input(at))
                bias = self.stored(name)
                dims = self.read_dims(name, bias) if bias is not None else None
                if dims is not None and owner is not None and self._takes_bias(owner, dims):
                    self.bias_of[id(owner)] = node
                    self.absorbed[node.outputs[0]] = owner
                    break

    def _takes_bias(self, owner: Node, dims: tuple[int, ...]) -> bool:
        """Whether what is read in `dims` is one number for each output of a layer."""
        value = owner.outputs[0]
        shown = any(value == each.name for each in self.graph.outputs)
        alone = self._users[value] == 1 and not shown
        if not alone or not owner.is_standard or id(owner) in self.bias_of:
            return False
        if owner.op_type == "MatMul" and (kernel := self.kernel(owner)) is not None:
            out = kernel[0].dims[0 if kernel[1] else 1]
            return dims in ((out,), (1, out))
        weight = self.stored(owner.input(1))
        if weight is None:
            return False
        if owner.op_type in CONVOLUTIONS and not owner.input(2):
            form = self.read_dims(owner.input(1), weight)
            if form is None or len(form) < 2:
                return False
            spatial = len(form) - 2
            at = 0 if owner.op_type == "Conv" else 1
            channels = form[at] * (1 if at == 0 else owner.int_attribute("group", 1))
            vector = (channels, *(1,) * spatial)
            return dims in (vector, (1, *vector))
        return False

    def layer_node(self, value: str) -> Node | None:
        """The node of the layer that gives `value`."""
        return self.absorbed.get(value) or self.producer.get(value)

    def dynamic_inputs(self, node: Node) -> list[str]:
        """What a node and its subgraphs read of layers and graph inputs, behind what moves it."""
        if id(node) not in self._read:
            self._read[id(node)] = self._find_dynamic_inputs(node)
        return self._read[id(node)]

    def _find_dynamic_inputs(self, node: Node) -> list[str]:
        kernel = node.input(1) if self.is_dense(node) else ""
        names = [*node.inputs, *captured(node)]
        return [
            self.source(name)
            for name in names
            if name and name != kernel and self.stored(name) is None
        ]

    def is_dense(self, node: Node) -> bool:
        """Whether a node is a matrix product with a stored kernel, however it is written."""
        if not node.is_standard or node.op_type not in ("MatMul", "Gemm"):
            return False
        if self.kernel(node) is None:
            return False
        if node.op_type == "MatMul":
            return True
        plain = node.int_attribute("transA", 0) == 0 and node.float_attribute("alpha", 1.0) == 1.0
        return node.op_type == "Gemm" and plain and node.float_attribute("beta", 1.0) == 1.0


def first_output(node: Node) -> str:
    """A node's first output that is asked for: the name that stands for the node."""
    return next((name for name in node.outputs if name), "")


def commutes(node: Node) -> bool:
    return node.op_type in COMMUTATIVE and node.is_standard
