"""The layer table of a model, from its nodes and the roles of its tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from inspector.count.homes import Placed, placed
from inspector.count.kinds import classes, kind_of
from inspector.count.layers import MOVES, Layer, layers_of, split_activation
from inspector.count.layouts import layouts
from inspector.count.merged import VARIABLES
from inspector.count.owners import Owner, Owners, owners
from inspector.count.paths import on_path
from inspector.facts.batchnorm import Norms
from inspector.facts.count import Count, Role
from inspector.facts.manifest import Manifest
from inspector.facts.model import Dim, Graph, Model, Node
from inspector.facts.summary import Input, Layout, NodeRow, Part, Row, Source, Summary


def summarise(
    model: Model,
    norms: Norms,
    count: Count,
    manifest: Manifest | None = None,
    notes: Sequence[str] = (),
) -> Summary:
    """The layers of a model and what each of them holds.

    Parameters
    ----------
    model
        With the shapes of intermediate values filled in, as far as they can be told.
    count
        Of the same model.
    notes
        What a reader has to know besides.
    """
    return _Table(model, norms, count, manifest).summary(tuple(notes))


class _Table:
    """Builds the table of one model."""

    def __init__(self, model: Model, norms: Norms, count: Count, manifest: Manifest | None) -> None:
        self.model = model
        self.graph = model.graph
        self.count = count
        self.manifest = manifest
        self.listed = manifest.layers if manifest else ()
        self.dims = _dims_of(model.graph)
        self.layouts = layouts(model.graph, self.dims)
        self.path = on_path(model.graph)
        self.placed = list(placed(model, self.path, count))
        self.several = [e for e in self.placed if len(e.users) > 1 and not e.tensor.again]
        self.held: dict[int, list[Placed]] = {}
        for each in self.placed:
            if each.home is not None:
                self.held.setdefault(id(each.home), []).append(each)
        self.using = {
            id(node)
            for each in self.placed
            if each.role in (Role.LEARNED, Role.STATISTIC)
            for node in (*each.users, *((each.home,) if each.home is not None else ()))
        }
        self.framework = _framework(model, manifest)
        self.source, owned = owners(self.path, self.listed, self._weighs)
        owned = self._with_named_weights(owned)
        biases = {each.value for each in count.tensors if each.role is Role.LEARNED}
        self.layers = layers_of(model.graph, self.path, owned, norms.batchnorms, biases)
        self.norms = {norm.output for norm in norms.batchnorms if norm.nodes and not norm.scope}

    def summary(self, notes: tuple[str, ...]) -> Summary:
        """All of it."""
        rows = list(self._rows())
        if self.source is Source.NOTES:
            rows = list(self._with_containers(rows))
        table = [row for _, row in rows]
        return Summary(
            path=self.model.path,
            producer=self.model.producer,
            framework=self.framework,
            source=self.source,
            inputs=tuple(self._inputs()),
            rows=(*table, *self._left_over(table)),
            nodes=tuple(self._nodes()),
            count=self.count,
            listed=tuple(self._as_listed(table)),
            not_exported=self.manifest.not_exported if self.manifest else (),
            notes=notes,
        )

    def _with_named_weights(self, owned: Owners) -> Owners:
        """Owners also of nodes that an optimiser renamed, by the weights that they hold."""
        if self.source not in (Source.MANIFEST, Source.NAMES):
            return owned
        by_name = {each.name: each for each in owned.values()}
        more = dict(owned)
        for node in self.path:
            name = "" if id(node) in owned else _by_weight(self.held.get(id(node), ()))
            if name:
                more[id(node)] = by_name.get(name) or Owner(key=(name,), name=name)
        return more

    def _weighs(self, node: Node) -> bool:
        """Whether a node has weights by which its layer is known; a bias says nothing."""
        return node.op_type not in _BIASES and id(node) in self.using

    def _inputs(self) -> Iterator[Input]:
        for value in self.graph.inputs:
            if value.name not in self.graph.initializers:
                yield Input(
                    name=value.name,
                    dtype=value.dtype,
                    dims=value.dims,
                    layout=self.layouts.get(value.name, Layout.NONE),
                )

    def _rows(self) -> Iterator[tuple[Layer, Row]]:
        for layer in self.layers:
            first, activation = self._split(layer)
            row = self._row(first)
            if row is not None:
                yield first, row
            if activation is not None and (fused := self._row(activation, fused=True)) is not None:
                yield activation, fused

    def _split(self, layer: Layer) -> tuple[Layer, Layer | None]:
        """A layer and its activation, where the framework had both in one."""
        one = self.source in (Source.MANIFEST, Source.NAMES) and layer.owner is not None
        return split_activation(layer) if one and self.framework != "torch" else (layer, None)

    def _row(self, layer: Layer, *, fused: bool = False) -> Row | None:
        """One row; None for what only moves values and no framework calls a layer."""
        owner = layer.owner
        kind = self._kind(layer)
        if kind is None and (owner is None or not owner.name):
            return None
        output = self._output(layer)
        keras, torch = classes(kind or "", self._spatial(layer))
        own = owner.kind.rpartition(".")[2] if owner is not None and not fused else ""
        if own:
            keras, torch = (own, torch or own) if self.framework == "keras" else (keras or own, own)
        held = [each for node in layer.nodes for each in self.held.get(id(node), ())]
        sizes = _sizes(held)
        return Row(
            name="" if owner is None or fused else owner.name,
            kind=kind or own,
            keras=keras,
            torch=torch,
            nodes=tuple(node.label for node in layer.nodes),
            dims=self.dims.get(output),
            layout=self.layouts.get(output, Layout.NONE),
            learned=sizes[Role.LEARNED],
            statistics=sizes[Role.STATISTIC],
            unknown=sizes[Role.UNKNOWN],
            fused=fused,
            written_out=(owner is None or not owner.name) and self.source is not Source.GRAPH,
            shared=self._shares(layer),
            parts=_parts(held),
        )

    def _shares(self, layer: Layer) -> bool:
        """Whether a layer uses what one before it holds."""
        mine = {id(node) for node in layer.nodes}
        return any(
            each.role in (Role.LEARNED, Role.STATISTIC)
            and id(each.home) not in mine
            and any(id(user) in mine for user in each.users)
            for each in self.several
        )

    def _kind(self, layer: Layer) -> str | None:
        """What a layer computes, by the node that makes it what it is."""
        if any(name in self.norms for node in layer.nodes for name in node.outputs):
            return "BatchNormalization"
        norm = next((n.op_type for n in layer.nodes if n.op_type in _NORMS), None)
        if norm is not None:
            # GroupNorm is written as an InstanceNormalization of groups, and a scale and shift.
            grouped = norm == "InstanceNormalization" and len(layer.nodes) > 1
            return "GroupNormalization" if grouped else kind_of(norm)
        weighing = [node for node in layer.nodes if self._weighs(node)]
        doing = weighing or [node for node in layer.nodes if node.op_type not in MOVES]
        if not doing:
            return self._kind_of_moves(layer)
        node = doing[0] if weighing else doing[-1]
        return self._kind_of(node, layer)

    def _kind_of(self, node: Node, layer: Layer) -> str:
        kind = kind_of(node.op_type)
        ops = {each.op_type for each in layer.nodes}
        if kind == "Linear" and not self._weighs(node):
            return "MatMul"
        if kind in ("MatMul", "Einsum") and self._weighs(node):
            return "Linear"
        if kind == "Gather" and self._weighs(node):
            return "Embedding"
        if kind == "Conv" and self._is_depthwise(node):
            return "DepthwiseConv"
        if kind == "Mul" and "Sigmoid" in ops:
            return "Silu"
        if kind == "Mul" and "HardSigmoid" in ops:
            return "HardSwish"
        if kind == "Clip" and len(node.inputs) > 1:
            return "Relu6"
        if kind == "ReduceMean" and len(self.dims.get(node.input(0)) or ()) > 2:
            return "GlobalAveragePool" if self._reduces_space(node) else kind
        return kind

    def _reduces_space(self, node: Node) -> bool:
        """Whether a reduction leaves the batch and the channels."""
        before, after = self.dims.get(node.input(0)), self.dims.get(node.outputs[0])
        if before is None or after is None:
            return False
        left = [each for each in after if each != 1]
        return len(left) == 2 and after[0] == before[0]

    def _is_depthwise(self, node: Node) -> bool:
        groups = node.int_attribute("group", 1)
        weight = self.graph.initializers.get(node.input(1))
        return groups > 1 and weight is not None and len(weight.dims) > 1 and weight.dims[1] == 1

    def _kind_of_moves(self, layer: Layer) -> str | None:
        """What a layer is that only moves values; None where it only changes the layout."""
        before = self.dims.get(layer.nodes[0].input(0))
        after = self.dims.get(self._output(layer))
        ops = {node.op_type for node in layer.nodes}
        if not ops & {"Reshape", "Flatten"}:
            return "Transpose" if layer.owner is not None and "Transpose" in ops else None
        if before is None or after is None:
            return "Flatten" if "Flatten" in ops else "Reshape"
        if _without_ones(before) == _without_ones(after) and len(before) == len(after):
            return None
        return "Flatten" if len(after) == 2 and len(before) > 2 else "Reshape"

    def _spatial(self, layer: Layer) -> int | None:
        """Axes of the data that a layer takes, beside batch and channels."""
        node = next((each for each in layer.nodes if self._weighs(each)), layer.nodes[0])
        dims = self.dims.get(node.input(0)) or self.dims.get(self._output(layer))
        return None if dims is None else max(len(dims) - 2, 0)

    def _output(self, layer: Layer) -> str:
        """The value that a layer gives: of several, the last that is read elsewhere."""
        inside = {id(node) for node in layer.nodes}
        given = {value.name for value in self.graph.outputs}
        for node in reversed(layer.nodes):
            for name in node.outputs:
                readers = self.graph.wiring.users.get(name, ())
                if name in given or any(id(user) not in inside for user, _ in readers):
                    return name
        return layer.nodes[-1].outputs[0] if layer.nodes[-1].outputs else ""

    def _with_containers(self, rows: Sequence[tuple[Layer, Row]]) -> Iterator[tuple[Layer, Row]]:
        """Rows with those of the modules that contain others, each behind the last inside it."""
        last: dict[str, int] = {}
        kinds: dict[str, str] = {}
        for position, (layer, _) in enumerate(rows):
            for module in layer.owner.within if layer.owner is not None else ():
                last[module.path] = position
                kinds[module.path] = module.kind
        ending: dict[int, list[str]] = {}
        for path in sorted(last, key=lambda each: -each.count(".")):
            if path and not kinds[path].startswith("torch.nn.modules.container."):
                ending.setdefault(last[path], []).append(path)
        for position, (layer, row) in enumerate(rows):
            yield layer, row
            for path in ending.get(position, ()):
                name = kinds[path].rpartition(".")[2]
                yield (
                    layer,
                    Row(
                        name=path,
                        kind=name,
                        keras=name,
                        torch=name,
                        nodes=(),
                        dims=row.dims,
                        layout=row.layout,
                        container=True,
                    ),
                )

    def _as_listed(self, rows: Sequence[Row]) -> Iterator[Row]:
        """The layers of the manifest, with what the framework has of each."""
        if self.manifest is None or not self.listed:
            return
        shapes = {row.name: (row.dims, row.layout) for row in rows if row.name and not row.fused}
        elements = {each.value: each.tensor.elements for each in self.count.tensors}
        sizes: dict[str, Counter[Role]] = {}
        layers = {path: each.name for each in self.listed for path in each.weights}
        names = {each.name for each in self.listed}
        for tensor in self.manifest.tensors:
            if not tensor.synthetic:
                layer = layers.get(tensor.source) or _begun(tensor.source, names)
                own = sizes.setdefault(layer, Counter())
                own[tensor.role] += elements.get(tensor.name, 0)
        for gone in self.manifest.not_exported:
            if gone.is_weight:
                layer = layers.get(gone.source) or _begun(gone.source, names)
                own = sizes.setdefault(layer, Counter())
                own[Role.LEARNED] += gone.elements
        for each in self.listed:
            dims, layout = (each.dims, Layout.LAST) if each.dims else shapes.get(each.name, _NONE)
            own = sizes.pop(each.name, Counter())
            yield Row(
                name=each.name,
                kind=each.kind,
                keras=each.kind,
                torch=each.kind,
                nodes=(),
                dims=dims,
                layout=layout,
                learned=own[Role.LEARNED],
                statistics=own[Role.STATISTIC],
            )
        rest = sum(sizes.values(), Counter[Role]())
        if rest:
            yield _extra("(in no layer)", {role: rest[role] for role in Role})

    def _left_over(self, rows: Sequence[Row]) -> Iterator[Row]:
        """What was counted and no row holds."""
        shown = {id(part.tensor) for row in rows for part in row.parts if part.stored}
        rest = [each for each in self.placed if each.stored and id(each.tensor) not in shown]
        sizes = _sizes(rest)
        beyond = self.count.beyond
        if sizes[Role.LEARNED] or sizes[Role.STATISTIC] or sizes[Role.UNKNOWN]:
            yield _extra("(in no layer)", sizes, _parts(rest))
        if beyond.learned or beyond.statistics:
            own = {Role.LEARNED: beyond.learned, Role.STATISTIC: beyond.statistics}
            yield _extra("(not in the file)", own | {Role.UNKNOWN: 0})

    def _nodes(self) -> Iterator[NodeRow]:
        elements = self._by_node()
        for node in self.graph.nodes:
            output = next((name for name in node.outputs if name), "")
            yield NodeRow(
                name=node.name,
                op_type=node.op_type,
                domain=node.domain,
                output=output,
                dims=self.dims.get(output),
                elements=elements.get(id(node), 0),
            )

    def _by_node(self) -> dict[int, int]:
        """Stored elements by the node that reads them first, or has them as an attribute."""
        wiring = self.graph.wiring
        found: dict[int, int] = {}
        stored = {id(each.tensor): each for each in self.placed}
        for each in stored.values():
            value = "" if each.tensor.scope else each.tensor.value
            readers = wiring.users.get(value, ())
            node = wiring.producers.get(value) or (readers[0][0] if readers else None)
            node = node or (each.users[0] if each.users else None)
            if node is not None:
                found[id(node)] = found.get(id(node), 0) + each.tensor.tensor.elements
        return found


def _sizes(held: Iterable[Placed]) -> dict[Role, int]:
    """Elements by role."""
    sizes = dict.fromkeys(Role, 0)
    for each in held:
        sizes[each.role] += each.tensor.tensor.elements
    return sizes


def _parts(held: Iterable[Placed]) -> tuple[Part, ...]:
    """What is held, apart from constants."""
    return tuple(
        Part(
            tensor=each.tensor,
            role=each.role,
            op_type=each.site.node.op_type if each.site and each.site.node else "",
            position=each.site.position if each.site else -1,
            stored=each.stored,
        )
        for each in held
        if each.role is not Role.CONSTANT
    )


_NORMS = frozenset(
    "InstanceNormalization LayerNormalization GroupNormalization RMSNormalization "
    "SimplifiedLayerNormalization SkipLayerNormalization GroupNorm".split()
)
_BIASES = frozenset({"Add", "Sub"})


def _extra(what: str, sizes: Mapping[Role, int], parts: tuple[Part, ...] = ()) -> Row:
    """A row for what no layer holds."""
    return Row(
        name="",
        kind="",
        keras=what,
        torch=what,
        nodes=(),
        dims=None,
        layout=Layout.NONE,
        learned=sizes[Role.LEARNED],
        statistics=sizes[Role.STATISTIC],
        unknown=sizes[Role.UNKNOWN],
        parts=parts,
    )


_NONE: tuple[tuple[Dim, ...] | None, Layout] = (None, Layout.NONE)


def _begun(source: str, names: Container[str]) -> str:
    """The listed layer that a variable's path begins with; empty if none does."""
    parts = source.split("/")
    paths = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return next((path for path in paths if path in names), "")


def _by_weight(held: Iterable[Placed]) -> str:
    """The layer that a weight is called after, as Keras calls variables; empty if none is."""
    for each in held:
        layer, _, variable = each.tensor.value.rpartition("/")
        if variable in VARIABLES and each.role is Role.LEARNED:
            return layer
    return ""


def _framework(model: Model, manifest: Manifest | None) -> str:
    """The framework that a model is of, where the file tells; empty where it does not."""
    if manifest is not None:
        return manifest.framework
    producer = model.producer.lower()
    if producer.startswith("pytorch"):
        return "torch"
    return "keras" if producer.startswith(("tf2onnx", "keras")) else ""


def _dims_of(graph: Graph) -> dict[str, tuple[Dim, ...] | None]:
    found = {name: value.dims for name, value in graph.values.items()}
    return found | {name: tensor.dims for name, tensor in graph.initializers.items()}


def _without_ones(dims: Sequence[Dim]) -> list[Dim]:
    return [each for each in dims if each != 1]
