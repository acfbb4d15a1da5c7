"""Several constants of one operator: each is compared, in whatever order they are written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import CauseKind, Proof, Verdict
from tests.compare.conftest import Compare

ONE = (Verdict.IDENTICAL, Verdict.EQUIVALENT)


@pytest.fixture(autouse=True)
def _nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from constants stays in the graph, as where it would be too much."""
    monkeypatch.setattr("inspector.write.constants.MOST_BYTES", 0)


def normalised(
    var: tuple[float, ...],
    *,
    first: str = "var, eps",
    beta: float = 0.1,
    eps: float = 1e-3,
    scaled: str = "gamma, g2",
) -> onnx.ModelProto:
    """A BatchNorm that is ground down to arithmetic on its stored parameters, and a Relu."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21]> g (float[N, 4] x) => (float[N, 4] y) {{
            h = MatMul (x, w)
            ve = Add ({first})
            sd = Sqrt (ve)
            gg = Mul ({scaled})
            k = Div (gg, sd)
            n = Mul (h, k)
            b = Add (n, beta)
            y = Relu (b) }}"""
    )
    rng = np.random.default_rng(2)
    stored = {
        "w": rng.standard_normal((4, 4)),
        "var": np.array(var),
        "eps": np.array(eps),
        "gamma": np.array([1, 1.5, 0.7, 1]),
        "g2": np.array([1, 2, 1, 0.5]),
        "beta": np.array([0, 0.1, beta, 0.3]),
    }
    for name, values in stored.items():
        kept = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(kept)
    return model


PLAIN, OTHER = (1, 2, 1, 0.5), (1, 2, 100, 0.5)
DEAD = -500


@pytest.mark.parametrize("first", ["var, eps", "eps, var"])
def test_the_first_of_two_constants_counts_where_no_input_shows_it(
    compare: Compare, first: str
) -> None:
    left = normalised(PLAIN, beta=DEAD)
    right = normalised(OTHER, first=first, beta=DEAD)
    for sides in ((left, right), (right, left)):
        found = compare(*sides)
        assert found.verdict is Verdict.AGREES
        assert found.parameters is not None
        assert found.parameters.differing >= 1


@pytest.mark.parametrize("first", ["var, eps", "eps, var"])
def test_it_is_the_cause_where_inputs_show_it(compare: Compare, first: str) -> None:
    found = compare(normalised(PLAIN), normalised(OTHER, first=first))
    assert found.verdict is Verdict.DIFFERENT
    assert found.explained
    (cause,) = found.causes
    assert (cause.what, cause.left_where, cause.proof) == ("operand", "Add 've'", Proof.NECESSARY)


def test_so_is_the_second(compare: Compare) -> None:
    found = compare(normalised(PLAIN), normalised(PLAIN, eps=0.3))
    assert found.verdict is Verdict.DIFFERENT
    assert found.explained


def test_their_order_is_the_exporters(compare: Compare) -> None:
    left = normalised(PLAIN)
    assert compare(left, normalised(PLAIN)).verdict is Verdict.IDENTICAL
    for each in (
        normalised(PLAIN, first="eps, var"),
        normalised(PLAIN, scaled="g2, gamma"),
        normalised(PLAIN, first="eps, var", scaled="g2, gamma"),
    ):
        assert compare(left, each).verdict in ONE
        assert compare(each, left).verdict in ONE


def bound(operator: str, *stored: str) -> str:
    """x, cut off at what `operator` makes of constants, which is far beyond what is fed."""
    names = "abcd"[: len(stored)]
    given = ", ".join(f"float {n} = {{{v}}}" for n, v in zip(names, stored, strict=True))
    return f"""<ir_version: 10, opset_import: ["" : 21]> g (float[N, 4] x) => (float[N, 4] y)
        <{given}> {{ t = {operator} ({", ".join(names)}) y = Min (x, t) }}"""


COMMUTING = ("Add", "Mul", "Min", "Max", "Mean", "Sum")


@pytest.mark.parametrize("operator", COMMUTING)
def test_each_constant_of_an_operator_that_commutes_counts(compare: Compare, operator: str) -> None:
    left = bound(operator, "1000", "1500")
    for other in (("1200", "1500"), ("1500", "1200"), ("1000", "1700"), ("1700", "1000")):
        found = compare(left, bound(operator, *other))
        assert found.verdict is Verdict.AGREES
        assert [each.what for each in found.harmless] == ["operand"]
    assert compare(left, bound(operator, "1500", "1000")).verdict in ONE


@pytest.mark.parametrize("operator", ["Min", "Max", "Mean", "Sum"])
def test_so_does_each_of_three(compare: Compare, operator: str) -> None:
    left = bound(operator, "1000", "1500", "2000")
    assert compare(left, bound(operator, "2000", "1000", "1500")).verdict in ONE
    found = compare(left, bound(operator, "2000", "1000", "1600"))
    assert found.verdict is Verdict.AGREES
    assert [each.what for each in found.harmless] == ["operand"]
    found = compare(left, bound(operator, "2000", "1000", "1500", "1700"))
    assert found.verdict is Verdict.AGREES


def test_a_bound_that_inputs_reach_is_the_cause(compare: Compare) -> None:
    found = compare(bound("Add", "0.25", "0.5"), bound("Add", "0.5", "0.75"))
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert (cause.kind, cause.what, cause.proof) == (
        CauseKind.PARAMETER,
        "operand",
        Proof.NECESSARY,
    )


def test_constants_of_an_operator_that_does_not_commute_keep_their_places(
    compare: Compare,
) -> None:
    found = compare(bound("Sub", "5000", "1500"), bound("Sub", "1500", "5000"))
    assert found.verdict is Verdict.DIFFERENT
    found = compare(bound("Sub", "5000", "1500"), bound("Sub", "7000", "1500"))
    assert found.verdict is Verdict.AGREES


def test_integers_that_commute_have_no_order_either(compare: Compare) -> None:
    def shifted(first: str, a: int, b: int) -> str:
        return f"""<ir_version: 10, opset_import: ["" : 21]>
            g (float[N, 4] x) => (float[N, 4] y) <int64 a = {{{a}}}, int64 b = {{{b}}}> {{
            i = Cast <to = 7> (x) s = Add ({first}) p = Mul (a, b) t = Add (s, p)
            y = Cast <to = 1> (t) }}"""

    left = shifted("i, a", 3, 4)
    assert compare(left, shifted("a, i", 3, 4)).verdict in ONE
    assert compare(left, shifted("b, i", 4, 3)).verdict in ONE
    assert compare(left, shifted("a, i", 4, 3)).verdict is Verdict.DIFFERENT
