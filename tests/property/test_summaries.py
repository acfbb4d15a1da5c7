"""Tables and reconciliations of random networks: columns add up, and sides mirror each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_text import parsed

from inspector.facts.reconciliation import Amounts, Reconciliation
from inspector.facts.summary import Summary
from inspector.flows import explain_total, reconcile_files, summarise_file, summary_table
from inspector.report import render

STYLES = ("keras", "torch", "onnx")
EPSILON = 1e-3


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of a random network; data has 4 channels throughout, on 2 spatial axes."""

    kind: str
    seed: int = 0
    bias: str = "none"
    size: int = 1

    def numbers(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(self.seed + len(shape)).normal(size=shape)


LAYERS = st.builds(
    Layer,
    kind=st.sampled_from(["conv", "conv", "bn", "bn", "relu", "prelu", "silu", "scale"]),
    seed=st.integers(0, 5),
    bias=st.sampled_from(["none", "zeros", "some", "add"]),
    size=st.sampled_from([1, 1, 3]),
)
NETS = st.lists(LAYERS, max_size=6)


class Written:
    """Writes layers as a network in ONNX's text form.

    Parameters
    ----------
    fold
        Whether each BatchNorm goes into the Conv in front of it, where there is one.
    """

    def __init__(self, layers: list[Layer], *, fold: bool = False, dense: bool = True) -> None:
        self._stored: list[str] = []
        self._nodes: list[str] = []
        self._value = "x"
        at = 0
        while at < len(layers):
            layer = layers[at]
            behind = layers[at + 1] if at + 1 < len(layers) else None
            folds = fold and layer.kind == "conv" and behind is not None and behind.kind == "bn"
            if folds and behind is not None:
                self._folded(at, layer, behind)
            else:
                getattr(self, f"_{layer.kind}")(at, layer)
            at += 2 if folds else 1
        if dense:
            self._head()
        else:
            self._nodes.append(f"y = Identity ({self._value})")

    @property
    def proto(self) -> onnx.ModelProto:
        stored = f"<{', '.join(self._stored)}>" if self._stored else ""
        nodes = "\n".join(self._nodes)
        return parsed(f"agraph (float[N, 4, 8, 8] x) => (y) {stored} {{ {nodes} }}")

    def _store(self, name: str, values: np.ndarray) -> str:
        numbers = ", ".join(f"{each:.9g}" for each in values.reshape(-1))
        dims = ", ".join(map(str, values.shape))
        self._stored.append(f"float[{dims}] {name} = {{{numbers}}}")
        return name

    def _add(self, op_type: str, *inputs: str, attributes: str = "") -> None:
        fresh = f"h{len(self._nodes)}"
        given = ", ".join([self._value, *inputs])
        self._nodes.append(f"[n{fresh}] {fresh} = {op_type} {attributes} ({given})")
        self._value = fresh

    def _conv(self, at: int, layer: Layer) -> None:
        weight, bias = weights(layer)
        stored = [self._store(f"w{at}", weight)]
        apart = layer.bias == "add"
        if bias is not None and not apart:
            stored.append(self._store(f"c{at}", bias))
        self._add("Conv", *stored, attributes=padded(layer))
        if bias is not None and apart:
            self._add("Add", self._store(f"c{at}", bias.reshape(4, 1, 1)))

    def _folded(self, at: int, layer: Layer, norm: Layer) -> None:
        weight, bias = weights(layer)
        scale, shift, mean, var = statistics(norm)
        slope = scale / np.sqrt(var + EPSILON)
        bias = slope * (0 if bias is None else bias) + shift - mean * slope
        stored = self._store(f"w{at}", weight * slope[:, None, None, None])
        self._add("Conv", stored, self._store(f"c{at}", bias), attributes=padded(layer))

    def _bn(self, at: int, layer: Layer) -> None:
        names = zip("sbmv", statistics(layer), strict=True)
        stored = [self._store(f"{name}{at}", values) for name, values in names]
        self._add("BatchNormalization", *stored, attributes=f"<epsilon = {EPSILON}>")

    def _relu(self, _at: int, _layer: Layer) -> None:
        self._add("Relu")

    def _prelu(self, at: int, layer: Layer) -> None:
        self._add("PRelu", self._store(f"p{at}", layer.numbers(4, 1, 1)))

    def _silu(self, _at: int, _layer: Layer) -> None:
        data = self._value
        self._add("Sigmoid")
        self._add("Mul", data)

    def _scale(self, at: int, layer: Layer) -> None:
        self._add("Mul", self._store(f"k{at}", layer.numbers(4, 1, 1)))

    def _head(self) -> None:
        self._add("GlobalAveragePool")
        self._add("Flatten")
        weight = self._store("hw", Layer(kind="head").numbers(4, 3))
        self._nodes.append(f"y = Gemm ({self._value}, {weight})")


def padded(layer: Layer) -> str:
    return f"<pads = {[layer.size // 2] * 4}>"


def weights(layer: Layer) -> tuple[np.ndarray, np.ndarray | None]:
    weight = layer.numbers(4, 4, layer.size, layer.size)
    match layer.bias:
        case "none":
            return weight, None
        case "zeros":
            return weight, np.zeros(4)
        case _:
            return weight, layer.numbers(4)


def statistics(layer: Layer) -> tuple[np.ndarray, ...]:
    scale, shift, mean, var = layer.numbers(4, 4)
    return scale, shift, mean, np.abs(var) + 0.5


def saved(folder: str, name: str, proto: onnx.ModelProto) -> Path:
    path = Path(folder) / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def holds(found: Reconciliation) -> Reconciliation:
    """In every column, the left total and all amounts make the right total."""
    before, after = found.totals
    explained = sum((each.amounts for each in found.differences), Amounts())
    assert before + explained + found.unexplained == after
    assert all(each.amounts for each in found.differences)
    return found


def amounts(found: Reconciliation) -> Counter[Amounts]:
    return Counter(each.amounts for each in found.differences)


def both_ways(left: onnx.ModelProto, right: onnx.ModelProto) -> Reconciliation:
    with TemporaryDirectory() as folder:
        one, other = saved(folder, "left", left), saved(folder, "right", right)
        there, back = holds(reconcile_files(one, other)), holds(reconcile_files(other, one))
    assert there.totals == back.totals[::-1]
    assert there.unexplained == -back.unexplained
    assert amounts(there) == Counter(-each.amounts for each in back.differences)
    return there


@settings(max_examples=60, deadline=None)
@given(left=NETS, right=NETS, folds=st.tuples(st.booleans(), st.booleans()))
def test_any_two_networks_add_up_and_mirror(left, right, folds) -> None:
    both_ways(Written(left, fold=folds[0]).proto, Written(right, fold=folds[1]).proto)


@settings(max_examples=60, deadline=None)
@given(net=NETS, data=st.data())
def test_deleted_layers_are_explained(net, data) -> None:
    kept = [each for each in net if data.draw(st.booleans())]
    found = both_ways(Written(net).proto, Written(kept).proto)
    before, after = found.totals
    assert after.keras <= before.keras
    assert not found.unexplained, found.unexplained_where


@settings(max_examples=60, deadline=None)
@given(net=NETS)
def test_folding_is_explained(net) -> None:
    found = both_ways(Written(net).proto, Written(net, fold=True).proto)
    assert not found.unexplained, found.unexplained_where


@settings(max_examples=30, deadline=None)
@given(net=NETS)
def test_lost_biases_of_zeros_are_explained(net) -> None:
    lost = [replace(each, bias="none") if each.bias == "zeros" else each for each in net]
    found = both_ways(Written(net).proto, Written(lost).proto)
    assert not found.unexplained
    assert {each.what for each in found.differences} <= {"bias of zeros that the left alone has"}


@settings(max_examples=30, deadline=None)
@given(net=NETS, fold=st.booleans())
def test_a_network_and_itself_do_not_differ(net, fold) -> None:
    proto = Written(net, fold=fold).proto
    found = both_ways(proto, proto)
    assert found.differences == ()
    assert not found.unexplained
    assert found.unexplained_where == ()


def summed(proto: onnx.ModelProto) -> Summary:
    with TemporaryDirectory() as folder:
        return summarise_file(saved(folder, "m", proto))


@settings(max_examples=60, deadline=None)
@given(net=NETS, fold=st.booleans(), dense=st.booleans())
def test_columns_add_up(net, fold, dense) -> None:
    found = summed(Written(net, fold=fold, dense=dense).proto)
    assert sum(row.learned for row in found.rows) == found.count.torch.parameters
    assert sum(row.statistics for row in found.rows) == found.count.torch.buffers
    for style in STYLES:
        made = summary_table(found, style)
        assert sum(row[-1] for row in made.rows) == made.totals[0][1]
        assert render(made, "text")


@settings(max_examples=60, deadline=None)
@given(net=NETS)
def test_rows_are_the_layers_of_the_network(net) -> None:
    """One row a layer, with the elements that its layer has."""
    found = summed(Written(net).proto)
    sizes = [(row.learned, row.statistics) for row in found.rows]
    expected = []
    for each in net:
        bias = 4 if each.bias != "none" else 0
        expected.append(
            {
                "conv": (16 * each.size**2 + bias, 0),
                "bn": (8, 8),
                "prelu": (4, 0),
            }.get(each.kind, (0, 0))
        )
    assert sizes == [*expected, (0, 0), (0, 0), (12, 0)]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(net=NETS, fresh=st.lists(NAMES, min_size=1, max_size=30))
def test_renaming_changes_nothing_but_names(net, fresh) -> None:
    """Of a graph that carries no scopes."""
    proto = Written(net).proto
    before = summed(proto)
    given: dict[str, str] = {"": ""}

    def name(old: str) -> str:
        return given.setdefault(old, f"{fresh[len(given) % len(fresh)]}{len(given)}")

    for node in proto.graph.node:
        node.name = name(f"{node.name} (node)")
        node.input[:] = [name(each) for each in node.input]
        node.output[:] = [name(each) for each in node.output]
    for named in (*proto.graph.initializer, *proto.graph.input, *proto.graph.output):
        named.name = name(named.name)

    def nameless(found: Summary) -> list[object]:
        return [
            (row.name, row.kind, row.keras, row.torch, len(row.nodes), row.dims, row.layout,
             row.learned, row.statistics, row.unknown, row.fused, row.shared)
            for row in found.rows
        ]  # fmt: skip

    after = summed(proto)
    assert nameless(after) == nameless(before)
    assert [each.elements for each in after.nodes] == [each.elements for each in before.nodes]
    assert after.source is before.source
    for style in STYLES:
        one, other = summary_table(before, style), summary_table(after, style)
        assert one.totals == other.totals
        assert [row[-2:] for row in one.rows] == [row[-2:] for row in other.rows]


@settings(max_examples=60, deadline=None)
@given(net=NETS, total=st.integers(0, 2000) | st.integers(0, 10**12))
def test_any_total_is_terms_and_a_rest(net, total) -> None:
    with TemporaryDirectory() as folder:
        path = saved(folder, "m", Written(net).proto)
        found = explain_total(path, total)
        count = summarise_file(path).count
    assert sum(each.elements for each in found.terms) + found.unexplained == total
    for terms in found.others:
        assert sum(each.elements for each in terms) == total
        assert len(terms) >= len(found.terms)
    assert (found.counted.keras, found.counted.torch) == (count.keras.total, count.torch.parameters)
    assert not (total in (count.keras.total, count.torch.parameters) and found.unexplained)
