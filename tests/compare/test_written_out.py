"""A BatchNorm that is written out as arithmetic against one that is a node: the same function."""

from __future__ import annotations

from dataclasses import replace

import forms
import numpy as np
import pytest

from inspector.facts.comparison import CauseKind, Verdict
from tests.compare.conftest import Compare

EPSILON = 1e-3


def _params(seed: int = 5) -> forms.Params:
    return forms.random_params(seed, 6, np.float32, EPSILON)


def _native(params: forms.Params) -> object:
    return forms.NATIVE_STORAGES["initializer"](params, front="relu").model


@pytest.mark.parametrize("form", forms.DECOMPOSED)
def test_each_form_is_equivalent_to_a_node(compare: Compare, form: str) -> None:
    written = forms.DECOMPOSED[form](_params(), front="relu").model

    found = compare(_native(_params()), written)
    mirrored = compare(written, _native(_params()))

    assert found.verdict is mirrored.verdict is Verdict.EQUIVALENT, found.reason
    assert found.parameters.bitwise == 4
    assert found.parameters.accounted_for


@pytest.mark.parametrize("form", forms.DECOMPOSED)
def test_another_number_in_it_is_named(compare: Compare, form: str) -> None:
    params = _params()
    mean = params.mean.copy()
    mean[2] += 0.5
    wrong = forms.DECOMPOSED[form](replace(params, mean=mean), front="relu").model

    found = compare(_native(params), wrong)

    assert found.verdict is Verdict.DIFFERENT
    assert [(each.kind, each.what) for each in found.causes] == [(CauseKind.PARAMETER, "mean")]
    assert found.explained


@pytest.mark.parametrize("form", ["tf", "Sub Div Mul Add"])
def test_another_epsilon_in_it_is_named(compare: Compare, form: str) -> None:
    wrong = forms.DECOMPOSED[form](replace(_params(), epsilon=1e-5), front="relu").model

    found = compare(_native(_params()), wrong)

    assert found.verdict is Verdict.DIFFERENT
    assert [each.kind for each in found.causes] == [CauseKind.EPSILON]
