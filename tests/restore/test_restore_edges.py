"""What exporters write only at times, and what must not be restored: hand-made graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from restored_files import (
    Truth,
    assert_same_interface,
    assert_same_outputs,
    assert_truths,
    norms_of,
)

from inspector.errors import UsageError
from inspector.facts.restored import Restored
from inspector.facts.traced import Fate
from inspector.restore import restore

C = 3
RNG = np.random.default_rng(17)
PARTS = ("scale", "B", "mean", "var")


def truth(channels: int = C, seed: int = 1) -> Truth:
    rng = np.random.default_rng(seed)
    drawn = rng.normal(0.0, 0.5, (3, channels)).astype(np.float32)
    var = rng.uniform(0.4, 2.0, channels).astype(np.float32)
    return Truth(four=(drawn[0] + 1, drawn[1], drawn[2], var), epsilon=1e-3, momentum=0.85)


def slope(each: Truth) -> Any:
    return (each.four[0] / np.sqrt(each.four[3].astype(float) + each.epsilon)).astype(np.float32)


def intercept(each: Truth) -> Any:
    a = each.four[0].astype(float) / np.sqrt(each.four[3].astype(float) + each.epsilon)
    return (each.four[1] - each.four[2] * a).astype(np.float32)


def folded(each: Truth, weights: Any) -> Any:
    """Weights [C, …] with a BatchNorm in them."""
    return weights * slope(each).reshape(-1, *(1,) * (weights.ndim - 1))


def values(name: str, shape: Sequence[Any], dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[Any],
    stored: Mapping[str, Any],
    *,
    x: Sequence[Any],
    outputs: Mapping[str, Sequence[Any] | None],
    opset: int = 17,
    ir: int = 8,
    more_inputs: Sequence[Any] = (),
) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(each), name) for name, each in stored.items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        [values("x", x), *more_inputs],
        [values(name, shape) for name, shape in outputs.items()],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def norm(name: str, entered: str, output: str, each: Truth) -> tuple[Any, dict[str, Any]]:
    """A BatchNormalization node as the framework's own export has it."""
    stored = {f"{name}.{part}": array for part, array in zip(PARTS, each.four, strict=True)}
    node = helper.make_node(
        "BatchNormalization",
        [entered, *stored],
        [output],
        name=name,
        epsilon=each.epsilon,
        momentum=each.momentum,
    )
    return node, stored


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(op_type, inputs.split(), [output], name=f"n_{output}", **attributes)


def restored(kept: Any, stock: Any, folder: Path, *, same: bool = True) -> Restored:
    paths = [folder / f"{each}.onnx" for each in ("stock", "kept", "restored")]
    for path, each in zip(paths, (stock, kept), strict=False):
        onnx.save(each, str(path))
    found = restore(*paths)
    if found.path:
        assert_same_interface(paths[0], paths[2])
        if same:
            assert_same_outputs(paths[0], paths[2])
    else:
        assert not paths[2].exists()
    return found


def alone(entered_shape: Sequence[Any], each: Truth) -> Any:
    """The reference of one BatchNorm on channels-first data."""
    bn, stored = norm("bn", "x", "y", each)
    return model([bn], stored, x=entered_shape, outputs={"y": entered_shape})


LAST = ["N", 5, 6, C]
FIRST = ["N", C, 5, 6]


def kinds(folder: Path) -> list[str]:
    return [each.op_type for each in onnx.load(str(folder / "restored.onnx")).graph.node]


def test_channels_on_the_last_axis_get_transposes(tmp_path: Path) -> None:
    each = truth()
    stored = {"a": slope(each), "c": intercept(each)}
    nodes = [node("Mul", "x a", "h"), node("Add", "h c", "bn_y")]
    stock = model(nodes, stored, x=LAST, outputs={"bn_y": LAST})
    found = restored(alone(FIRST, each), stock, tmp_path)
    assert found.complete
    assert kinds(tmp_path) == ["Transpose", "BatchNormalization", "Transpose"]
    assert_truths(tmp_path / "restored.onnx", {"bn": each})


