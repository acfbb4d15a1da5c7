"""Whole comparisons of the question's small network with each harm and each harmless rewrite.

Whether two networks differ is known from `nets.truth`, which computes them with numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compare import nets
from compare.conftest import Compare
from compare.nets import Net, Size, keras_like, torch_like
from inspector.facts.comparison import CauseKind, Comparison, Proof, Verdict

SIZES = {
    "one channel": Size(),
    "three channels": Size(channels=3),
    "all lengths equal": Size(channels=8, filters=8),
    "not square": Size(height=5, width=9, channels=3, filters=7),
    "one pixel wide": Size(height=9, width=1),
}
PASSES = (Verdict.IDENTICAL, Verdict.EQUIVALENT)


def net_of(size: Size, seed: int = 0, variance: tuple[float, float] = nets.ORDINARY) -> Net:
    return Net(weights=nets.weights(size, seed=seed, variance=variance), size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """A change that makes another function, and the cause that has to be named for it."""

    change: Callable[[Net], Net]
    kind: CauseKind
    what: str
    left: str = ""
    right: str = ""


HARMS = {
    "epsilon": Harm(
        change=lambda n: n.but(epsilon=1e-5),
        kind=CauseKind.EPSILON,
        what="epsilon",
        left="0.001",
        right="1e-05",
    ),
    "no first relu": Harm(
        change=lambda n: n.but(relu=False), kind=CauseKind.MISSING, what="Relu", right="missing"
    ),
    "no inner relu": Harm(
        change=lambda n: n.but(inner_relu=False),
        kind=CauseKind.MISSING,
        what="Relu",
        right="missing",
    ),
    "no batchnorm": Harm(
        change=lambda n: n.but(batchnorm=False),
        kind=CauseKind.MISSING,
        what="BatchNormalization",
        right="missing",
    ),
    "no softmax": Harm(
        change=lambda n: n.but(softmax=False),
        kind=CauseKind.MISSING,
        what="Softmax",
        right="missing",
    ),
    "softmax twice": Harm(
        change=lambda n: n.but(twice_softmax=True),
        kind=CauseKind.MISSING,
        what="Softmax",
        left="missing",
    ),
    "permutation left out": Harm(
        change=lambda n: n.but(permute=False), kind=CauseKind.LAYOUT, what="kernel"
    ),
    "training mode": Harm(
        change=lambda n: n.but(training=True), kind=CauseKind.MODE, what="training mode:"
    ),
    "input scaled on one side": Harm(
        change=lambda n: n.but(input_scale=1 / 255),
        kind=CauseKind.PREPROCESSING,
        what="Mul",
        left="missing",
    ),
    **{
        f"one element of {name}": Harm(
            change=lambda n, name=name: n.nudged(name, 0.05), kind=CauseKind.PARAMETER, what=what
        )
        for name, what in (
            ("kernel", "kernel"),
            ("conv_bias", "bias"),
            ("scale", "scale"),
            ("B", "B"),
            ("mean", "mean"),
            ("var", "var"),
            ("dense_bias", "bias"),
            ("last_bias", "bias"),
        )
    },
    "mean and B swapped": Harm(
        change=lambda n: n.with_weight("mean", n.weights["B"]),
        kind=CauseKind.PARAMETER,
        what="mean",
    ),
    "channels of scale rotated": Harm(
        change=lambda n: n.with_weight("scale", np.roll(n.weights["scale"], 1)),
        kind=CauseKind.PERMUTATION,
        what="scale",
    ),
    "kernel mirrored": Harm(
        change=lambda n: n.with_weight("kernel", n.weights["kernel"][..., ::-1].copy()),
        kind=CauseKind.PERMUTATION,
        what="kernel",
    ),
}


def truly_differ(left: Net, right: Net) -> bool:
    """Whether float64 arithmetic says that two networks are not one function."""
    rng = np.random.default_rng(5)
    shape = (64, left.size.channels, left.size.height, left.size.width)
    images = rng.standard_normal(shape)
    a, b = (nets.truth(each, images) for each in (left, right))
    return bool(np.abs(a - b).max() > 1e-5 * np.abs(a).max())


def causes(found: Comparison) -> list[tuple[CauseKind, str]]:
    return [(each.kind, each.what) for each in found.causes]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_oracle_and_makers_agree(size: Size) -> None:
    import onnxruntime

    net = net_of(size)
    images = np.random.default_rng(1).standard_normal((3, size.channels, size.height, size.width))
    for model, fed in (
        (torch_like(net), images),
        (keras_like(net), images.transpose(0, 2, 3, 1)),
    ):
        session = onnxruntime.InferenceSession(model.SerializeToString())
        name = session.get_inputs()[0].name
        (given,) = session.run(None, {name: np.ascontiguousarray(fed, np.float32)})
        np.testing.assert_allclose(given, nets.truth(net, images), atol=2e-6)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_two_exports_of_one_network_are_equivalent(compare: Compare, size: Size) -> None:
    net = net_of(size)
    for pair in ((keras_like(net), torch_like(net)), (torch_like(net), keras_like(net))):
        found = compare(*pair)
        assert found.verdict is Verdict.EQUIVALENT, found.reason
        assert found.causes == found.harmless == ()
        assert found.parameters is not None
        assert found.parameters.bitwise == 10
        assert found.parameters.accounted_for
        assert [each.bitwise for each in found.norms] == [("scale", "B", "mean", "var")]


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize("size", ["one channel", "all lengths equal"])
def test_a_harm_is_different_and_its_cause_is_named(
    compare: Compare, harm: Harm, size: str
) -> None:
    net = net_of(SIZES[size], seed=4)
    wrong = harm.change(net)
    if harm.what != "kernel":
        assert truly_differ(net, wrong)
    found = compare(keras_like(net), torch_like(wrong))
    assert found.verdict is Verdict.DIFFERENT, found.reason
    assert causes(found) == [(harm.kind, harm.what)]
    (cause,) = found.causes
    assert cause.proof is Proof.NECESSARY
    assert cause.effect is not None
    assert cause.effect > 0
    assert (harm.left or cause.left, harm.right or cause.right) == (cause.left, cause.right)
    assert found.explained
    assert found.harmless == ()


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_swapping_sides_mirrors_the_result(compare: Compare, harm: Harm) -> None:
    net = net_of(SIZES["one channel"], seed=4)
    left, right = keras_like(net), torch_like(harm.change(net))
    there, back = compare(left, right), compare(right, left)
    assert there.verdict is back.verdict
    mirrored = [(c.kind, c.what, c.right_where, c.left_where) for c in back.causes]
    assert [(c.kind, c.what, c.left_where, c.right_where) for c in there.causes] == mirrored
    assert there.parameters is not None
    assert back.parameters is not None
    assert there.parameters.left_only == back.parameters.right_only


@pytest.mark.parametrize("variance", [nets.ORDINARY, nets.REAL, nets.TINY])
@pytest.mark.parametrize("seed", range(3))
def test_epsilon_alone_is_told_from_rounding(
    compare: Compare, variance: tuple[float, float], seed: int
) -> None:
    net = net_of(SIZES["three channels"], seed=seed, variance=variance)
    assert compare(keras_like(net), torch_like(net)).verdict is Verdict.EQUIVALENT
    wrong = compare(keras_like(net), torch_like(net.but(epsilon=1e-5)))
    assert wrong.verdict is Verdict.DIFFERENT
    assert causes(wrong) == [(CauseKind.EPSILON, "epsilon")]


def test_the_pair_as_asked_names_exactly_what_is_missing(compare: Compare) -> None:
    net = net_of(SIZES["one channel"], seed=4)
    asked = net.but(epsilon=1e-5, momentum=0.9, inner_relu=False, softmax=False)
    found = compare(keras_like(net), torch_like(asked))
    assert found.verdict is Verdict.DIFFERENT
    assert causes(found) == [
        (CauseKind.EPSILON, "epsilon"),
        (CauseKind.MISSING, "Relu"),
        (CauseKind.MISSING, "Softmax"),
    ]
    assert all(each.proof is Proof.NECESSARY for each in found.causes)
    assert len(found.information) == 1
    assert found.information[0].startswith("momentum 0.15 against 0.9")


def test_a_change_without_effect_is_listed_and_no_cause(compare: Compare) -> None:
    net = net_of(SIZES["one channel"], seed=4)
    # The unit never fires: what feeds it does not matter, nor what reads it.
    dead = net.with_weight("dense_bias", net.weights["dense_bias"] - [99, 0, 0, 0, 0, 0])
    wrong = dead.nudged("last", 1.0, (0, 0))
    assert not truly_differ(dead, wrong)
    found = compare(keras_like(dead), torch_like(wrong))
    assert found.verdict is Verdict.AGREES
    assert [(each.kind, each.what) for each in found.harmless] == [(CauseKind.PARAMETER, "kernel")]
    assert found.harmless[0].right == "values up to 1 away on the right"
    with_harm = compare(keras_like(dead), torch_like(wrong.but(epsilon=1e-5)))
    assert with_harm.verdict is Verdict.DIFFERENT
    assert causes(with_harm) == [(CauseKind.EPSILON, "epsilon")]
    assert [each.proof for each in with_harm.harmless] == [Proof.HARMLESS]


def test_momentum_alone_never_matters(compare: Compare) -> None:
    net = net_of(SIZES["one channel"])
    same = compare(torch_like(net), torch_like(net.but(momentum=0.9)))
    assert same.verdict is Verdict.IDENTICAL
    assert len(same.information) == 1
    assert compare(keras_like(net), torch_like(net.but(momentum=0.9))).verdict is Verdict.EQUIVALENT


def test_retrained_networks_are_different_with_every_tensor_listed(compare: Compare) -> None:
    left, right = net_of(Size(), seed=1), net_of(Size(), seed=2)
    found = compare(keras_like(left), torch_like(right))
    assert found.verdict is Verdict.DIFFERENT
    assert len(found.causes) + len(found.harmless) == 10
    assert found.explained


@pytest.mark.parametrize(("left", "right"), [(1, "N"), (5, "N"), (1, 5), (6, 4), (3, 3)])
def test_fixed_batches_are_reconciled(compare: Compare, left: int, right: int | str) -> None:
    net = net_of(SIZES["three channels"])
    for size, other in ((left, right), (right, left)):
        matched = compare(keras_like(net.but(batch=size)), torch_like(net.but(batch=other)))
        assert matched.verdict is Verdict.EQUIVALENT, matched.reason
        wrong = net.but(batch=other, epsilon=1e-5)
        found = compare(keras_like(net.but(batch=size)), torch_like(wrong))
        assert found.verdict is Verdict.DIFFERENT
        assert causes(found) == [(CauseKind.EPSILON, "epsilon")]


def test_batches_too_far_apart_are_undecided(compare: Compare) -> None:
    net = net_of(Size())
    found = compare(torch_like(net.but(batch=31)), torch_like(net.but(batch=37)))
    assert found.verdict is Verdict.UNDECIDED
    assert "31 long on the left" in found.reason


def test_half_precision_agrees_and_says_that_values_are_rounded(compare: Compare) -> None:
    net = net_of(Size(), seed=3)
    found = compare(torch_like(net), torch_like(net.but(dtype=TensorProto.FLOAT16)))
    assert found.verdict is Verdict.AGREES
    assert {each.kind for each in found.harmless} == {CauseKind.PRECISION}
    assert ("as they are", "rounded") in [(each.left, each.right) for each in found.harmless]
    assert found.parameters is not None
    assert found.parameters.rounded == 10
    wrong = net.but(dtype=TensorProto.FLOAT16, inner_relu=False)
    assert compare(torch_like(net), torch_like(wrong)).verdict is Verdict.DIFFERENT


def test_double_precision_is_read_and_compared(compare: Compare) -> None:
    net = net_of(Size(), seed=3)
    double = torch_like(net.but(dtype=TensorProto.DOUBLE))
    found = compare(torch_like(net), double)
    # ONNX Runtime has no float64 convolution: if it does not run, it is said and no error.
    assert found.verdict in (Verdict.AGREES, Verdict.UNDECIDED)


@pytest.mark.parametrize("name", ["kernel", "scale", "var", "dense_bias", "last"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_never_passes(compare: Compare, name: str, value: float) -> None:
    net = net_of(Size(), seed=4)
    values = net.weights[name].copy()
    values.flat[0] = value
    bad = net.with_weight(name, values)
    if np.isinf(value) and name == "var":
        one_sided = compare(keras_like(net), torch_like(bad))
        assert one_sided.verdict is Verdict.DIFFERENT  # a channel of zeros, and no NaN
        return
    assert compare(keras_like(net), torch_like(bad)).verdict is Verdict.DIFFERENT
    assert compare(torch_like(bad), torch_like(net)).verdict is Verdict.DIFFERENT
    both = compare(keras_like(bad), torch_like(bad))
    assert both.verdict is Verdict.UNDECIDED
    assert "NaN or infinity on both sides" in both.reason
    assert compare(torch_like(bad), torch_like(bad)).verdict is Verdict.UNDECIDED


def test_a_folded_batchnorm_is_accounted_for(compare: Compare) -> None:
    left, right = nets.deep(seed=3, layers=2), nets.deep(seed=3, layers=2, folded=True)
    for found in (compare(left, right), compare(right, left)):
        assert found.verdict is Verdict.EQUIVALENT
        assert not found.harmless
        assert sum("come to the same" in each for each in found.information) == 2
        assert found.parameters is not None
        # A kernel and a bias each on both sides, and the four of each BatchNorm on one.
        assert found.parameters.folded == 2 * (2 + 4)


def test_unrelated_models_are_never_the_same(compare: Compare) -> None:
    others = [
        torch_like(net_of(Size(), seed=1)),
        torch_like(net_of(SIZES["three channels"])),
        nets.deep(seed=1, layers=3),
        keras_like(net_of(Size(classes=5), seed=1)),
    ]
    for at, left in enumerate(others):
        for right in others[at + 1 :]:
            found = compare(left, right)
            assert found.verdict in (Verdict.DIFFERENT, Verdict.UNDECIDED)
            assert found.reason


def test_an_output_of_another_shape_is_different_and_lists_what_the_graphs_show(
    compare: Compare,
) -> None:
    net = net_of(Size())
    short = net_of(Size(classes=2))
    found = compare(torch_like(net), torch_like(short))
    assert found.verdict is Verdict.DIFFERENT
    assert "has shape [1, 3] on the left" in found.reason
    assert {each.what for each in found.causes} >= {"kernel", "bias"}


def rewritten(model: onnx.ModelProto, how: str) -> onnx.ModelProto:
    """The same function, written in another way."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    if how == "renamed":
        names = {name for node in graph.node for name in (*node.input, *node.output)}
        new = {name: f"v{at}" for at, name in enumerate(sorted(names))}
        for node in graph.node:
            node.name = ""
            node.input[:] = [new[name] for name in node.input]
            node.output[:] = [new[name] for name in node.output]
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = new[value.name]
    elif how == "float_data":
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor)
                tensor.ClearField("raw_data")
                tensor.float_data.extend(values.ravel().tolist())
    elif how == "constants":
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
        nodes += list(graph.node)
        del graph.initializer[:], graph.node[:]
        graph.node.extend(nodes)
    elif how == "overridable":
        for tensor in graph.initializer:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    elif how == "out of order":
        nodes = list(graph.node)[::-1]
        del graph.node[:]
        graph.node.extend(nodes)
    elif how == "identities":
        for node in graph.node:
            if node.op_type == "BatchNormalization":
                node.input[1:] = [f"{name}_again" for name in node.input[1:]]
        again = [
            helper.make_node("Identity", [name], [f"{name}_again"])
            for name in ("scale", "B", "mean", "var")
        ]
        nodes = again + list(graph.node)
        del graph.node[:]
        graph.node.extend(nodes)
    elif how == "dead code":
        graph.node.append(helper.make_node("Exp", [graph.input[0].name], ["unused"]))
        graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "lost"))
    elif how == "other producer":
        made.producer_name, graph.name, made.ir_version = "someone else", "other", 9
    return made


