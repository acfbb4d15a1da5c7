"""Rules about modes and about where statistics come from: BN001 to BN004."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx_text import FEW, parsed

from inspector.check.rules.bn002_batch_statistics import BY_THE_BATCH
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import CheckedFile, CheckSettings, Severity
from inspector.flows.check import check_one
from inspector.recognise import lookalikes

ARGUMENTS = "(x, s, b, m, v)"


def checked(model: str | onnx.ModelProto, code: str, folder: Path) -> CheckedFile:
    """What one rule finds in a model."""
    proto = parsed(model) if isinstance(model, str) else model
    onnx.save(proto, folder / "model.onnx")
    file = check_one(folder / "model.onnx", CheckSettings(select=(code,)))
    assert not file.unreadable
    return file


def at_opset(opset: int, node: str, *, ir: int = 8, few: str = FEW) -> str:
    return (
        f'<ir_version: {ir}, opset_import: ["": {opset}]>\n'
        f"agraph (float[N, 2] x) => (float[N, 2] y)\n{few}\n{{ [bn] {node} }}"
    )


def ran(model: str | onnx.ModelProto, *batches: list[list[float]]) -> list[NDArray[Any]]:
    """What ONNX Runtime gives for the first row of each batch."""
    proto = parsed(model) if isinstance(model, str) else model
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return [session.run(["y"], {"x": np.array(each, np.float32)})[0][0] for each in batches]


ONE, MORE = [[1.0, 2.0], [3.0, 5.0]], [[1.0, 2.0], [-7.0, 90.0]]
"""Two batches that begin with the same row."""


@pytest.mark.parametrize(
    ("opset", "ir", "node", "trains"),
    [
        (7, 3, f"y = BatchNormalization {ARGUMENTS}", False),
        (8, 3, f"y, a, c, d, e = BatchNormalization {ARGUMENTS}", True),
        (9, 4, f"y = BatchNormalization {ARGUMENTS}", False),
        (9, 4, f"y, a, c, d, e = BatchNormalization {ARGUMENTS}", True),
        (13, 7, f"y = BatchNormalization {ARGUMENTS}", False),
        (14, 7, f"y = BatchNormalization <training_mode = 0> {ARGUMENTS}", False),
        (14, 7, f"y, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}", True),
        (15, 8, f"y = BatchNormalization {ARGUMENTS}", False),
        (15, 8, f"y, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}", True),
    ],
)
def test_bn001_says_of_each_opset_what_the_runtime_does(
    opset: int, ir: int, node: str, trains: bool, tmp_path: Path
) -> None:
    text = at_opset(opset, node, ir=ir)

    one, more = ran(text, ONE, MORE)

    assert (not np.allclose(one, more)) is trains
    found = checked(text, "BN001", tmp_path).findings
    assert len(found) == trains
    if trains:
        assert found[0].layer == "bn"
        assert found[0].severity is Severity.ERROR
        assert f"opset {opset}" in found[0].message
        assert found[0].fixable


@pytest.mark.parametrize(
    ("opset", "node", "trains"),
    [
        # No runtime at hand runs these; their definition says so: is_test is 0 unless it is given.
        (1, f"y = BatchNormalization <consumed_inputs = [0, 0, 0, 1, 1]> {ARGUMENTS}", True),
        (6, f"y = BatchNormalization {ARGUMENTS}", True),
        (6, f"y, a, c, d, e = BatchNormalization {ARGUMENTS}", True),
        (6, f"y = BatchNormalization <is_test = 0> {ARGUMENTS}", True),
        (6, f"y = BatchNormalization <is_test = 1> {ARGUMENTS}", False),
        # The number of outputs does not tell in inference mode, nor does training_mode before 14.
        (15, f"y, a, c = BatchNormalization {ARGUMENTS}", False),
        (15, f"y = BatchNormalization <training_mode = 1> {ARGUMENTS}", True),
    ],
)
def test_bn001_goes_by_the_definition_where_nothing_runs(
    opset: int, node: str, trains: bool, tmp_path: Path
) -> None:
    found = checked(at_opset(opset, node, ir=3 if opset < 7 else 8), "BN001", tmp_path).findings

    assert len(found) == trains


def test_the_definition_of_opset_6_says_what_bn001_goes_by() -> None:
    schema = onnx.defs.get_schema("BatchNormalization", 6)

    assert schema.attributes["is_test"].default_value.i == 0
    assert onnx.defs.get_schema("BatchNormalization", 7).attributes.keys() == {
        "epsilon",
        "momentum",
        "spatial",
    }


@pytest.mark.parametrize(
    ("few", "more", "why"),
    [
        (
            FEW.replace("{0.25, -4.0}", "{0, 0}").replace("{1.0, 9.0}", "{1, 1}"),
            "",
            "never updated",
        ),
        (FEW.replace("{1.0, 9.0}", "{1.0, nan}"), "", "no finite result"),
        (FEW.replace("{1.0, 9.0}", "{1.0, -9.0}"), "", "no finite result"),
        (FEW.replace("float[2] v = {1.0, 9.0}", "float[1] v = {1.0}"), "", "disagree"),
        (FEW, " z = Add(a, c)", "reads its further outputs"),
    ],
)
def test_bn001_is_not_fixable_where_inference_would_be_as_wrong(
    few: str, more: str, why: str, tmp_path: Path
) -> None:
    node = f"y, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}{more}"

    (found,) = checked(at_opset(15, node, few=few), "BN001", tmp_path).findings

    assert not found.fixable
    assert why in found.remedy


@pytest.mark.parametrize(("read", "fixable"), [("a", False), ("x", True)])
def test_bn001_sees_a_running_mean_that_a_subgraph_reads(
    read: str, fixable: bool, tmp_path: Path
) -> None:
    text = f"""