def test_transposes_that_stand_there_already_are_used(tmp_path: Path) -> None:
    each = truth()
    stored = {"a": slope(each), "c": intercept(each)}
    nodes = [
        node("Relu", "x", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 3, 1]),
        node("Mul", "a t", "h"),
        node("Add", "h c", "u"),
        node("Transpose", "u", "y", perm=[0, 3, 1, 2]),
    ]
    stock = model(nodes, stored, x=FIRST, outputs={"y": FIRST})
    assert restored(alone(FIRST, each), stock, tmp_path).complete
    assert kinds(tmp_path) == ["Relu", "BatchNormalization"]
    assert_truths(tmp_path / "restored.onnx", {"bn": each})


def test_a_transpose_that_others_read_stays(tmp_path: Path) -> None:
    each = truth()
    stored = {"a": slope(each), "c": intercept(each)}
    nodes = [
        node("Relu", "x", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 3, 1]),
        node("Mul", "a t", "h"),
        node("Add", "h c", "u"),
        node("Transpose", "u", "y", perm=[0, 3, 1, 2]),
    ]
    stock = model(nodes, stored, x=FIRST, outputs={"y": FIRST, "u": LAST, "t": LAST})
    assert restored(alone(FIRST, each), stock, tmp_path).complete
    assert sorted(kinds(tmp_path)) == ["BatchNormalization", "Relu", *["Transpose"] * 3]


@pytest.mark.parametrize("rank", [2, 3, 6])
def test_any_rank(rank: int, tmp_path: Path) -> None:
    each, dims = truth(), ["N", *range(2, rank), C]
    stored = {"m": each.four[2], "a": 1 / slope(each), "c": each.four[1]}
    nodes = [node("Sub", "x m", "d"), node("Div", "d a", "h"), node("Add", "h c", "bn_y")]
    stock = model(nodes, stored, x=dims, outputs={"bn_y": dims})
    assert restored(alone(["N", C, *dims[1:-1]], each), stock, tmp_path).complete
    assert_truths(tmp_path / "restored.onnx", {"bn": each})
    assert ("Transpose" in kinds(tmp_path)) == (rank > 2)


def test_arithmetic_with_all_four_parameters(tmp_path: Path) -> None:
    each = truth()
    shaped = {part: array.reshape(C, 1, 1) for part, array in zip(PARTS, each.four, strict=True)}
    nodes = [
        node("Add", "var e", "v"),
        node("Sqrt", "v", "s"),
        node("Sub", "x mean", "d"),
        node("Div", "d s", "h"),
        node("Mul", "h scale", "k"),
        node("Add", "k B", "y"),
    ]
    stored = {**shaped, "e": np.float32(each.epsilon)}
    found = restored(
        alone(FIRST, each), model(nodes, stored, x=FIRST, outputs={"y": FIRST}), tmp_path
    )
    assert found.complete
    assert kinds(tmp_path) == ["BatchNormalization"]
    assert_truths(tmp_path / "restored.onnx", {"bn": each})


def dense(each: Truth, weights: Any, bias: Any, x: Sequence[Any]) -> Any:
    """The reference: MatMul, Add, BatchNorm; the bias may be None."""
    bn, stored = norm("bn", "h" if bias is not None else "p", "y", each)
    nodes = [node("MatMul", "x kernel", "p")]
    stored["kernel"] = weights
    if bias is not None:
        nodes.append(node("Add", "p bias", "h"))
        stored["bias"] = bias
    return model([*nodes, bn], stored, x=x, outputs={"y": ["N", C]})


WEIGHTS = RNG.normal(size=(4, C)).astype(np.float32)
BIAS = RNG.normal(size=C).astype(np.float32)


@pytest.mark.parametrize("bias", [BIAS, None], ids=["bias", "bare"])
@pytest.mark.parametrize("form", ["Gemm", "transB", "MatMul", "rank 3"])
def test_dense_layers(form: str, bias: Any, tmp_path: Path) -> None:
    each = truth()
    weights = folded(each, WEIGHTS.T).T
    shift = slope(each) * (0 if bias is None else bias) + intercept(each)
    stored = {"w": weights.T if form == "transB" else weights, "b": shift}
    x = ["N", 2, 4] if form == "rank 3" else ["N", 4]
    nodes = [node("Gemm", "x w b", "y", transB=int(form == "transB"))]
    if form in ("MatMul", "rank 3"):
        nodes = [node("MatMul", "x w", "p"), node("Add", "b p", "y")]
    stock = model(nodes, stored, x=x, outputs={"y": [*x[:-1], C]})
    found = restored(dense(each, WEIGHTS, bias, ["N", 4]), stock, tmp_path)
    assert [one.was for one in found.outcomes] == [Fate.FOLDED]
    assert found.complete
    path = tmp_path / "restored.onnx"
    assert_truths(path, {"bn": each})
    arrays = {
        one.name: numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer
    }
    wanted = WEIGHTS.T if form == "transB" else WEIGHTS
    assert arrays["kernel"].tobytes() == np.ascontiguousarray(wanted).tobytes()
    assert ("bias" in arrays) == (bias is not None)
    if bias is not None:
        assert arrays["bias"].tobytes() == bias.tobytes()


