"""Each way in which a port goes wrong: found, named, proved, and located."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.compare.causes.explain import Explanation
from inspector.facts.comparison import CauseKind, Comparison, Proof, Verdict
from inspector.report import render
from tests.compare import branches
from tests.compare.branches import (
    attribute,
    behind,
    both,
    changed,
    element,
    exchanged,
    network,
    operator,
    swapped,
    tensor,
    without,
)
from tests.compare.conftest import Compare

BN = "BatchNormalization"

FAULTS = {
    # name: (change, kind, words of what differs, first place on the right)
    "epsilon": (attribute("bn2", "epsilon", 1e-3), CauseKind.EPSILON, "epsilon", f"{BN} 'bn2'"),
    "one mean": (element("bn1.mean", (3,), 0.5), CauseKind.PARAMETER, "mean", f"{BN} 'bn1'"),
    "one var": (element("bn3.var", (0,), 0.5), CauseKind.PARAMETER, "var", f"{BN} 'bn3'"),
    "mean and B": (
        exchanged("bn3.mean", "bn3.B"),
        CauseKind.PARAMETER,
        "B and mean",
        f"{BN} 'bn3'",
    ),
    "scale and var": (
        exchanged("bn1.scale", "bn1.var"),
        CauseKind.PARAMETER,
        "scale and var",
        f"{BN} 'bn1'",
    ),
    "training": (branches.training, CauseKind.MODE, "training mode:", f"{BN} 'bn2'"),
    "swapped subtraction": (swapped("sub"), CauseKind.ORDER, "order of inputs", "Sub 'sub'"),
    "swapped concat": (swapped("concat"), CauseKind.ORDER, "order of inputs", "Concat 'concat'"),
    "transposed": (
        tensor("dense1.kernel", np.transpose),
        CauseKind.PERMUTATION,
        "kernel",
        "Dense 'dense1'",
    ),
    "filters permuted": (
        tensor("conv2.kernel", lambda a: a[[1, 0, *range(2, 8)]]),
        CauseKind.PERMUTATION,
        "kernel",
        "Conv 'conv2'",
    ),
    "BGR": (
        tensor("conv1.kernel", lambda a: a[:, ::-1]),
        CauseKind.PREPROCESSING,
        "kernel",
        "Conv 'conv1'",
    ),
    "scaled input": (
        branches.scaled_input,
        CauseKind.PREPROCESSING,
        "Mul",
        "before Conv 'conv1'",
    ),
    "one weight": (
        element("conv3.kernel", (3, 2, 1, 1), 0.5),
        CauseKind.PARAMETER,
        "kernel",
        "Conv 'conv3'",
    ),
    "other activation": (
        operator("relu3", "LeakyRelu", alpha=0.1),
        CauseKind.OPERATOR,
        "Relu against LeakyRelu",
        "LeakyRelu 'relu3'",
    ),
    "tanh for sigmoid": (
        operator("sigmoid", "Tanh"),
        CauseKind.OPERATOR,
        "Sigmoid against Tanh",
        "Tanh 'sigmoid'",
    ),
    "alpha": (attribute("leaky", "alpha", 0.2), CauseKind.ATTRIBUTE, "alpha", "LeakyRelu 'leaky'"),
    "missing relu": (without("relu3"), CauseKind.MISSING, "Relu", "before AveragePool 'pool'"),
    "missing batchnorm": (without("bn2"), CauseKind.MISSING, BN, "Conv 'conv2'"),
    "extra relu": (behind("tanh", "Relu"), CauseKind.MISSING, "Relu", "before Dense 'dense2'"),
    "count_include_pad": (
        attribute("pool", "count_include_pad", 0),
        CauseKind.ATTRIBUTE,
        "count_include_pad",
        "AveragePool 'pool'",
    ),
    "pads": (
        attribute("conv2", "pads", [0, 0, 2, 2]),
        CauseKind.ATTRIBUTE,
        "pads",
        "Conv 'conv2'",
    ),
    "axis": (attribute("y", "axis", 0), CauseKind.ATTRIBUTE, "axis", "Softmax 'y'"),
    "float16": (
        branches.rounded,
        CauseKind.PRECISION,
        "weights rounded to float16",
        "Conv 'conv1'",
    ),
}


def check(found: Comparison, kind: CauseKind, what: str, first: str) -> None:
    assert found.verdict is Verdict.DIFFERENT
    assert [(each.kind, each.what) for each in found.causes] == [(kind, what)]
    (cause,) = found.causes
    assert cause.proof is Proof.NECESSARY
    assert cause.share == pytest.approx(1.0, abs=1e-3)
    assert found.explained
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right_where == first


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_proved_and_located(name: str, compare: Compare) -> None:
    change, kind, what, first = FAULTS[name]
    right = network()
    check(compare(network(), changed(right, change)), kind, what, first)


FOLDED = {
    "epsilon": (attribute("bn2", "epsilon", 1e-3), CauseKind.EPSILON, "epsilon", "Conv 'conv2'"),
    "one mean": (
        element("bn1.mean", (3,), 0.5),
        CauseKind.FOLDING,
        "offset (bias or mean)",
        "Conv 'conv1'",
    ),
    "one var": (
        element("bn3.var", (0,), 0.5),
        CauseKind.FOLDING,
        "slope (scale or var) or weights",
        "Conv 'conv3'",
    ),
    "alpha": FAULTS["alpha"],
    "swapped subtraction": FAULTS["swapped subtraction"],
    "other activation": FAULTS["other activation"],
}


@pytest.mark.parametrize("name", FOLDED)
def test_what_was_wrong_before_folding(name: str, compare: Compare) -> None:
    change, kind, what, first = FOLDED[name]
    right = changed(network(), both(change, branches.folded))
    check(compare(network(), right), kind, what, first)


def test_the_epsilon_that_was_folded_in_is_told(compare: Compare) -> None:
    right = changed(network(), both(attribute("bn2", "epsilon", 1e-3), branches.folded))
    (cause,) = compare(network(), right).causes
    assert (cause.left, cause.right) == ("1e-05", "0.001 folded in")
    (cause,) = compare(right, network()).causes
    assert (cause.left, cause.right) == ("0.001 folded in", "1e-05")


def test_the_channels_that_differ_are_told(compare: Compare) -> None:
    right = changed(network(), both(element("bn1.mean", (3,), 0.5), branches.folded))
    (cause,) = compare(network(), right).causes
    assert cause.right == "other numbers in 1 of 8 channels (3)"


def test_a_folded_copy_is_equivalent_both_ways(compare: Compare) -> None:
    right = changed(network(), branches.folded)
    for found in (compare(network(), right), compare(right, network())):
        assert found.verdict is Verdict.EQUIVALENT
        assert found.parameters is not None
        assert found.parameters.folded == 3 * 6
        assert found.localisation is None


def test_several_causes_each_have_their_share(compare: Compare) -> None:
    changes = [FAULTS[name][0] for name in ("missing relu", "alpha", "epsilon")]
    found = compare(network(), changed(network(), both(*changes)))
    assert [each.what for each in found.causes] == ["epsilon", "alpha", "Relu"]
    for each in found.causes:
        assert each.proof is Proof.NECESSARY
        assert each.share is not None
        assert 0.0 <= each.share < 1.0
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right_where == f"{BN} 'bn2'"


def test_growth_leads_from_the_first_place_to_the_output(compare: Compare) -> None:
    found = compare(network(), changed(network(), FAULTS["alpha"][0]))
    where = found.localisation
    assert where is not None
    assert where.first == where.points[0]
    assert where.points[-1].right == "y"
    assert not any(each.within for each in where.points)
    names = [each.right_where for each in where.points]
    assert "Conv 'conv2'" not in names
    assert names.index("LeakyRelu 'leaky'") < names.index("Sub 'sub'") < names.index("Conv 'conv3'")


def test_a_wire_to_the_wrong_place_is_located(compare: Compare) -> None:
    def rewired(model: onnx.ModelProto) -> None:
        branches.node(model, "sub").input[1] = "bn2"

    found = compare(network(), changed(network(), rewired))
    assert found.verdict is Verdict.DIFFERENT
    assert found.explained
    assert found.causes
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right_where in ("Sub 'sub'", "before Sub 'sub'")


class TestPatchOut:
    def test_the_patched_model_is_the_left_one(self, compare: Compare, tmp_path: Path) -> None:
        changes = [
            FAULTS[name][0] for name in ("missing relu", "alpha", "epsilon", "swapped concat")
        ]
        wrong = changed(network(), both(*changes))
        fixed = tmp_path / "fixed.onnx"
        assert compare(network(), wrong, patch_out=fixed).verdict is Verdict.DIFFERENT
        onnx.checker.check_model(fixed)
        assert compare(network(), fixed).verdict in (Verdict.EQUIVALENT, Verdict.IDENTICAL)

    def test_nothing_is_written_where_nothing_is_wrong(
        self, compare: Compare, tmp_path: Path
    ) -> None:
        fixed = tmp_path / "fixed.onnx"
        compare(network(), network(), patch_out=fixed)
        assert not fixed.exists()


def test_swapping_sides_mirrors_causes(compare: Compare) -> None:
    for name in ("epsilon", "swapped subtraction", "missing relu", "other activation"):
        change, kind, _, _ = FAULTS[name]
        right = changed(network(), change)
        one, other = compare(network(), right), compare(right, network())
        assert [each.kind for each in one.causes] == [each.kind for each in other.causes] == [kind]
        assert one.causes[0].effect == pytest.approx(other.causes[0].effect, rel=1e-3)


def test_little_memory_means_more_passes_and_the_same_answer(compare: Compare) -> None:
    from inspector.compare.locating import sweep

    right = changed(network(), FAULTS["alpha"][0])
    whole = compare(network(), right)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "_COPIES", 10**6)
        chunked = compare(network(), right)
    assert whole.localisation == chunked.localisation


def test_what_was_not_looked_for_any_more_is_said(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two faults that only the left side's values mend, where one may be mended."""
    from inspector.compare.locating import repair
    from inspector.report import render

    def otherwise(model: onnx.ModelProto) -> None:
        for name in ("leaky", "tanh"):
            own = branches.node(model, name)
            own.op_type = "Softplus"
            del own.attribute[:]

    def no_patches(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(repair, "MOST_FAULTS", 1)
    monkeypatch.setattr(repair, "_groups", no_patches)
    monkeypatch.setattr("inspector.compare.locating.diagnose.explain", _unsettled)
    found = compare(network(), changed(network(), otherwise))
    assert found.localisation is not None
    assert found.localisation.reason == "no more causes were looked for: more than 1 places differ"
    assert "no more causes were looked for" in render(found, "text")


def _unsettled(*_: object) -> Explanation:
    return Explanation(explained=False)


def test_a_fault_that_is_an_output_is_told_once(compare: Compare) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 3] y)'
    swapped = "{ a, b = Split<axis = 1>(x)\nc = Concat<axis = 1>(b, a)\ny = MatMul(c, w) }"
    models = [onnx.parser.parse_model(head + body) for body in (swapped, "{ y = MatMul(x, w) }")]
    kernel = np.random.default_rng(0).standard_normal((8, 3), np.float32)
    for each in models:
        each.graph.initializer.append(numpy_helper.from_array(kernel, "w"))

    found = compare(*models)

    (cause,) = found.causes
    assert cause.proof is Proof.LOCATED
    assert "Concat" in cause.what
    assert "missing on the" not in render(found, "text")
