"""What forms.py makes is valid, and is the BatchNorm it says: by onnx's own evaluator."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import forms
import numpy as np
import onnx
import pytest
from forms import AFFINE, DECOMPOSED, NATIVE_STORAGES, Affine, Built, Params

EPSILON = 1e-3
BUILDERS = {**NATIVE_STORAGES, **DECOMPOSED, **AFFINE}
TABLES = {"NATIVE_STORAGES": NATIVE_STORAGES, "DECOMPOSED": DECOMPOSED, "AFFINE": AFFINE}
ROUNDINGS = 3
"""What the dtype may round on the way, in its epsilon of what is summed; 1.3 was seen."""


def made(name: str, *, dtype: str = "float32", channels: int = 7, **knobs: Any) -> Any:
    params = forms.random_params(len(name) + channels, channels, dtype, EPSILON)
    return BUILDERS[name](params, **knobs)


def feeds(model: onnx.ModelProto, *, take: bool = True) -> dict[str, Any]:
    (x, *others) = model.graph.input
    dtype = onnx.helper.tensor_dtype_to_np_dtype(x.type.tensor_type.elem_type)
    dims = [each.dim_value or 2 for each in x.type.tensor_type.shape.dim]
    data = np.random.default_rng(0).uniform(-3, 3, dims).astype(dtype)
    return {"x": data, **{each.name: np.array(take) for each in others}}


def ran(model: onnx.ModelProto, entered: str, *, take: bool = True) -> tuple[Any, Any]:
    """What entered the norm and what left it."""
    onnx.checker.check_model(model, full_check=True)
    return tuple(forms.reference(model).run([entered, "y"], feeds(model, take=take)))


def line(built: Built | Affine) -> tuple[Any, Any]:
    if isinstance(built, Affine):
        return built.slope, built.intercept
    return built.expected.slope, built.expected.intercept


def right(built: Built | Affine, x: Any, *, channels_last: bool) -> tuple[Any, Any]:
    """The norm of x in float64, and the largest number summed on the way to each element."""
    lines = [forms.along(each, x.ndim, channels_last=channels_last) for each in line(built)]
    x = x.astype(float)
    parts = np.abs(lines[0]) * (np.abs(x) + 2.1) + np.abs(lines[1]) + 2.1
    if isinstance(built, Affine):
        return lines[0] * x + lines[1], parts
    return forms.truth(built.expected, x, channels_last=channels_last), parts


def agrees(built: Built | Affine, *, channels_last: bool = False) -> None:
    x, y = ran(built.model, built.entered)
    true, parts = right(built, x, channels_last=channels_last)
    assert y.dtype == x.dtype
    assert (np.abs(y.astype(float) - true) <= ROUNDINGS * np.finfo(x.dtype).eps * parts).all()


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", forms.DTYPES)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_form_is_the_norm(name, dtype, channels_last, channels):
    built = made(name, dtype=dtype, channels_last=channels_last, channels=channels)
    agrees(built, channels_last=channels_last)


@pytest.mark.parametrize("dtype", forms.DTYPES)
@pytest.mark.parametrize("opset", [13, 18, 20])
@pytest.mark.parametrize("name", NATIVE_STORAGES)
def test_the_node_sees_what_is_expected(name, opset, dtype):
    built = made(name, dtype=dtype, opset=opset, names="keras")
    (node,) = (each for each in built.model.graph.node if each.op_type == "BatchNormalization")
    seen = forms.constants(built.model, node.input[1:])
    for values, expected in zip(seen, built.expected.tensors.values(), strict=True):
        np.testing.assert_array_equal(values, expected, strict=True)
        assert values.dtype == np.dtype(dtype)
    assert (built.expected.var > 0).all()


EXACT = sorted(
    NATIVE_STORAGES.keys()
    - {"Cast from narrower", "Expand", "ConstantOfShape", "arithmetic", "DequantizeLinear"}
)


@pytest.mark.parametrize("name", EXACT)
def test_most_storages_keep_the_parameters_as_they_are(name):
    params = forms.random_params(3, 4, "float32", EPSILON)
    built = NATIVE_STORAGES[name](params)
    for given, expected in zip(
        params.tensors.values(), built.expected.tensors.values(), strict=True
    ):
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("name", sorted(AFFINE.keys() - {"Mul", "Div"}))
def test_a_folded_line_is_near_the_norms(name):
    params = forms.random_params(3, 4, "float32", EPSILON)
    built = AFFINE[name](params)
    np.testing.assert_allclose(built.slope, params.slope, rtol=1e-6)
    np.testing.assert_allclose(built.intercept, params.intercept, rtol=1e-5, atol=1e-5)


def every_value_of_every_knob() -> list[tuple[str, str, dict[str, Any]]]:
    """Each value once with the others' defaults, and then many mixed by chance."""
    rng = np.random.default_rng(0)
    cases = []
    for table, builders in TABLES.items():
        names = itertools.cycle(builders)
        knobs = forms.KNOBS[table]
        cases += [(next(names), "float32", {k: v}) for k, vs in knobs.items() for v in vs]
        for _ in range(150):
            drawn = {k: vs[rng.integers(len(vs))] for k, vs in knobs.items()}
            cases.append((next(names), forms.DTYPES[rng.integers(3)], drawn))
    return cases