KERNEL = RNG.normal(size=(C, 2, 3, 3)).astype(np.float32)
IMAGE = ["N", 2, 7, 8]


def conv(names: Sequence[str], truths: Sequence[Truth], bias: Any = None) -> Any:
    """The reference: Conv and BatchNorms behind it."""
    stored = {"conv.weight": KERNEL} | ({} if bias is None else {"conv.bias": bias})
    nodes = [node("Conv", " ".join(["x", *stored]), "r")]
    entered = "r"
    for name, each in zip(names, truths, strict=True):
        bn, more = norm(name, entered, f"{name}_y", each)
        nodes.append(bn)
        stored |= more
        entered = f"{name}_y"
    return model(nodes, stored, x=IMAGE, outputs={entered: ["N", C, 5, 6]})


def convs(folder: Path) -> list[tuple[Any, ...]]:
    graph = onnx.load(str(folder / "restored.onnx")).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    return [
        tuple(arrays[name] for name in each.input[1:])
        for each in graph.node
        if each.op_type == "Conv"
    ]


@pytest.mark.parametrize("bias", [BIAS, np.zeros(C, np.float32), None], ids=["bias", "zero", "no"])
def test_the_value_behind_the_convolution_keeps_its_name_for_all_who_read_it(
    bias: Any, tmp_path: Path
) -> None:
    each = truth()
    shift = slope(each) * (0 if bias is None else bias) + intercept(each)
    stored = {"w": folded(each, KERNEL), "b": shift}
    nodes = [node("Conv", "x w b", "y"), node("Relu", "y", "z"), node("Neg", "y", "n")]
    shape = ["N", C, 5, 6]
    stock = model(nodes, stored, x=IMAGE, outputs={"z": shape, "y": shape, "n": shape})
    assert restored(conv(["bn"], [each], bias), stock, tmp_path).complete
    assert_truths(tmp_path / "restored.onnx", {"bn": each})
    (tensors,) = convs(tmp_path)
    wanted = (KERNEL,) if bias is None else (KERNEL, bias)
    assert [one.tobytes() for one in tensors] == [one.tobytes() for one in wanted]


def test_the_slope_is_folded_and_the_intercept_left_behind(tmp_path: Path) -> None:
    each = truth()
    stored = {"w": folded(each, KERNEL), "c": intercept(each).reshape(C, 1, 1)}
    nodes = [node("Conv", "x w", "p"), node("Add", "p c", "y"), node("Relu", "y", "z")]
    stock = model(nodes, stored, x=IMAGE, outputs={"z": ["N", C, 5, 6]})
    assert restored(conv(["bn"], [each]), stock, tmp_path).complete
    assert kinds(tmp_path) == ["Conv", "BatchNormalization", "Relu"]


def test_an_unnormalised_value_that_is_an_output_stays_what_it_is(tmp_path: Path) -> None:
    each = truth()
    stored = {"w": KERNEL, "b": BIAS, "a": slope(each).reshape(C, 1, 1)}
    stored["c"] = intercept(each).reshape(C, 1, 1)
    nodes = [node("Conv", "x w b", "raw"), node("Mul", "raw a", "h"), node("Add", "h c", "bn_y")]
    shape = ["N", C, 5, 6]
    stock = model(nodes, stored, x=IMAGE, outputs={"raw": shape, "bn_y": shape})
    assert restored(conv(["bn"], [each], BIAS), stock, tmp_path).complete
    assert kinds(tmp_path) == ["Conv", "BatchNormalization"]
    (tensors,) = convs(tmp_path)
    assert tensors[0].tobytes() == KERNEL.tobytes()


