"""Momentum, which counts where something reads the statistics that it updates."""

from __future__ import annotations

from inspector.facts.comparison import CauseKind, Proof, Verdict
from tests.compare.conftest import Compare


def trained(momentum: float, *, updates: str = ", m, v", use: str = "") -> str:
    """A BatchNorm that normalises by the batch; `use` is what comes of `v` in y.

    What it updates is fed: ONNX Runtime writes over what is stored, and no run is as the last.
    """
    return f"""<ir_version: 8, opset_import: ["" : 15]>
        g (float[N, 3, 4, 4] x, float[3] mean, float[3] var) => (float[N, 3, 4, 4] y)
        <float[3] scale = {{1, 2, 1}}, float[3] b = {{0, 1, 0}}, float far = {{100000}}> {{
            t{updates} = BatchNormalization <training_mode = 1, momentum = {momentum}> (
                x, scale, b, mean, var)
            {use or "y = Relu (t)"}
        }}"""


HIDDEN = """k = ReduceMax <keepdims = 0> (v) beyond = Greater (k, far)
    h = Relu (t) y = Where (beyond, x, h)"""
SHOWN = "k = ReduceMax <keepdims = 0> (v) y = Add (x, k)"


def test_where_updates_are_used_out_of_sight_it_is_listed(compare: Compare) -> None:
    found = compare(trained(0.9, use=HIDDEN), trained(0.99, use=HIDDEN))
    assert found.verdict is Verdict.AGREES
    assert [(each.what, each.left) for each in found.harmless] == [("momentum", "0.9")]
    assert found.information == ()


def test_where_they_are_seen_it_is_the_cause(compare: Compare) -> None:
    found = compare(trained(0.9, use=SHOWN), trained(0.6, use=SHOWN))
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert (cause.kind, cause.what, cause.proof) == (
        CauseKind.ATTRIBUTE,
        "momentum",
        Proof.NECESSARY,
    )


def test_where_nothing_reads_them_it_is_information(compare: Compare) -> None:
    found = compare(trained(0.9), trained(0.99))
    assert found.verdict is Verdict.EQUIVALENT
    assert found.information[0].startswith("momentum 0.9 against 0.99")


def test_an_output_of_the_model_reads_them(compare: Compare) -> None:
    def given(momentum: float) -> str:
        return trained(momentum).replace("y)\n", "y, float[3] v)\n", 1)

    found = compare(given(0.9), given(0.8))
    assert found.verdict is Verdict.DIFFERENT
    assert [each.what for each in found.causes] == ["momentum"]