agraph (float[N, 2] x, bool flag) => (float[N, 2] y, float[K, L] z)
{FEW}
{{ [bn] y, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}
  z = If (flag) <then_branch = yes () => (float[K, L] t) {{ t = Neg({read}) }},
                 else_branch = no () => (float[K, L] e) {{ e = Neg(x) }}> }}
"""
    (found,) = checked(text, "BN001", tmp_path).findings

    assert found.fixable is fixable


def test_bn001_is_not_fixable_where_a_running_mean_leaves_the_graph(tmp_path: Path) -> None:
    text = f"""
agraph (float[N, 2] x) => (float[N, 2] y, float[2] a)
{FEW}
{{ [bn] y, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS} }}
"""
    (found,) = checked(text, "BN001", tmp_path).findings

    assert not found.fixable


IN_A_FUNCTION = """
<ir_version: 8, opset_import: ["": 17, "own": 1]>
agraph (float[N, 2] x) => (float[N, 2] y)
%s
{ [first] h = own.norm <mode = 1> (x, s, b, m, v)
  [second] y = own.norm <mode = 0> (h, s, b, m, v) }
<opset_import: ["": 15], domain: "own">
norm <mode> (x, s, b, m, v) => (y)
{ [bn] y, rm, rv = BatchNormalization <training_mode: int = @mode> (x, s, b, m, v) }
"""


def test_bn001_goes_by_the_call_where_a_function_leaves_the_mode_to_it(tmp_path: Path) -> None:
    (found,) = checked(IN_A_FUNCTION % FEW, "BN001", tmp_path).findings

    assert found.scope == ("first",)
    assert found.layer == "bn"


def test_bn001_goes_by_the_opset_of_a_function(tmp_path: Path) -> None:
    text = f"""
<ir_version: 8, opset_import: ["": 17, "own": 1]>
agraph (float[N, 2] x) => (float[N, 2] y)
{FEW}
{{ [call] y = own.norm(x, s, b, m, v) }}
<opset_import: ["": 13], domain: "own">
norm (x, s, b, m, v) => (y)
{{ [bn] y, a, c, d, e = BatchNormalization(x, s, b, m, v) }}
"""
    (found,) = checked(text, "BN001", tmp_path).findings

    assert found.scope == ("call",)
    assert "5 outputs" in found.message
    assert "opset 13" in found.message


def in_branches(one: str, other: str) -> str:
    return f"""
agraph (float[N, 2] x, bool which) => (float[N, 2] y)
{FEW}
{{ [if] y = If (which) <
    then_branch = yes () => (float[N, 2] t) {{ [one] t{one} }},
    else_branch = no () => (float[N, 2] e) {{ [other] e{other} }}
  > }}