def test_a_value_within_the_arithmetic_that_is_an_output_stays(tmp_path: Path) -> None:
    each = truth()
    stored = {"a": slope(each).reshape(C, 1, 1), "c": intercept(each).reshape(C, 1, 1)}
    nodes = [node("Mul", "x a", "h"), node("Add", "h c", "bn_y")]
    stock = model(nodes, stored, x=FIRST, outputs={"h": FIRST, "bn_y": FIRST})
    found = restored(alone(FIRST, each), stock, tmp_path)
    (outcome,) = found.outcomes
    assert not outcome.restored
    assert outcome.why_not
    assert found.path == ""
    assert found.notes


def two(first: Truth, second: Truth) -> tuple[Any, Any]:
    """The reference of Conv, BatchNorm, Relu, BatchNorm, and a stock export that keeps neither."""
    bn, stored = norm("one", "r", "s", first)
    other, more = norm("two", "t", "y", second)
    nodes = [node("Conv", "x conv.weight", "r"), bn, node("Relu", "s", "t"), other]
    shape = ["N", C, 5, 6]
    kept = model(nodes, {"conv.weight": KERNEL, **stored, **more}, x=IMAGE, outputs={"y": shape})
    arrays = {"w": folded(first, KERNEL), "b": intercept(first)}
    arrays |= {"a": slope(second).reshape(C, 1, 1), "c": intercept(second).reshape(C, 1, 1)}
    nodes = [
        node("Conv", "x w b", "s"),
        node("Relu", "s", "t"),
        node("Mul", "t a", "h"),
        node("Add", "h c", "y"),
    ]
    return kept, model(nodes, arrays, x=IMAGE, outputs={"y": shape})


@pytest.mark.parametrize("wrong", ["one", "two"])
@pytest.mark.parametrize("channels", [slice(None), slice(-1, None)], ids=["all", "last"])
def test_another_gamma_is_refused_for_its_layer_alone(
    wrong: str, channels: slice, tmp_path: Path
) -> None:
    truths = {"one": truth(seed=1), "two": truth(seed=2)}
    kept, stock = two(truths["one"], truths["two"])
    name = {"one": "w", "two": "a"}[wrong]
    (stored,) = (each for each in stock.graph.initializer if each.name == name)
    array = numpy_helper.to_array(stored).copy()
    array[channels] *= np.float32(1.01)
    stored.CopyFrom(numpy_helper.from_array(array, name))
    found = restored(kept, stock, tmp_path)
    right = ({"one", "two"} - {wrong}).pop()
    assert {each.name: each.restored for each in found.outcomes} == {wrong: False, right: True}
    assert {each.name: bool(each.why_not) for each in found.outcomes} == {wrong: True, right: False}
    assert (found.restored, found.complete) == (1, False)
    assert found.with_stock.within
    assert not found.with_reference.within
    assert (found.bitwise, found.of) == (4, 4)
    assert_truths(tmp_path / "restored.onnx", {right: truths[right]})


def test_several_in_a_row_come_out_of_one_convolution(tmp_path: Path) -> None:
    truths = [truth(seed=3), truth(seed=4)]
    weights, shift = KERNEL, BIAS
    for each in truths:
        weights, shift = folded(each, weights), slope(each) * shift + intercept(each)
    stock = model(
        [node("Conv", "x w b", "y")],
        {"w": weights, "b": shift},
        x=IMAGE,
        outputs={"y": ["N", C, 5, 6]},
    )
    found = restored(conv(["one", "two"], truths, BIAS), stock, tmp_path)
    assert found.complete
    assert kinds(tmp_path) == ["Conv", "BatchNormalization", "BatchNormalization"]
    assert_truths(tmp_path / "restored.onnx", dict(zip(["one", "two"], truths, strict=True)))


