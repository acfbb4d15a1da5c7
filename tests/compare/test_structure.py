from __future__ import annotations

import numpy as np
import pytest

from compare import nets
from compare.nets import Net, Size, keras_like, torch_like
from compare.read import model_of, network_of
from inspector.compare.graphs.align import MOST_CELLS, align
from inspector.compare.graphs.order import in_order
from inspector.compare.graphs.parameters import Relation, as_stored, compare_stored, normal, relate
from inspector.compare.graphs.structure import Network
from inspector.facts.graphs import captured


def ops(network: Network) -> list[str]:
    return [layer.op for layer in network.layers]


class TestOrder:
    def test_nodes_come_behind_what_they_read(self) -> None:
        body = "y = Add(a, b) b = Exp(a) a = Relu(x)"
        model = model_of(f"(float[N] x) => (float[N] y) {{ {body} }}")
        assert [node.op_type for node in model.graph.nodes] == ["Relu", "Exp", "Add"]
        assert in_order(model).graph.nodes == model.graph.nodes

    def test_bodies_read_from_outside(self) -> None:
        model = model_of(
            "(bool c, float[N] x) => (float[N] y) { y = If (c) <"
            "then_branch = t () => (float[N] o) { o = Relu(a) },"
            "else_branch = e () => (float[N] p) { p = Exp(x) }> a = Tanh(x) }"
        )
        assert [node.op_type for node in model.graph.nodes] == ["Tanh", "If"]
        assert captured(model.graph.nodes[1]) == ["a", "x"]

    def test_a_circle_ends(self) -> None:
        model = model_of("(float[N] x) => (float[N] y) { a = Add(x, b) b = Relu(a) y = Exp(b) }")
        assert len(model.graph.nodes) == 3
        network_of("(float[N] x) => (float[N] y) { a = Add(x, b) b = Relu(a) y = Exp(b) }")
        network_of("(float[N] x) => (float[N] y) { a = Identity(b) b = Identity(a) y = Exp(b) }")


class TestLayers:
    def test_both_exports_are_one_list(self) -> None:
        wanted = ["Conv", "Clip", "BatchNormalization", "Dense", "Clip", "Dense", "Softmax"]
        assert ops(network_of(keras_like())) == wanted
        assert ops(network_of(torch_like())) == wanted

    def test_roles(self) -> None:
        for make in (keras_like, torch_like):
            layers = network_of(make()).layers
            assert [s.role for s in layers[0].stored] == ["kernel", "bias"]
            assert [s.role for s in layers[2].stored] == ["scale", "B", "mean", "var"]
            assert [s.role for s in layers[3].stored] == ["kernel", "bias"]

    def test_same_padding_is_written_out(self) -> None:
        keras, torch = (network_of(make()).layers[0] for make in (keras_like, torch_like))
        assert keras.attributes == torch.attributes
        assert keras.attributes["pads"] == "[1, 1, 1, 1]"

    def test_an_add_that_is_no_bias_stays(self) -> None:
        shown = network_of(
            "(float[N, 2] x) => (float[N, 2] m, float[N, 2] y)"
            "<float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}> { m = MatMul(x, w) y = Add(m, b) }"
        )
        assert ops(shown) == ["Dense", "Add"]
        scalar = network_of(
            "(float[N, 2] x) => (float[N, 2] y)"
            "<float[2, 2] w = {1, 2, 3, 4}, float b = {1}> { m = MatMul(x, w) y = Add(m, b) }"
        )
        assert ops(scalar) == ["Dense", "Add"]

    def test_axes_are_counted_channels_first(self) -> None:
        kernel = "<float[3, 3, 1, 1] w = {1, 0, 0, 0, 1, 0, 0, 0, 1}>"
        last = network_of(
            f"(float[N, 4, 4, 3] x) => (y) {kernel} {{ a = Transpose <perm=[0, 3, 1, 2]> (x)"
            " b = Conv(a, w) c = Transpose <perm=[0, 2, 3, 1]> (b)"
            " y = Softmax <axis: int = -1> (c) }"
        )
        first = network_of(
            f"(float[N, 3, 4, 4] x) => (y) {kernel} {{ b = Conv(x, w)"
            " y = Softmax <axis: int = 1> (b) }"
        )
        assert last.layers[-1].attributes == first.layers[-1].attributes == {"axis": "[1]"}

    def test_an_unread_first_output_does_not_hide_a_node(self) -> None:
        made = network_of(
            "(float[8, 2] x) => (y) { a = Relu(x) u, b = Split <axis: int = 0> (a)"
            " v, c = Split <axis: int = 0> (b) y = Exp(c) }"
        )
        assert ops(made) == ["Clip", "Split", "Split", "Exp"]

    def test_tensors_of_attributes_are_told_apart(self) -> None:
        texts = [
            f"(int64[2] s) => (y) {{ y = ConstantOfShape <value = float[1] {{{v}}}> (s) }}"
            for v in (1, 2)
        ]
        one, two = (network_of(text).layers[0].attributes["value"] for text in texts)
        assert one != two