@pytest.mark.parametrize(("name", "dtype", "knobs"), every_value_of_every_knob())
def test_every_knob_leaves_it_the_norm(name, dtype, knobs):
    built = made(name, dtype=dtype, channels=3, **{"back": "output", **knobs})
    x, y = ran(built.model, built.entered)
    true, parts = right(built, x, channels_last=knobs.get("channels_last", False))
    if knobs.get("back") == "relu":
        true = np.maximum(true, 0)
    assert (np.abs(y.astype(float) - true) <= ROUNDINGS * np.finfo(x.dtype).eps * parts).all()


ELSEWHERE: list[Callable[[Any], Any]] = [
    lambda built: forms.in_if(built, captured=True),
    lambda built: forms.in_if(built, captured=False),
    lambda built: forms.in_function(built, stored=False),
    lambda built: forms.in_function(built, stored=True),
    lambda built: forms.in_if(forms.in_function(built)),
]


@pytest.mark.parametrize("front", forms.FRONTS)
@pytest.mark.parametrize("move", ELSEWHERE)
@pytest.mark.parametrize("name", BUILDERS)
def test_elsewhere_it_is_still_the_norm(name, move, front):
    agrees(move(made(name, front=front, channels=3)))


def test_an_if_not_taken_changes_nothing():
    built = forms.in_if(made("initializer"))
    x, y = ran(built.model, built.entered, take=False)
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("opset", [13, 18, 20])
@pytest.mark.parametrize("front", ["input", "conv"])
@pytest.mark.parametrize("name", BUILDERS)
def test_two_calls_are_two_norms(name, front, opset):
    first, second = (forms.random_params(seed, 3, "float64", EPSILON) for seed in (1, 2))
    twice = forms.called_twice(BUILDERS[name], first, second, front=front, opset=opset)
    x, y = ran(twice.model, twice.entered)
    one, two = twice.calls
    between, _ = right(one, x, channels_last=False)
    true, _ = right(two, between, channels_last=False)
    np.testing.assert_allclose(y, true, rtol=1e-9, atol=1e-9)


def test_plain_names_hint_at_nothing_and_keras_names_are_tf2onnx_s():
    plain = made("Mul Add", names="plain", front="input").model.graph
    hints = [each.name for each in (*plain.node, *plain.initializer)]
    assert hints == ["n2", "n3", "c0", "c1"]
    keras = made("Mul Add", names="keras", front="input").model.graph
    scope = "model/batch_normalization/batchnorm/"
    assert [each.name for each in keras.node] == [f"{scope}mul_1", f"{scope}add_1"]
    assert [each.name for each in keras.initializer] == [f"{scope}mul:0", f"{scope}sub:0"]


def stored_dims(**knobs: Any) -> list[list[int]]:
    graph = made("Sub Div Mul Add", front="input", channels=7, **knobs).model.graph
    whole = onnx.TensorProto.INT64
    return [list(each.dims) for each in graph.initializer if each.data_type != whole]


@pytest.mark.parametrize(
    ("knobs", "dims"),
    [
        ({"shape": "full"}, [1, 7, 1, 1]),
        ({"shape": "full", "channels_last": True}, [1, 1, 1, 7]),
        ({"shape": "full", "transposed": True}, [1, 1, 1, 7]),
        ({"shape": "tail"}, [7, 1, 1]),
        ({"shape": "tail", "channels_last": True}, [7]),
        ({"shape": "tail", "via": "late reshape"}, [7]),
        ({"shape": "full", "via": "unsqueezes"}, [7]),
    ],
)
def test_parameters_are_stored_in_the_shape(knobs, dims):
    assert stored_dims(**knobs)[:4] == [dims] * 4


@pytest.mark.parametrize(
    ("epsilon_as", "dims"), [("scalar", []), ("one", [1]), ("filled", [1, 7, 1, 1])]
)
def test_epsilon_is_stored_in_the_shape(epsilon_as, dims):
    assert stored_dims(epsilon_as=epsilon_as)[4] == dims


def test_random_parameters_are_of_the_dtype_and_the_same_again():
    one, two = (forms.random_params(5, 6, "float16", EPSILON) for _ in range(2))
    assert isinstance(one, Params)
    for first, second in zip(one.tensors.values(), two.tensors.values(), strict=True):
        assert first.dtype == np.float16
        np.testing.assert_array_equal(first, second)