"""


def test_bn001_looks_into_the_branches_of_an_if(tmp_path: Path) -> None:
    text = in_branches(
        f", a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}",
        f" = BatchNormalization {ARGUMENTS}",
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(parsed(text).SerializeToString(), options)
    rows = [
        [
            session.run(None, {"x": np.array(each, np.float32), "which": np.array(which)})[0][0]
            for each in (ONE, MORE)
        ]
        for which in (True, False)
    ]

    (found,) = checked(text, "BN001", tmp_path).findings

    assert found.scope == ("if.then_branch",)
    assert found.fixable
    assert not np.allclose(*rows[0])
    assert np.allclose(*rows[1])
    (mixed,) = checked(text, "BN004", tmp_path).findings
    assert "1 of 2" in mixed.message


def test_bn001_agrees_with_the_corpus(corpus: Path, corpus_rows: list[dict[str, str]]) -> None:
    """The corpus' list has attributes and outputs of each node: by those a mode can be told."""
    settings = CheckSettings(select=("BN001",))
    told = Counter[bool]()
    for row in corpus_rows:
        if row["load"] != "ok" or int(row["bn_count"] or 0) != 1:
            continue
        imported = re.search(r"ai\.onnx:(\d+)", row["opset"])
        opset = int(imported[1]) if imported else 1
        if opset < 7:
            trains = "is_test=1" not in row["bn_attrs"]
        elif opset < 14 or "6 inputs" in row["bn_attrs"]:
            trains = not row["bn_nout"].startswith("1 ")
        else:
            trains = "training_mode=1" in row["bn_attrs"] or row["bn_nout"].startswith("5 ")
        file = check_one(corpus / row["file"], settings)
        if not file.unreadable and file.layers:
            told[trains] += 1
            assert bool(file.findings) is trains, row["file"]
    assert told[True] > 15
    assert told[False] > 30


COMPUTED = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}>
{ %s
  [bn] y = BatchNormalization(x, s, b, m, v) }
"""

BATCH = """m = ReduceMean <axes = [0], keepdims = 0> (x)
  c = Sub(x, m)
  q = Mul(c, c)
  v = ReduceMean <axes = [0], keepdims = 0> (q)"""


def test_bn002_finds_statistics_of_the_batch_as_the_runtime_shows(tmp_path: Path) -> None:
    text = COMPUTED % BATCH

    one, more = ran(text, ONE, MORE)

    assert not np.allclose(one, more)
    (found,) = checked(text, "BN002", tmp_path).findings
    assert found.severity is Severity.ERROR
    assert "mean and var" in found.message
    assert "ReduceMean" in found.message


def test_bn002_warns_of_statistics_that_are_looked_up(tmp_path: Path) -> None:
    text = """
agraph (float[N, 2] x, int64 domain) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[3, 2] ms = {1, 2, 3, 4, 5, 6},
 float[3, 2] vs = {1, 2, 3, 4, 5, 6}>
{ m = Gather(ms, domain)
  v = Gather(vs, domain)
  [bn] y = BatchNormalization(x, s, b, m, v) }
"""
    (found,) = checked(text, "BN002", tmp_path).findings

    assert found.severity is Severity.WARNING
    assert found.confidence is Confidence.POSSIBLE
    assert "Gather" in found.message


def test_bn002_is_not_about_scale_and_bias_that_a_network_gives(tmp_path: Path) -> None:
    text = f"""
agraph (float[N, 2] x, float[1, 2] style) => (float[N, 2] y)
{FEW}
{{ g = ReduceMean <axes = [0], keepdims = 0> (style)
  [bn] y = BatchNormalization(x, g, b, m, v) }}
"""
    assert not checked(text, "BN002", tmp_path).findings


def test_bn002_is_not_about_statistics_that_follow_from_constants(tmp_path: Path) -> None:
    text = f"""
agraph (float[N, 2] x) => (float[N, 2] y)
{FEW}
{{ w = Mul(v, s)
  [bn] y = BatchNormalization(x, s, b, m, w) }}
"""
    assert not checked(text, "BN002", tmp_path).findings


def test_bn002_warns_of_arithmetic_that_normalises_by_the_batch(tmp_path: Path) -> None:
    text = """
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[1, 2, 1, 1] s = {1.5, 2.0}, float[1, 2, 1, 1] b = {0.5, -0.5}, float eps = {0.00001}>
{ m = ReduceMean <axes = [0, 2, 3]> (x)
  c = Sub(x, m)
  q = Mul(c, c)
  v = ReduceMean <axes = [0, 2, 3]> (q)
  w = Add(v, eps)
  r = Sqrt(w)
  n = Div(c, r)
  h = Mul(n, s)
  [out] y = Add(h, b) }
"""
    (found,) = checked(text, "BN002", tmp_path).findings

    assert found.severity is Severity.WARNING
    assert found.layer in found.message


def test_bn002_knows_the_kind_by_the_name_that_it_is_recognised_under() -> None:
    assert BY_THE_BATCH == lookalikes.BY_THE_BATCH


OVERRIDABLE = """
<ir_version: %d, opset_import: ["": 8]>
agraph (float[N, 2, 1, 1] x, float[2] s, float[2] b, float[2] m, float[2] v)
  => (float[N, 2, 1, 1] y)
