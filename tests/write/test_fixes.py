"""The changes of ``--fix``: what the model computes, and what stays as it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import forms
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_text import FEW, parsed

from inspector.errors import UnreadableError
from inspector.facts.finding import CheckSettings
from inspector.facts.fix import FixedFile, FixOptions, SetInference
from inspector.flows.check import check_files
from inspector.flows.fix import fix_files
from inspector.write.fix_bodies import Bodies, unique
from inspector.write.fix_folder import Original, _copy_status, workshop
from inspector.write.fix_proof import nothing_else, only_these_differ
from inspector.write.fix_text import difference
from inspector.write.fixes import with_changes

TRAINING = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ [bn] y, rm, rv = BatchNormalization <training_mode = 1> (x, s, b, m, v) }}"""


def fixed(path: Path, *codes: str, **options: Any) -> FixedFile:
    """Fix a file, which has something to fix."""
    settings = CheckSettings(select=codes or ("BN",))
    _, done = fix_files(check_files(path, settings, jobs=1), settings, FixOptions(**options))
    (one,) = done
    return one


def outputs(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime computes, which folds nothing by itself here."""
    asked = ort.SessionOptions()
    asked.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), asked, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("form", forms.DECOMPOSED)
def test_arithmetic_becomes_a_node_of_the_same_parameters(
    form: str, channels_last: bool, tmp_path: Path
) -> None:
    params = forms.random_params(5, 4, "float32", 1e-3)
    built = forms.DECOMPOSED[form](params, channels_last=channels_last, front="relu")
    path = tmp_path / "model.onnx"
    onnx.save(built.model, path)
    done = fixed(path, "BN032")
    assert (done.failure, done.refused, len(done.fixed)) == ("", (), 1)
    model = onnx.load(path)
    (node,) = [each for each in model.graph.node if each.op_type == "BatchNormalization"]
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, values in zip(node.input[1:], params.tensors.values(), strict=True):
        assert stored[name].tobytes() == values.tobytes()
    # What was there for the arithmetic alone is gone with it.
    assert set(stored) == set(node.input[1:])
    assert set(ops(path)) <= {"Relu", "Transpose", "BatchNormalization"}
    onnx.checker.check_model(model, full_check=True)
    shape = [each.dim_value or 3 for each in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (got,) = outputs(model, {model.graph.input[0].name: x})
    wanted = forms.truth(params, np.maximum(x, 0), channels_last=channels_last)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_transposes_that_would_only_be_undone_are_not_written(tmp_path: Path) -> None:
    params = forms.random_params(5, 4, "float32", 1e-3)
    built = forms.DECOMPOSED["tf"](params, channels_last=True, front="conv", transposed=True)
    path = tmp_path / "model.onnx"
    onnx.save(built.model, path)
    before = ops(path).count("Transpose")
    assert fixed(path, "BN032").fixed
    assert ops(path).count("Transpose") <= before


FOLDS = {
    "Conv": "float[4, 3, 3, 3] w, float[4] c|Conv (x, w, c)|float[N, 3, 6, 6]",
    "no bias": "float[4, 3, 3, 3] w|Conv (x, w)|float[N, 3, 6, 6]",
    "groups": "float[4, 1, 3, 3] w, float[4] c|Conv <group = 2> (x, w, c)|float[N, 2, 6, 6]",
    "ConvTranspose": "float[3, 4, 3, 3] w, float[4] c|ConvTranspose (x, w, c)|float[N, 3, 6, 6]",
    "ConvTranspose in groups": "float[6, 2, 3, 3] w|ConvTranspose <group = 2> (x, w)"
    "|float[N, 6, 5, 5]",
    "Gemm": "float[3, 4] w, float[4] c|Gemm (x, w, c)|float[N, 3]",
    "transB": "float[4, 3] w, float[4] c|Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, c)"
    "|float[N, 3]",
    "a number for a bias": "float[4, 3] w, float c|Gemm <transB = 1, beta = 2.0> (x, w, c)"
    "|float[N, 3]",
    "a bias of rows": "float[4, 3] w, float[5, 4] c|Gemm <transB = 1> (x, w, c)|float[5, 3]",
    "no C": "float[3, 4] w|Gemm <alpha = 0.5> (x, w)|float[N, 3]",
}


def _drawn(text: str, seed: int = 0) -> onnx.ModelProto:
    """A model whose initializers are drawn; variances are positive."""
    model = parsed(text)
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        low = 0.3 if tensor.name.startswith("v") else -1.0
        values = rng.uniform(low, 2, list(tensor.dims)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def _linear(case: str) -> onnx.ModelProto:
    stored, node, entered = FOLDS[case].split("|")
    dims = entered.replace("[5", "[N") if "rows" not in case else entered
    rank = entered.count(",") + 1
    given = f"float[{', '.join(['5' if 'rows' in case else 'N', '4', *'hw'][:rank])}]"
    return _drawn(
        f"agraph ({dims} x) => ({given} y) "
        f"<{stored}, float[4] s, float[4] b, float[4] m, float[4] v>"
        f"{{ [linear] h = {node} [bn] y = BatchNormalization (h, s, b, m, v) }}"
    )


@pytest.mark.parametrize("case", FOLDS)
def test_folding(case: str, tmp_path: Path) -> None:
    model = _linear(case)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    done = fixed(path, "BN033", fold=True)
    assert (done.failure, done.refused) == ("", ())
    after = onnx.load(path)
    assert len(after.graph.node) == 1
    assert not {"s", "b", "m", "v"} & {each.name for each in after.graph.initializer}
    dims = [e.dim_value or 5 for e in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(size=dims).astype(np.float32)
    (wanted,), (got,) = outputs(model, {"x": x}), outputs(after, {"x": x})
    np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


def test_folding_rounds_once(tmp_path: Path) -> None:
    """What is stored is the nearest float32 to the exact product."""
    model = _linear("no bias")
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    was = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    fixed(path, "BN033", fold=True)
    slope = was["s"] / np.sqrt(was["v"] + float(np.float32(1e-5)))
    now = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    exact = was["w"] * slope.reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(now["w"], exact.astype(np.float32))
    bias = was["b"] - was["m"] * slope
    np.testing.assert_array_equal(now["linear_bias"], bias.astype(np.float32))


def test_weights_that_others_read_are_copied(tmp_path: Path) -> None:
    model = _drawn(
        "agraph (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] z) "
        "<float[4, 3, 3, 3] w, float[4] c, float[4] s, float[4] b, float[4] m, float[4] v>"
        "{ [one] h = Conv (x, w, c) [bn] y = BatchNormalization (h, s, b, m, v)"
        "  [two] z = Conv (x, w, c) }"
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert fixed(path, "BN033", fold=True).fixed
    after = onnx.load(path)
    was = {each.name: each for each in model.graph.initializer}
    now = {each.name: each for each in after.graph.initializer}
    assert now["w"] == was["w"]
    assert now["c"] == was["c"]
    assert set(now) == {"w", "c", "w_folded", "c_folded"}
    x = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)
    for one, other in zip(outputs(model, {"x": x}), outputs(after, {"x": x}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_an_output_that_others_read_keeps_its_conv(tmp_path: Path) -> None:
    model = _drawn(
        "agraph (float[N, 3, 6, 6] x) => (float[N, 4, 4, 4] y, float[N, 4, 4, 4] h) "
        "<float[4, 3, 3, 3] w, float[4] s, float[4] b, float[4] m, float[4] v>"
        "{ h = Conv (x, w) y = BatchNormalization (h, s, b, m, v) }"
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    settings = CheckSettings(select=("BN033",))
    checked = check_files(path, settings, jobs=1)
    assert fix_files(checked, settings, FixOptions(fold=True))[1] == ()


@pytest.mark.parametrize("opset", [1, 6, 7, 9, 13, 14, 15, 21])
def test_inference_mode_by_every_opset(opset: int) -> None:
    attribute = " <training_mode = 1>" if opset >= 14 else ""
    if opset == 1:
        attribute = " <consumed_inputs = [0, 0, 0, 1, 1]>"
    further = ", rm, rv" + ("" if opset >= 14 else ", sm, sv")
    model = parsed(
        f'<ir_version: 8, opset_import: ["": {opset}]> agraph (float[N, 2] x) => (float[N, 2] y) '
        f"{FEW} {{ [bn] y{further} = BatchNormalization{attribute} (x, s, b, m, v) }}"
    )
    model.graph.value_info.append(helper.make_tensor_value_info("rm", TensorProto.FLOAT, [2]))
    after, why_not = with_changes(model, [SetInference(scope=(), output="y")])
    assert why_not == {}
    (node,) = after.graph.node
    told = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert list(node.output) == ["y"]
    assert told.get("training_mode", 0) == 0
    assert told.get("is_test", 0) == (1 if opset < 7 else 0)
    assert not after.graph.value_info
    assert only_these_differ(model, after, [SetInference(scope=(), output="y")]) == ""


def test_everything_else_stays(tmp_path: Path) -> None:
    model = parsed(TRAINING)
    model.doc_string, model.producer_name, model.domain = "a doc", "somebody", "org.example"
    model.model_version = 7
    model.metadata_props.add(key="author", value="me")
    model.graph.doc_string = "of the graph"
    model.graph.node[0].doc_string = "of the node"
    model.graph.node[0].metadata_props.add(key="note", value="kept")
    model.graph.initializer[0].doc_string = "of the tensor"
    model.opset_import.add(domain="other", version=3)
    model.functions.append(
        helper.make_function(
            "local", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )  # fmt: skip
    # A field that this version of ONNX does not know: number 1000, of three bytes.
    data = model.SerializeToString() + b"\xc2\x3e\x03abc"
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert fixed(path, "BN001").fixed
    written = path.read_bytes()
    assert b"\xc2\x3e\x03abc" in written
    after = onnx.ModelProto.FromString(written)
    model = onnx.ModelProto.FromString(data)
    node = model.graph.node[0]
    node.attribute[0].i = 0
    del node.output[1:]
    assert after.SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


def test_a_function_and_a_branch_are_fixed_inside(tmp_path: Path) -> None:
    model = parsed(
        f"""<ir_version: 8, opset_import: ["": 17, "local": 1]>
agraph (float[N, 2] x, bool c) => (float[N, 2] y) {FEW} {{
  h = local.Norm (x, s, b, m, v)
  y = If (c) <
    then_branch = one () => (float[N, 2] t)
      {{ [inner] t, rm, rv = BatchNormalization <training_mode = 1> (h, s, b, m, v) }},
    else_branch = other () => (float[N, 2] e) {{ e = Identity (h) }}
  >
}}
<domain: "local", opset_import: ["": 17]>
Norm (x, s, b, m, v) => (y)
{{ [bn] y, rm, rv = BatchNormalization <training_mode = 1> (x, s, b, m, v) }}"""
    )
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    done = fixed(path, "BN001")
    assert (len(done.fixed), done.refused, done.failure) == (2, (), "")
    after = onnx.load(path)
    bodies = Bodies(after)
    nodes = [after.functions[0].node[0], bodies.at(("y.then_branch",)).node[0]]
    assert [list(node.output) for node in nodes] == [["y"], ["t"]]
    x = np.ones((3, 2), np.float32)
    twice = x
    for _ in range(2):
        twice = (twice - [0.25, -4]) / np.sqrt([1.00001, 9.00001]) * [1, 2] + [0.5, -0.5]
    (got,) = outputs(after, {"x": x, "c": np.array(True)})
    np.testing.assert_allclose(got, twice, rtol=1e-5)


def test_arithmetic_in_a_branch_becomes_a_node_there(tmp_path: Path) -> None:
    params = forms.random_params(2, 3, "float32", 1e-3)
    built = forms.DECOMPOSED["Sub Div Mul Add"](params, front="relu")
    moved = forms.in_if(built)
    path = tmp_path / "model.onnx"
    onnx.save(moved.model, path)
    done = fixed(path, "BN032")
    assert (done.failure, len(done.fixed)) == ("", 1)
    (branching,) = [each for each in onnx.load(path).graph.node if each.op_type == "If"]
    kinds = {n.op_type for each in branching.attribute for n in each.g.node}
    assert "BatchNormalization" in kinds


def test_arithmetic_in_a_function_is_told_to_be_left(tmp_path: Path) -> None:
    params = forms.random_params(2, 3, "float32", 1e-3)
    moved = forms.in_function(forms.DECOMPOSED["Sub Div Mul Add"](params, front="relu"))
    path = tmp_path / "model.onnx"
    onnx.save(moved.model, path)
    was = path.read_bytes()
    done = fixed(path, "BN032")
    assert path.read_bytes() == was
    assert [each.why.partition(": ")[2] for each in done.refused] == [
        "it stands in a function, whose body all of its calls share"
    ]


def test_more_than_was_meant_is_seen() -> None:
    model = parsed(TRAINING)
    change = SetInference(scope=(), output="y")
    after, _ = with_changes(model, [change])
    assert only_these_differ(model, after, [change]) == ""
    assert nothing_else(model, after, [change]) == ""
    tensor = onnx.ModelProto()
    tensor.CopyFrom(after)
    tensor.graph.initializer[0].float_data[0] = 1.5
    assert only_these_differ(model, tensor, [change])
    assert nothing_else(model, tensor, [change]) == "the initializer 's'"
    epsilon = onnx.ModelProto()
    epsilon.CopyFrom(after)
    epsilon.graph.node[0].attribute.append(helper.make_attribute("epsilon", 0.5))
    assert only_these_differ(model, epsilon, [change])
    node = onnx.ModelProto()
    node.CopyFrom(after)
    node.graph.node.append(helper.make_node("Relu", ["x"], ["more"]))
    assert nothing_else(model, node, [change]) == "the node that computes 'more'"


def test_a_file_that_changes_meanwhile_is_left(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    original = Original(str(path))
    with workshop(original) as folder:
        made = folder / "0.part"
        made.write_bytes(b"fixed")
        path.write_bytes(b"newer than that")
        with pytest.raises(UnreadableError, match="changed by somebody else"):
            original.replace(made, backup=True)
    assert path.read_bytes() == b"newer than that"
    assert list(tmp_path.iterdir()) == [path]


def test_backups_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", none)
    path = tmp_path / "model.onnx"
    (tmp_path / "model.onnx.bak").write_bytes(b"older")
    path.write_bytes(b"old")
    original = Original(str(path))
    with workshop(original) as folder:
        (folder / "0.part").write_bytes(b"new")
        kept = original.replace(folder / "0.part", backup=True)
    assert Path(kept) == tmp_path / "model.onnx.bak.1"
    contents = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert contents == {
        "model.onnx": b"new",
        "model.onnx.bak": b"older",
        "model.onnx.bak.1": b"old",
    }


def _placed(path: Path, **asked: bool) -> str:
    original = Original(str(path))
    with workshop(original) as folder:
        (folder / "0.part").write_bytes(b"new")
        return original.replace(folder / "0.part", **{"backup": True, **asked})


@pytest.mark.parametrize("placed", [False, True])
def test_an_interrupt_never_costs_the_file_and_its_backup(
    placed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises what comes during a rename behind it, when it may have come about."""
    replace = os.replace

    def interrupted(*paths: Path) -> None:
        if placed:
            replace(*paths)
        raise KeyboardInterrupt

    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _placed(path)
    contents = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    both = {"model.onnx": b"new", "model.onnx.bak": b"old"}
    assert contents == (both if placed else {"model.onnx": b"old"})


@pytest.mark.skipif(os.name != "posix", reason="other systems have other permissions")
def test_what_is_not_finished_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with workshop(Original(str(path))) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(not hasattr(os, "chown"), reason="other systems have no groups")
def test_the_group_stays_where_the_owner_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a file of a colleague in one's own group."""
    made, asked = tmp_path / "made", []
    made.write_bytes(b"new")
    own = made.stat()

    def chown(_: Path, user: int, group: int) -> None:
        asked.append((user, group))
        if user != -1:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chown", chown)
    was = os.stat_result((own.st_mode, 0, 0, 1, own.st_uid + 1, own.st_gid + 1, 3, 0, 0, 0))
    _copy_status(was, made)
    assert asked == [(own.st_uid + 1, own.st_gid + 1), (-1, own.st_gid + 1)]


def test_a_backup_that_cannot_be_finished_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", none)
    monkeypatch.setattr("shutil.copystat", none)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(UnreadableError, match="not permitted"):
        _placed(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"old"


def test_strings_that_stay_are_not_in_a_diff() -> None:
    before = parsed(TRAINING)
    strings = np.array(["the first of the labels", "another label"], dtype=object)
    before.graph.initializer.append(numpy_helper.from_array(strings, "labels"))
    after, _ = with_changes(before, [SetInference(scope=(), output="y")])
    lines = difference(before, after, "model.onnx")
    assert any(line.startswith("+") and "training_mode = 0" in line for line in lines)
    assert not [line for line in lines if line[:1] in "+-" and "labels" in line]


def test_tensors_that_are_trained_on_are_not_folded_away(tmp_path: Path) -> None:
    model = _linear("Conv")
    binding = model.training_info.add().update_binding.add()
    binding.key, binding.value = "m", "new_mean"
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    was = path.read_bytes()
    (refused,) = fixed(path, "BN033", fold=True).refused
    assert "training information" in refused.why
    assert path.read_bytes() == was


def test_names_are_free() -> None:
    taken = {"a", "a_1"}
    assert [unique("a", taken), unique("a", taken), unique("", taken)] == ["a_2", "a_3", "_1"]