def test_within_a_branch(tmp_path: Path) -> None:
    each = truth()
    shape = ["N", C, 5, 6]
    then = helper.make_graph(
        [node("Conv", "x w b", "y_then")], "then", [], [values("y_then", shape)]
    )
    other = helper.make_graph(
        [node("Conv", "x k", "y_else")], "else", [], [values("y_else", shape)]
    )
    stock = model(
        [
            node("ReduceSum", "x", "sum", keepdims=0),
            node("Greater", "sum zero", "cond"),
            helper.make_node("If", ["cond"], ["y"], name="if", then_branch=then, else_branch=other),
        ],
        {"w": folded(each, KERNEL), "b": intercept(each), "k": KERNEL, "zero": np.float32(0)},
        x=IMAGE,
        outputs={"y": shape},
    )
    assert restored(conv(["bn"], [each]), stock, tmp_path).complete
    main = onnx.load(str(tmp_path / "restored.onnx")).graph
    (branch,) = (one.g for one in main.node[-1].attribute if one.name == "then_branch")
    assert [one.op_type for one in branch.node] == ["Conv", "BatchNormalization"]
    assert {one.name for one in main.initializer} == {
        "k", "zero", "conv.weight", *(f"bn.{part}" for part in PARTS)
    }  # fmt: skip


