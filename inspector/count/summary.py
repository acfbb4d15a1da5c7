"""The layer table of a model, from its nodes and the roles of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from inspector.count.homes import Placed, placed
from inspector.count.judged import Kinds
from inspector.count.kinds import classes
from inspector.count.layers import LINEAR, Layer, layers_of, split_activation
from inspector.count.layouts import layouts
from inspector.count.listed import extra_row, listed_rows
from inspector.count.merged import VARIABLES
from inspector.count.owners import Owner, Owners, owners
from inspector.count.paths import on_path
from inspector.facts.batchnorm import Form, Norms
from inspector.facts.count import Count, Role
from inspector.facts.manifest import Manifest
from inspector.facts.model import Dim, Graph, Model
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
        self.several: dict[int, list[Placed]] = {}
        for each in self.placed:
            counted = each.role in (Role.LEARNED, Role.STATISTIC)
            if each.tensor.copy_of or (counted and len(each.users) > 1 and not each.tensor.again):
                for user in each.users:
                    self.several.setdefault(id(user), []).append(each)
        self.shown: set[int] = set()
        self.held: dict[int, list[Placed]] = {}
        for each in self.placed:
            if each.home is not None:
                self.held.setdefault(id(each.home), []).append(each)
        using = {
            id(node)
            for each in self.placed
            if each.role in (Role.LEARNED, Role.STATISTIC) or each.tensor.copy_of
            for node in (*each.users, *((each.home,) if each.home is not None else ()))
        }
        self.folded = tuple(each.channels for each in norms.folded if each.channels is not None)
        self.affine = tuple(
            each.channels
            for each in norms.batchnorms
            if each.form is Form.AFFINE and each.channels is not None
        )
        self.foldable = {
            norm.name: norm.foldable_into
            for norm in norms.batchnorms
            if norm.foldable_into and not norm.scope
        }
        computed = {norm.output for norm in norms.batchnorms if norm.nodes and not norm.scope}
        self.kinds = Kinds(model.graph, self.dims, using, computed)
        self.framework = _framework(model, manifest)
        self.source, owned = owners(self.path, self.listed, self.kinds.weighs)
        owned = self._with_named_weights(owned)
        biases = {each.value for each in count.tensors if each.role is Role.LEARNED}
        self.layers = layers_of(model.graph, self.path, owned, norms.batchnorms, biases)

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
            rows=(*table, *self._left_over()),
            nodes=tuple(self._nodes()),
            count=self.count,
            foldable=self.foldable,
            folded=self.folded,
            affine=self.affine,
            listed=self._listed(table),
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
                self.shown.update(map(id, first.nodes))
                yield first, row
            if activation is not None and (fused := self._row(activation, fused=True)) is not None:
                self.shown.update(map(id, activation.nodes))
                yield activation, fused

    def _split(self, layer: Layer) -> tuple[Layer, Layer | None]:
        """A layer and its activation, where the framework had both in one."""
        one = self.source in (Source.MANIFEST, Source.NAMES) and layer.owner is not None
        return split_activation(layer) if one and self.framework != "torch" else (layer, None)

    def _row(self, layer: Layer, *, fused: bool = False) -> Row | None:
        """One row; None for what only moves values and no framework calls a layer."""
        owner = layer.owner
        kind = self.kinds.of(layer)
        if kind is None and (owner is None or not owner.name):
            return None
        output = self.kinds.output(layer)
        keras, torch = classes(kind or "", self.kinds.spatial(layer))
        own = owner.kind.rpartition(".")[2] if owner is not None and not fused else ""
        if kind in LINEAR and "Norm" in own:
            own = ""  # what was folded into the operator, and has given it its name
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
            shares=self._shares(layer),
            parts=_parts(held),
        )

    def _shares(self, layer: Layer) -> tuple[int, ...]:
        """Elements of what a layer uses and one before it holds."""
        mine = {id(node) for node in layer.nodes}
        found = {
            id(each): each.tensor.elements
            for node in layer.nodes
            for each in self.several.get(id(node), ())
            if id(each.home) not in mine or each.tensor.copy_of
        }
        return tuple(found.values())

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

    def _listed(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """The layers that Keras itself lists, where the manifest has them."""
        if self.manifest is None or not self.manifest.layers:
            return ()
        return tuple(listed_rows(self.manifest, self.count, rows))

    def _left_over(self) -> Iterator[Row]:
        """What was counted and no row holds."""
        rest = [e for e in self.placed if e.home is None or id(e.home) not in self.shown]
        sizes = _sizes(rest)
        beyond = self.count.beyond
        if sizes[Role.LEARNED] or sizes[Role.STATISTIC] or sizes[Role.UNKNOWN]:
            yield extra_row(
                "(in no layer)",
                learned=sizes[Role.LEARNED],
                statistics=sizes[Role.STATISTIC],
                unknown=sizes[Role.UNKNOWN],
                parts=_parts(rest),
            )
        if beyond.learned or beyond.statistics:
            yield extra_row(
                "(not in the file)", learned=beyond.learned, statistics=beyond.statistics
            )

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
        sizes[each.role] += each.tensor.elements
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
