"""A BatchNorm is recognised with its own values, however and wherever it is written."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from forms import (
    AFFINE,
    DECOMPOSED,
    KNOBS,
    NATIVE_STORAGES,
    Built,
    called_twice,
    in_function,
    in_if,
    random_params,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.facts.batchnorm import BatchNorm, Certainty, Form, Norms
from inspector.facts.model import Model
from inspector.flows import inspect_file
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms, load_affine, load_values

PARAMS = st.builds(
    random_params,
    seed=st.integers(0, 10**6),
    channels=st.integers(1, 64),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    epsilon=st.sampled_from([0.0, 1e-7, 1e-5, 1.001e-5, 1e-3, 1e-2]) | st.floats(1e-6, 1e-2),
)
PLACES = {
    "main graph": lambda built: built,
    "If, captured": lambda built: in_if(built, captured=True),
    "If, its own": lambda built: in_if(built, captured=False),
    "function, arguments": in_function,
    "function, its own": lambda built: in_function(built, stored=True),
    "function in If": lambda built: in_if(in_function(built)),
}


def knobs(table: str) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({name: st.sampled_from(of) for name, of in KNOBS[table].items()})


def read(model: onnx.ModelProto) -> tuple[Model, Norms]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        opened = open_model(path)
        return opened, find_batchnorms(opened)


def the_one(built: Built) -> tuple[Model, BatchNorm]:
    model, norms = read(built.model)
    (norm,) = norms.batchnorms
    assert not norms.affines
    assert not norms.lookalikes
    return model, norm


def assert_values(norm: BatchNorm, model: Model, built: Built) -> None:
    """All four parameters in every bit, and epsilon; slope and intercept follow from them."""
    expected, loaded = built.expected, load_values(norm, model)
    assert norm.channels == expected.channels
    for name in ("scale", "bias", "mean", "var"):
        ours, theirs = getattr(loaded, name), getattr(expected, name)
        assert ours.astype(np.float64).tobytes() == theirs.astype(np.float64).tobytes(), name
    assert norm.epsilon == float(expected.epsilon)
    np.testing.assert_array_max_ulp(loaded.slope, expected.slope, maxulp=2)


@settings(max_examples=40, deadline=None)
@given(params=PARAMS, place=st.sampled_from(sorted(PLACES)), data=st.data())
@pytest.mark.parametrize("storage", NATIVE_STORAGES)
def test_native(storage, params, place, data):
    built = NATIVE_STORAGES[storage](params, **data.draw(knobs("NATIVE_STORAGES")))
    model, norm = the_one(PLACES[place](built))
    assert norm.form is Form.NATIVE
    assert norm.axis == 1
    assert all(each.certainty is not Certainty.LOST for _, each in norm.parameters)
    assert_values(norm, model, built)


@settings(max_examples=40, deadline=None)
@given(params=PARAMS, place=st.sampled_from(sorted(PLACES)), data=st.data())
@pytest.mark.parametrize("arithmetic", DECOMPOSED)
def test_decomposed(arithmetic, params, place, data):
    drawn = data.draw(knobs("DECOMPOSED"))
    built = DECOMPOSED[arithmetic](params, **drawn)
    model, norm = the_one(PLACES[place](built))
    assert norm.form is Form.DECOMPOSED
    assert norm.momentum is None
    assert norm.op_type == ""
    assert_values(norm, model, built)
    if params.channels > 1:
        # Between two Transposes the channels lie elsewhere: the axis is that of what is entered.
        last = drawn["channels_last"] != drawn["transposed"]
        assert norm.axis in ((-1, drawn["rank"] - 1) if last else (1, 1 - drawn["rank"]))


@settings(max_examples=40, deadline=None)
@given(params=PARAMS, place=st.sampled_from(sorted(PLACES)), data=st.data())
@pytest.mark.parametrize("arithmetic", AFFINE)
def test_affine(arithmetic, params, place, data):
    drawn = data.draw(knobs("AFFINE"))
    made = AFFINE[arithmetic](params, **drawn)
    inside = PLACES[place](made)
    model, norms = read(inside.model)
    # A function's nodes are called anew: there the names of the outer graph say nothing.
    named = drawn["names"] == "keras" and "function" not in place
    found = norms.batchnorms if named else (*norms.batchnorms, *norms.affines)
    (one,) = found
    slope, intercept = load_affine(one.steps, one.channels, model)
    np.testing.assert_array_max_ulp(slope, made.slope, maxulp=2)
    scale = np.abs(made.intercept).max(initial=1.0)
    np.testing.assert_allclose(intercept, made.intercept, rtol=0, atol=4e-16 * scale)
    assert_claims_nothing_more(one)


def assert_claims_nothing_more(found: object) -> None:
    if isinstance(found, BatchNorm):
        assert found.form is Form.AFFINE
        assert found.epsilon is None
        assert found.momentum is None
        for _, parameter in found.parameters:
            assert parameter.certainty is Certainty.LOST
            assert parameter.tensor is None
            assert parameter.reason


@settings(max_examples=20, deadline=None)
@given(first=PARAMS, second=PARAMS, data=st.data())
@pytest.mark.parametrize("name", [*NATIVE_STORAGES, *DECOMPOSED])
def test_a_function_called_twice_is_two_norms(name, first, second, data):
    table = "NATIVE_STORAGES" if name in NATIVE_STORAGES else "DECOMPOSED"
    builder = NATIVE_STORAGES.get(name) or DECOMPOSED[name]
    alike = random_params(seed=5, channels=first.channels, dtype=first.dtype, epsilon=first.epsilon)
    twice = called_twice(builder, first, alike, **data.draw(knobs(table)))
    model, norms = read(twice.model)
    assert len(norms.batchnorms) == 2
    for norm, built in zip(norms.batchnorms, twice.calls, strict=True):
        assert_values(norm, model, built)


@settings(max_examples=10, deadline=None)
@given(params=PARAMS, data=st.data())
@pytest.mark.parametrize("arithmetic", DECOMPOSED)
def test_the_count_does_not_depend_on_the_form(arithmetic, params, data):
    """Statistics are statistics and scales are learned, in a node or in arithmetic."""
    drawn = data.draw(knobs("DECOMPOSED")) | {"front": "relu", "epsilon_as": "scalar"}
    whole = NATIVE_STORAGES["initializer"](params, rank=drawn["rank"], front="relu")
    apart = DECOMPOSED[arithmetic](params, **drawn)
    counts = []
    for built in (whole, apart):
        with TemporaryDirectory() as folder:
            onnx.save(built.model, Path(folder) / "model.onnx")
            counts.append(inspect_file(Path(folder) / "model.onnx").count)
    assert counts[0].keras == counts[1].keras
    assert counts[0].torch == counts[1].torch