REWRITES = (
    "renamed",
    "float_data",
    "constants",
    "overridable",
    "out of order",
    "identities",
    "dead code",
    "other producer",
)


@pytest.mark.parametrize("how", REWRITES)
def test_a_rewrite_changes_nothing(compare: Compare, how: str) -> None:
    net = net_of(Size(), seed=4)
    for make in (torch_like, keras_like):
        model = make(net)
        again = rewritten(model, how)
        found = compare(model, again)
        # What can be fed over is the same for its default alone.
        same = Verdict.EQUIVALENT if how == "overridable" else Verdict.IDENTICAL
        assert found.verdict is same, found.reason
        assert compare(again, again).verdict is Verdict.IDENTICAL
    across = compare(keras_like(net), rewritten(torch_like(net), how))
    assert across.verdict is Verdict.EQUIVALENT
    wrong = compare(keras_like(net), rewritten(torch_like(net.but(epsilon=1e-5)), how))
    assert causes(wrong) == [(CauseKind.EPSILON, "epsilon")]
    assert wrong.causes[0].proof is Proof.NECESSARY


def test_a_kernel_behind_a_transpose_is_the_same_kernel(compare: Compare) -> None:
    net = net_of(Size(), seed=4)
    model = keras_like(net)
    graph = model.graph
    kernels = {t.name: t for t in graph.initializer if t.name in ("dense", "last")}
    for name, tensor in kernels.items():
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), name))
    turns = [helper.make_node("Transpose", [n], [f"{n}_t"], perm=[1, 0]) for n in kernels]
    for node in graph.node:
        node.input[:] = [f"{n}_t" if n in kernels else n for n in node.input]
    nodes = turns + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    assert compare(model, torch_like(net)).verdict is Verdict.EQUIVALENT
    assert compare(torch_like(net), model).verdict is Verdict.EQUIVALENT
    wrong = compare(torch_like(net.nudged("dense", 0.3, (4, 7))), model)
    assert causes(wrong) == [(CauseKind.PARAMETER, "kernel")]
    assert wrong.causes[0].proof is Proof.NECESSARY


def test_operands_of_a_sum_may_be_swapped(compare: Compare) -> None:
    net = net_of(Size(), seed=4)
    model = keras_like(net.but(input_scale=0.5))
    for node in model.graph.node:
        if node.op_type in ("Add", "Mul"):
            node.input[:] = list(node.input)[::-1]
    assert compare(model, torch_like(net.but(input_scale=0.5))).verdict is Verdict.EQUIVALENT