<float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
"""


@pytest.mark.parametrize(("ir", "overridable"), [(3, False), (4, True), (8, True)])
def test_bn003_goes_by_the_ir_version_as_the_runtime_does(
    ir: int, overridable: bool, tmp_path: Path
) -> None:
    proto = parsed(OVERRIDABLE % ir)
    if ir < 4:
        proto.graph.input.append(
            onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2, 2, 1, 1])
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    kept = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}

    found = checked(proto, "BN003", tmp_path).findings

    # It folds what is constant, and only that.
    assert ("BatchNormalization" in kept) is overridable
    assert len(found) == overridable
    if overridable:
        assert found[0].fixable
        assert found[0].evidence["inputs"] == "s, b, m, v"


def test_bn003_names_the_one_parameter_that_is_an_input(tmp_path: Path) -> None:
    text = f"""
agraph (float[N, 2] x, float[2] m) => (float[N, 2] y)
{FEW}
{{ i = Identity(m)
  [bn] y = BatchNormalization(x, s, b, i, v) }}
"""
    (found,) = checked(text, "BN003", tmp_path).findings

    assert (
        found.message
        == "bn: its mean is also an input of the graph, and may be overridden at run time"
    )
    assert found.fixable
    assert found.evidence["inputs"] == "m"


def test_bn003_finds_what_a_function_is_given(tmp_path: Path) -> None:
    text = """
<ir_version: 8, opset_import: ["": 17, "own": 1]>
agraph (float[N, 2] x, float[2] v, float[2] fed) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] v = {1.0, 9.0}>
{ [call] y = own.norm(x, s, b, fed, v) }
<opset_import: ["": 17], domain: "own">
norm (x, s, b, m, v) => (y)
{ [bn] y = BatchNormalization(x, s, b, m, v) }
"""
    default, fed = checked(text, "BN003", tmp_path).findings

    assert "its var is also an input" in default.message
    assert default.fixable
    assert default.scope == ("call",)
    assert "its mean has no values in the file" in fed.message
    assert not fed.fixable


def test_bn003_is_not_about_what_a_loop_carries(tmp_path: Path) -> None:
    text = """
agraph (float[3, 2] x) => (float[3, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m0 = {0.25, -4.0},
 float[2] v = {1.0, 9.0}, int64 times = {2}, bool go = {1}>
{ last, y0 = Loop (times, go, m0, x) <body = body (int64 i, bool c, float[2] m, float[3, 2] h)
     => (bool c2, float[2] m2, float[3, 2] h2) {
       c2 = Identity(c)
       m2 = Mul(m, s)
       [bn] h2 = BatchNormalization(h, s, b, m, v)
     }>
  y = Identity(y0) }
"""
    file = checked(text, "BN003", tmp_path)

    assert file.layers == 1
    assert not file.findings


def test_bn004_is_silent_where_all_train_or_none_can_tell(tmp_path: Path) -> None:
    both = f"""
agraph (float[N, 2] x) => (float[N, 2] y)
{FEW}
{{ [one] h, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}
  [two] y, d, e = BatchNormalization <training_mode = 1> (h, s, b, m, v) }}
"""
    arithmetic = f"""
agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2] s = {{1.0, 2.0}}, float[2] b = {{0.5, -0.5}}, float[2] m = {{0.25, -4.0}},
 float[2] v = {{1.0, 9.0}}, float[1, 2, 1, 1] "net/batch_normalization/mul" = {{1.5, 0.5}},
 float[1, 2, 1, 1] "net/batch_normalization/sub" = {{0.5, -0.5}}>
{{ [one] k, a, c = BatchNormalization <training_mode = 1> {ARGUMENTS}
  r = Relu(k)
  [scale] h = Mul(r, "net/batch_normalization/mul")
  [shift] y = Add(h, "net/batch_normalization/sub") }}
"""
    affine = parsed(arithmetic)
    affine.graph.node[2].name = "net/batch_normalization/batchnorm/mul_1"
    affine.graph.node[3].name = "net/batch_normalization/batchnorm/add_1"
    for model in (both, affine):
        file = checked(model, "BN004", tmp_path)

        assert file.layers == 2
        assert not file.findings


def test_bn004_counts_both_and_names_the_fewer(tmp_path: Path) -> None:
    nodes = "\n".join(
        f"[n{at}] h{at + 1} = BatchNormalization(h{at}, s, b, m, v)" for at in range(5)
    )
    text = f"""
agraph (float[N, 2] h0) => (float[N, 2] y)
{FEW}
{{ {nodes}
  [left] y, a, c = BatchNormalization <training_mode = 1> (h5, s, b, m, v) }}
"""
    (found,) = checked(text, "BN004", tmp_path).findings

    assert found.message == (
        "1 of 6 BatchNorms normalise by the batch and the rest by their statistics; "
        "those that do: left"
    )
    assert found.evidence == {"training": 1, "inference": 5, "names": "left"}