def test_equal_operators_of_one_name_in_two_branches(tmp_path: Path) -> None:
    each, shape = truth(), ["N", C, 5, 6]
    graphs = {}
    for branch in ("then", "else"):
        inner = node("Conv", "x w b", f"y_{branch}")
        inner.name = "conv"
        graphs[f"{branch}_branch"] = helper.make_graph(
            [inner], branch, [], [values(f"y_{branch}", shape)]
        )
    condition = [node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum zero", "cond")]
    stored = {"w": folded(each, KERNEL), "b": intercept(each), "zero": np.float32(0)}
    branches = helper.make_node("If", ["cond"], ["y"], name="if", **graphs)
    stock = model([*condition, branches], stored, x=IMAGE, outputs={"y": shape})
    kept = conv(["one"], [each])
    bn, _ = norm("two", "r2", "two_y", each)
    bn.input[1:] = [f"one.{part}" for part in PARTS]
    kept.graph.node.extend([node("Conv", "x conv.weight", "r2"), bn])
    kept.graph.output.append(values("two_y", shape))
    found = restored(kept, stock, tmp_path)
    assert found.complete
    main = onnx.load(str(tmp_path / "restored.onnx")).graph
    inside = [[one.op_type for one in each.g.node] for each in main.node[-1].attribute]
    assert inside == [["Conv", "BatchNormalization"]] * 2
    assert found.with_reference.undecided  # it has one output more


def test_within_a_function_nothing_is_changed(tmp_path: Path) -> None:
    each = truth()
    body = helper.make_function(
        "local",
        "Block",
        ["p", "q", "r"],
        ["s"],
        [node("Conv", "p q r", "s")],
        [helper.make_opsetid("", 17)],
    )
    stock = model(
        [helper.make_node("Block", ["x", "w", "b"], ["y"], domain="local", name="call")],
        {"w": folded(each, KERNEL), "b": intercept(each)},
        x=IMAGE,
        outputs={"y": ["N", C, 5, 6]},
    )
    stock.functions.append(body)
    stock.opset_import.append(helper.make_opsetid("local", 1))
    (outcome,) = restored(conv(["bn"], [each]), stock, tmp_path).outcomes
    assert "function" in outcome.why_not


def test_weights_that_may_be_fed_are_left_alone(tmp_path: Path) -> None:
    each = truth()
    stock = model(
        [node("Conv", "x w b", "y")],
        {"w": folded(each, KERNEL), "b": intercept(each)},
        x=IMAGE,
        outputs={"y": ["N", C, 5, 6]},
        more_inputs=[values("w", KERNEL.shape)],
    )
    (outcome,) = restored(conv(["bn"], [each]), stock, tmp_path, same=False).outcomes
    assert not outcome.restored


def test_half_precision_cannot_hold_what_the_framework_has(tmp_path: Path) -> None:
    each = truth()
    half = np.float16
    stock = model(
        [node("Cast", "x", "q", to=10), node("Conv", "q w b", "p"), node("Cast", "p", "y", to=1)],
        {"w": folded(each, KERNEL).astype(half), "b": intercept(each).astype(half)},
        x=IMAGE,
        outputs={"y": ["N", C, 5, 6]},
    )
    (outcome,) = restored(conv(["bn"], [each]), stock, tmp_path).outcomes
    assert (outcome.was, outcome.restored) == (Fate.FOLDED, False)
    assert "float16" in outcome.why_not


def test_merged_tensors_are_told_apart_again_and_names_that_are_taken_stay(tmp_path: Path) -> None:
    ones, zeros = np.ones(C, np.float32), np.zeros(C, np.float32)
    each = Truth(four=(ones, zeros, zeros, ones), epsilon=1e-3, momentum=0.85)
    bn, _ = norm("bn", "x", "h", each)
    # What is called like one of the framework's tensors is another one.
    stored = {"bn.scale": ones, "bn.B": zeros, "bn.mean": np.float32(2.0)}
    del bn.input[1:]
    bn.input.extend(["bn.scale", "bn.B", "bn.B", "bn.scale"])
    bn.name, bn.attribute[1].f = "n_1", 0.9
    nodes = [bn, helper.make_node("Mul", ["h", "bn.mean"], ["y"], name="bn")]
    stock = model(nodes, stored, x=FIRST, outputs={"y": FIRST})
    bn, more = norm("bn", "x", "h", each)
    nodes = [bn, node("Mul", "h two", "y")]
    kept = model(nodes, {"two": np.float32(2.0), **more}, x=FIRST, outputs={"y": FIRST})
    found = restored(kept, stock, tmp_path)
    assert found.complete
    path = tmp_path / "restored.onnx"
    assert_truths(path, {"bn_1": each})
    assert list(norms_of(path)["bn_1"].input[1:]) == ["bn.scale", "bn.B", "bn.mean_1", "bn.var"]


def test_before_ir_version_4_initializers_are_inputs_too(tmp_path: Path) -> None:
    each = truth()
    stored = {"w": folded(each, KERNEL), "b": intercept(each)}
    stock = model(
        [node("Conv", "x w b", "y")],
        stored,
        x=IMAGE,
        outputs={"y": ["N", C, 5, 6]},
        opset=8,
        ir=3,
        more_inputs=[values(name, array.shape) for name, array in stored.items()],
    )
    onnx.save(stock, str(tmp_path / "stock.onnx"))
    onnx.save(conv(["bn"], [each]), str(tmp_path / "kept.onnx"))
    output = tmp_path / "restored.onnx"
    assert restore(tmp_path / "stock.onnx", tmp_path / "kept.onnx", output).complete
    graph = onnx.load(str(output)).graph
    assert graph.input[0].name == "x"
    assert {one.name for one in graph.input[1:]} == {one.name for one in graph.initializer}
    assert_truths(output, {"bn": each})
    assert_same_outputs(tmp_path / "stock.onnx", output)


def test_a_reference_without_a_batchnorm(tmp_path: Path) -> None:
    nothing = model([node("Relu", "x", "y")], {}, x=FIRST, outputs={"y": FIRST})
    with pytest.raises(UsageError, match="no BatchNorm"):
        restored(nothing, nothing, tmp_path)


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        restore(tmp_path / "no.onnx", tmp_path / "no.onnx", tmp_path / "none" / "out.onnx")


def test_the_file_itself_may_be_the_output(tmp_path: Path) -> None:
    each = truth()
    kept, stock = two(each, truth(seed=2))
    onnx.save(kept, str(tmp_path / "kept.onnx"))
    path = tmp_path / "model.onnx"
    onnx.save(stock, str(path))
    assert restore(path, tmp_path / "kept.onnx", path).complete
    assert sorted(norms_of(path)) == ["one", "two"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept.onnx", "model.onnx"]


@pytest.mark.parametrize("wrong", ["one", "two"])
def test_a_layer_that_would_change_the_outputs_is_left_out(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such case is known: what is found holds by its numbers already."""
    import inspector.restore.run as module

    truths = {"one": truth(seed=1), "two": truth(seed=2)}
    measured = module.agreement

    def agreement(left: Path, right: Path, **options: Any) -> Any:
        found = measured(left, right, **options)
        return replace(found, within=found.within and wrong not in norms_of(right))

    monkeypatch.setattr(module, "agreement", agreement)
    found = restored(*two(truths["one"], truths["two"]), tmp_path)
    right = ({"one", "two"} - {wrong}).pop()
    assert {each.name: each.restored for each in found.outcomes} == {wrong: False, right: True}
    assert "outputs" in next(each.why_not for each in found.outcomes if each.name == wrong)
    assert_truths(tmp_path / "restored.onnx", {right: truths[right]})
