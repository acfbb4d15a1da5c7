"""`bninspect compare` on the two frameworks' own exports of the question's network, small."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

DATA = Path(__file__).resolve().parent.parent / "data"
KERAS = DATA / "keras_small.onnx"

EPSILON = ("epsilon", "epsilon", "0.001", "1e-05")
RELU = ("missing operator", "Relu", "present", "missing")
SOFTMAX = ("missing operator", "Softmax", "present", "missing")
FLATTEN = (
    "layout",
    "kernel",
    "[256, 6]",
    "the same values with rows flattened channels last on the right",
)

PAIRS = {
    "torch_small": [EPSILON, RELU, SOFTMAX],
    "torch_small_matched_torch_epsilon": [EPSILON],
    "torch_small_matched_no_relu": [RELU],
    "torch_small_matched_no_softmax": [SOFTMAX],
    "torch_small_matched_wrong_flatten": [FLATTEN],
}


@pytest.mark.parametrize(("name", "causes"), PAIRS.items(), ids=PAIRS)
def test_the_causes_are_named_and_no_other(name, causes, run):
    ran = run("compare", KERAS, DATA / f"{name}.onnx", "--format", "json")
    found = json.loads(ran.out)
    assert (ran.code, ran.err) == (1, "")
    assert (found["schema"], found["version"]) == ("bninspect.comparison", 1)
    assert found["verdict"] == "different"
    named = [(c["kind"], c["what"], c["left"], c["right"]) for c in found["causes"]]
    assert named == causes
    assert all(cause["proof"] == "proved" for cause in found["causes"])
    assert found["harmless"] == []
    assert found["explained_to"] < 1e-6


def test_momentum_is_information(run):
    ran = run("compare", KERAS, DATA / "torch_small.onnx", "--format", "json")
    (line,) = json.loads(ran.out)["information"]
    assert "momentum 0.15 against 0.9" in line
    assert "0.85 and 0.1" in line


@pytest.mark.parametrize("strict", [(), ("--strict",)], ids=["", "strict"])
def test_the_matched_pair_is_equivalent(strict, run):
    ran = run("compare", KERAS, DATA / "torch_small_matched.onnx", *strict)
    assert (ran.code, ran.err) == (0, "")
    assert "equivalent: " in ran.out
    assert "rounding floor" in ran.out
    assert "1 of 1 pair with scale, B, mean and var equal in bits" in ran.out


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)], ids=["", "strict"])
def test_a_hidden_difference_agrees(strict, code, run, tmp_path):
    # A channel whose scale is 0 hides its variance from every output.
    dead, other = (changed(tmp_path / f"{each}.onnx", variance=each) for each in (1.0, 2.0))
    ran = run("compare", dead, other, *strict)
    assert (ran.code, ran.err) == (code, "")
    assert "agrees: " in ran.out
    assert "var [4]: values up to 1 away on the right" in " ".join(ran.out.split())


def changed(path: Path, *, variance: float) -> Path:
    model = onnx.load(KERAS)
    node = next(each for each in model.graph.node if each.op_type == "BatchNormalization")
    for tensor in model.graph.initializer:
        if tensor.name in (node.input[1], node.input[4]):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0] = np.float32(0.0 if tensor.name == node.input[1] else variance)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    return path


def test_what_cannot_be_run_is_undecided(run, tmp_path):
    model = onnx.load(KERAS)
    model.graph.node[0].domain = "nobody.knows"
    model.opset_import.add(domain="nobody.knows", version=1)
    onnx.save(model, tmp_path / "unknown.onnx")
    ran = run("compare", KERAS, tmp_path / "unknown.onnx")
    assert (ran.code, ran.err) == (4, "")
    assert "undecided:" in ran.out


def test_a_tolerance_decides_the_verdict_and_not_the_causes(run):
    other = DATA / "torch_small_matched_torch_epsilon.onnx"
    loose = json.loads(run("compare", KERAS, other, "--atol", "0.01", "--format", "json").out)
    assert loose["verdict"] == "agrees"
    tight = json.loads(run("compare", KERAS, other, "--atol", "0.00001", "--format", "json").out)
    assert tight["verdict"] == "different"
    assert [cause["proof"] for cause in tight["causes"]] == ["proved"]
