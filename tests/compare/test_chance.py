"""Models that draw random numbers say so: no rounding is why two runs of them differ."""

from __future__ import annotations

import pytest

from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare

HEAD = """<ir_version: 8, opset_import: ["" : %d]>
    g (float[N, 4] x) => (float[N, 4] y) <float r = {%s}, bool t = {%d}> {
        a = %s
        y = Relu(a)
    }"""

DRAWN = {
    "RandomNormalLike": (17, "0.5", 1, "RandomNormalLike<dtype = 1>(x)"),
    "RandomUniformLike": (17, "0.5", 1, "RandomUniformLike<dtype = 1>(x)"),
    "Bernoulli": (17, "0.5", 1, "Bernoulli(x)"),
    "Dropout": (17, "0.5", 1, "Dropout(x, r, t)"),
}
STILL = {
    "of nothing": (17, "0.0", 1, "Dropout(x, r, t)"),
    "not training": (17, "0.5", 0, "Dropout(x, r, t)"),
    "not asked to": (17, "0.5", 1, "Dropout(x, r)"),
    "of opset 7": (7, "0.5", 1, "Dropout(x)"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_it_is_said_which_side_draws(name: str, compare: Compare) -> None:
    found = compare(HEAD % DRAWN[name], HEAD % STILL["not training"])
    assert f"the left model draws random numbers anew at each run, in {name} 'a'" in (
        found.information
    )
    assert not any("the right model draws" in each for each in found.information)


@pytest.mark.parametrize("name", STILL)
def test_nothing_is_said_of_a_dropout_that_does_nothing(name: str, compare: Compare) -> None:
    found = compare(HEAD % STILL[name], HEAD % STILL["not training"])
    assert not any("draws random" in each for each in found.information)


def test_chance_is_the_reason_and_not_rounding(compare: Compare) -> None:
    found = compare(HEAD % DRAWN["Dropout"], HEAD % STILL["not training"])
    assert found.verdict is Verdict.UNDECIDED
    assert "draws random numbers" in found.reason
    assert "rounding" not in found.reason
