"""A model as a list of layers, free of what exporters write differently.

Two exports of one network differ in names, in the order of nodes, in how a dense layer is
written (Gemm, or MatMul and Add), and in the Transpose and Reshape nodes between layouts. Here
each becomes the same list: layers in an order that follows from the graph alone, with the
operators that only move values left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from inspector.compare.graphs import clipping, inlined, reduction
from inspector.compare.graphs.attributes import words_of
from inspector.compare.graphs.broadcast import Place, place_of, spreads
from inspector.compare.graphs.digest import digest_of_tensor
from inspector.compare.graphs.sequence import in_sequence, names_read
from inspector.compare.graphs.view import (
    CONVOLUTIONS,
    View,
    commutes,
    first_output,
)
from inspector.compare.graphs.widths import WIDTHS, Widths
from inspector.compare.pairing.layout import Axes, Flat, Layouts
from inspector.compare.pairing.pair import Pair
from inspector.compare.runtime.run import Array
from inspector.facts.graphs import captured
from inspector.facts.model import Dim, Model, Node, Tensor

RECURRENT = ("", "W", "R", "B", "", "initial_h", "initial_c", "P")
"""What the standard calls inputs of an LSTM that hold numbers; a GRU and an RNN have the first."""

_INLINE = 64
"""Elements up to which an integer constant (axes, pads, a shape) is shown as an attribute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A stored tensor that a layer reads, and where its node reads it.

    `dims` are those in which the node reads it, behind any Unsqueeze or Transpose of the tensor;
    None where they are not known. `label` names the node where it is not the layer's own.
    `transposed` says that a dense kernel is read [out, in],
    `turned` that it is stored the other way round than it is read; `flat` gives the order of the
    input features of a dense kernel, or of a vector with one element a feature, where a Flatten
    in front tells it. `spreads` says that the node puts it to axes by its dims, `place` to which
    ones, where that is known. `of_either_width` says that integers of 32 and of 64 bits do the same
    there.
    """

    role: str
    tensor: Tensor
    node: str
    position: int
    dims: tuple[int, ...] | None
    label: str = ""
    transposed: bool = False
    turned: bool = False
    flat: Flat | None = None
    spreads: bool = False
    place: Place | None = None
    of_either_width: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One operator of the network; a dense layer and its bias are one.

    `value` is what it computes, `node` the first output of its main node (how patches address
    it), `inputs` the values it reads from other layers or graph inputs. `constants` are all stored
    tensors that its main node reads, by position; those that are parameters are `stored`.
    `put_apart` is the part of its padding that a Pad in front adds.
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
    constants: Mapping[int, Tensor]
    put_apart: tuple[int, ...] = ()

    @property
    def written(self) -> str:
        """The operator as the file has it; `op` is what it comes down to."""
        return self.op if self.op == "Dense" else self.node_fact.op_type

    @property
    def open_places(self) -> tuple[int, ...]:
        """At which inputs its node reads what is not stored, in the order of `inputs`.

        Where an operator does not mind the order, a constant among them moves nothing.
        """
        given = enumerate(self.node_fact.inputs)
        found = tuple(at for at, name in given if name and at not in self.constants)
        return tuple(range(len(found))) if commutes(self.node_fact) else found

    @property
    def shown(self) -> str:
        """How messages name it."""
        return f"{self.written} {self.label!r}" if self.label else self.written


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
    view = View(model)
    nodes = in_sequence(view, inputs=inputs, outputs=outputs)
    builder = _Builder(view, layouts, names_read(view, nodes))
    layers = tuple(builder.layer(node) for node in nodes)
    sources = {name: view.source(name) for n in model.graph.nodes for name in n.outputs if name}
    return Network(model=model, layers=layers, layouts=layouts, sources=sources)


class _Builder:
    def __init__(
        self, view: View, layouts: Layouts, names_read: Mapping[str, Collection[str]]
    ) -> None:
        self._view = view
        self._layouts = layouts
        self._names_read = names_read
        self._widths = Widths(view.graph)

    def layer(self, node: Node) -> Layer:
        bias = self._view.bias_of.get(id(node))
        dense = self._view.is_dense(node)
        op = "Dense" if dense else node.op_type
        stored, inline = self._stored_inputs(node, dense=dense, bias=bias)
        attributes = {**self._attributes(node, dense=dense), **inline, **self._sliced(node)}
        if (clipped := self._bounds(node)) is not None:
            op, attributes, stored = clipping.OPERATOR, clipped, ()
        if reduction.is_reduction(node):
            op = reduction.operator(node)
            attributes = self._reduced(node, attributes)
        return Layer(
            op=op,
            domain="" if node.is_standard else node.domain,
            label=node.label,
            node=first_output(node),
            value=bias.outputs[0] if bias is not None else first_output(node),
            inputs=tuple(self._view.dynamic_inputs(node)),
            stored=stored,
            attributes=attributes,
            node_fact=node,
            constants=self._constants(node, dense=dense),
            put_apart=self._view.put_apart.get(id(node), ()),
        )

    def _constants(self, node: Node, *, dense: bool) -> dict[int, Tensor]:
        kernel = self._view.kernel(node) if dense else None
        found = {} if kernel is None else {1: kernel[0]}
        for position, name in enumerate(node.inputs):
            tensor = self._view.stored(name) if name else None
            if tensor is not None:
                found[position] = tensor
        return found

    def _dims(self, value: str) -> Sequence[Dim] | None:
        known = self._view.graph.values.get(value)
        return None if known is None else known.dims

    def _bounds(self, node: Node) -> dict[str, str] | None:
        known = self._view.graph.values.get(first_output(node))
        return clipping.bounds(node, self._values, known.dtype if known is not None else None)

    def _values(self, name: str) -> Array | None:
        tensor = self._view.stored(name)
        return None if tensor is None else self._view.model.weights.load(tensor)

    def _stored_inputs(
        self, node: Node, *, dense: bool, bias: Node | None
    ) -> tuple[tuple[Stored, ...], dict[str, str]]:
        found: list[Stored] = []
        inline: dict[str, str] = {}
        kernel = self._view.kernel(node) if dense else None
        flat = self._layouts.flat.get(node.input(0))
        for position, name in enumerate(node.inputs):
            of_kernel = kernel is not None and position == 1
            tensor = kernel[0] if kernel is not None and of_kernel else self._view.stored(name)
            if tensor is None:
                continue
            if not tensor.is_float and tensor.elements <= _INLINE:
                inline[f"input {position}"] = self._inline(node, position, tensor)
                continue
            of_either_width = tensor.dtype in WIDTHS and not self._widths.show_at(node, position)
            dims = self._view.read_dims(name, tensor)
            by_feature = of_kernel or (not dense and len(tensor.dims) == 1)
            found.append(
                Stored(
                    role=_role(node, position, dims),
                    tensor=tensor,
                    node=first_output(node),
                    position=position,
                    dims=dims,
                    transposed=of_kernel and node.int_attribute("transB", 0) != 0,
                    turned=kernel is not None and of_kernel and kernel[1],
                    flat=flat if by_feature else None,
                    spreads=spreads(node, position),
                    place=self._place(node, dims) if spreads(node, position) else None,
                    of_either_width=of_either_width,
                )
            )
        if commutes(node) and inline:
            inline = {"operands": " and ".join(sorted(inline.values()))}
        if bias is not None:
            at = 0 if self._view.stored(bias.input(0)) is not None else 1
            tensor = self._view.stored(bias.input(at))
            assert tensor is not None  # that is how the pair was found
            found.append(
                Stored(
                    role="bias",
                    tensor=tensor,
                    node=bias.outputs[0],
                    position=at,
                    dims=self._view.read_dims(bias.input(at), tensor),
                    label=f"{bias.op_type} {bias.label!r}" if bias.label else bias.op_type,
                )
            )
        return tuple(found), inline

    def _inline(self, node: Node, position: int, tensor: Tensor) -> str:
        words = inlined.in_words(
            node,
            position,
            self._view.model.weights.load(tensor),
            dims=self._view.read_dims(node.input(position), tensor),
            axes=self._layouts.axes.get(first_output(node)),
        )
        if tensor.dtype not in WIDTHS or self._widths.show_at(node, position):
            words = f"{tensor.dtype} {words}"
        return words

    def _sliced(self, node: Node) -> dict[str, str]:
        """The bounds of a Slice, with axes counted from the front and channels first."""
        dims = self._dims(node.input(0))
        if dims is None or node.op_type != "Slice" or not node.is_standard:
            return {}
        axes = self._layouts.axes.get(node.input(0), tuple(range(len(dims))))
        return inlined.of_slice(node, self._values, axes, dims) or {}

    def _place(self, node: Node, dims: Sequence[int] | None) -> Place | None:
        """To which axes of its result a node puts a stored tensor that it reads in `dims`."""
        result = first_output(node)
        axes, known = self._layouts.axes.get(result), self._dims(result)
        return place_of(node, dims, axes=axes, result=known, opset=self._view.model.opset)

    def _attributes(self, node: Node, *, dense: bool) -> dict[str, str]:
        """The attributes that say what the operator computes, in words that can be compared."""
        if dense:
            return {}
        words = words_of(
            node,
            self._view.model,
            axes=self._layouts.axes.get(node.input(0)),
            dims=self._dims(node.input(0)),
            weight=self._view.stored(node.input(1)) if node.op_type in CONVOLUTIONS else None,
            outer=self._outer(node),
        )
        pads = self._view.pads_of.get(id(node))
        return words if pads is None else {**words, "pads": str(list(pads))}

    def _reduced(self, node: Node, attributes: Mapping[str, str]) -> dict[str, str]:
        """A reduction's attributes, free of how they are written."""
        stored = self._view.stored(node.input(1))
        given = None if stored is None else self._view.model.weights.load(stored).reshape(-1)
        return reduction.attributes(
            node,
            attributes,
            axes=self._layouts.axes.get(node.input(0)),
            dims=self._dims(node.input(0)),
            given=None if given is None else [int(each) for each in given],
            readers=[
                (self._axes_read(name, node), self._dims(name))
                for name in self._names_read.get(first_output(node), ())
            ],
        )

    def _axes_read(self, value: str, node: Node) -> Axes | None:
        """The layout in which a reduction's result is read; its own is that of what it reads."""
        known = self._layouts.axes.get(value)
        own = value == first_output(node)
        return self._layouts.axes.get(node.input(0)) if known is None and own else known

    def _outer(self, node: Node) -> dict[str, str]:
        """Digests of what a node's subgraphs read: values by place, stored tensors by content."""
        found: dict[str, str] = {}
        for name in captured(node):
            tensor = self._view.stored(name)
            if tensor is None:
                found[name] = f"value {len(found)}"
                continue
            found[name] = digest_of_tensor(self._view.model, tensor)
            dims = self._view.read_dims(name, tensor)
            if dims != tensor.dims:
                found[name] += f" read in {dims}"
        return found


def _role(node: Node, position: int, dims: Sequence[int] | None) -> str:
    if commutes(node):
        # Which place in a sum the constant stands at is the exporter's choice.
        return "operand"
    if node.op_type == "Gemm" and position == 2 and any(dim != 1 for dim in (dims or (0,))[:-1]):
        return "operand"  # not one number for each output
    names = {
        "BatchNormalization": ("", "scale", "B", "mean", "var"),
        "Conv": ("", "kernel", "bias"),
        "ConvTranspose": ("", "kernel", "bias"),
        "Gemm": ("", "kernel", "bias"),
        "MatMul": ("", "kernel"),
        "LSTM": RECURRENT,
        "GRU": RECURRENT,
        "RNN": RECURRENT,
    }.get(node.op_type, ())
    known = names[position] if position < len(names) else ""
    return known or f"input {position}"