class TestAlignment:
    def aligned(self, left: Network, right: Network) -> list[tuple[str, str]]:
        return [(a.op, b.op) for a, b in align(left, right).pairs]

    def test_one_missing_operator_leaves_one_gap(self) -> None:
        for change, op in (
            ({"relu": False}, "Clip"),
            ({"batchnorm": False}, "BatchNormalization"),
            ({"softmax": False}, "Softmax"),
        ):
            found = align(network_of(keras_like()), network_of(torch_like(Net(**change))))
            assert [each.op for each in found.left_only] == [op]
            assert found.right_only == ()

    def test_a_twin_with_the_same_values_is_preferred(self) -> None:
        left, right = nets.deep(seed=0, layers=4), nets.deep(seed=0, layers=4)
        norms = [n for n in right.graph.node if n.op_type == "BatchNormalization"]
        norms[1].op_type = "Relu"
        del norms[1].input[1:], norms[1].attribute[:]
        found = align(network_of(left), network_of(right))
        names = [
            (a.stored[0].tensor.name, b.stored[0].tensor.name)
            for a, b in found.pairs
            if a.op == "BatchNormalization"
        ]
        assert names == [(f"scale{at}",) * 2 for at in (0, 2, 3)]

    def test_cutting_the_table_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        for _ in range(10):
            texts = []
            for _ in range(2):
                kinds = rng.choice(["Relu", "Tanh", "Exp", "Neg"], 30)
                body = " ".join(f"v{at + 1} = {op}(v{at})" for at, op in enumerate(kinds))
                texts.append(f"(float[N] v0) => (float[N] v30) {{ {body} }}")
            left, right = map(network_of, texts)
            monkeypatch.setattr("inspector.compare.graphs.align.MOST_CELLS", MOST_CELLS)
            whole = len(align(left, right).pairs)
            monkeypatch.setattr("inspector.compare.graphs.align.MOST_CELLS", 40)
            assert len(align(left, right).pairs) == whole


class TestParameters:
    def test_dense_kernels_have_one_form(self) -> None:
        size = Size(height=2, width=3, channels=2, filters=4, hidden=5)
        net = Net(weights=nets.weights(size), size=size)
        networks = [network_of(make(net)) for make in (keras_like, torch_like)]
        kernels = [each.layers[3].stored[0] for each in networks]
        values = [
            normal(kernel, each.model.weights)
            for kernel, each in zip(kernels, networks, strict=True)
        ]
        np.testing.assert_array_equal(values[0], values[1])
        np.testing.assert_array_equal(values[0], net.weights["dense"].T)
        for kernel, each in zip(kernels, networks, strict=True):
            stored = each.model.weights.load(kernel.tensor)
            np.testing.assert_array_equal(as_stored(values[0], kernel), stored)

    def test_pairs_of_roles(self) -> None:
        left, right = network_of(keras_like()), network_of(torch_like())
        for a, b in align(left, right).pairs:
            pairs = compare_stored(a, b, left.model.weights, right.model.weights)
            assert {each.relation for each in pairs} <= {Relation.BITWISE}

    @pytest.mark.parametrize(
        ("left", "right", "relation"),
        [
            ([1.0, 2.0], [1.0, 2.0], Relation.BITWISE),
            ([0.0], [-0.0], Relation.ROUNDED),
            ([1.0, 2.0], [1.0, np.nextafter(np.float32(2), np.float32(3))], Relation.ROUNDED),
            ([1.0, 2.0], [2.0, 1.0], Relation.REORDERED),
            ([1.0, 2.0], [1.0, 2.1], Relation.DIFFERENT),
            ([1.0, 2.0], [1.0, 2.0, 3.0], Relation.SHAPES),
            ([1.0, 2.0], [[[1.0]], [[2.0]]], Relation.BITWISE),
            ([1.0, np.nan], [1.0, np.nan], Relation.BITWISE),
            ([1.0, np.nan], [1.0, 2.0], Relation.DIFFERENT),
            ([1.0], [2.0], Relation.DIFFERENT),
            ([], [], Relation.BITWISE),
        ],
    )
    def test_relations(self, left: list[float], right: list[float], relation: Relation) -> None:
        a, b = np.array(left, np.float32), np.array(right, np.float32)
        assert relate(a, b)[0] is relation
        assert relate(b, a)[0] is relation

    def test_the_coarser_type_rounds(self) -> None:
        values = np.array([0.1, 1000.3], np.float32)
        assert relate(values, values.astype(np.float16))[0] is Relation.ROUNDED
        assert relate(values, (values * 1.01).astype(np.float16))[0] is Relation.DIFFERENT
        assert relate(np.array([1, 2]), np.array([1, 3]))[0] is Relation.DIFFERENT
