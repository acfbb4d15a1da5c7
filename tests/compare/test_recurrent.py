"""Recurrent layers that go wrong in ways of their own: gates, directions, biases, first states."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.facts.comparison import Comparison, Proof, Verdict
from tests.compare.conftest import Compare

HIDDEN, READ = 4, 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Stored = dict[str, np.ndarray[Any, Any]]


def drawn(*shape: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(shape)
    return np.asarray(rng.normal(size=shape) * 0.6, np.float32)


def weights(op: str, directions: int = 1) -> Stored:
    size = GATES[op] * HIDDEN
    return {
        "W": drawn(directions, size, READ),
        "R": drawn(directions, size, HIDDEN),
        "B": drawn(directions, 2 * size),
    }


def reordered(stored: Stored, gates: list[int], *names: str) -> Stored:
    """Gates in another order, in all tensors or those that are named."""

    def moved(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        both = 2 if name == "B" else 1
        parts = values.reshape(len(values), both, len(gates), HIDDEN, -1)[:, :, gates]
        return np.ascontiguousarray(parts.reshape(values.shape))

    return {k: moved(k, v) if k in (names or "WRB") else v for k, v in stored.items()}


def layer(op: str, stored: Stored, attributes: str = "") -> onnx.ModelProto:
    """A recurrent layer, and a dense one behind it."""
    places = ("W", "R", "B", "", "h", "c")
    names = ", ".join(name if name in stored else "" for name in places).rstrip(", ")
    directions = len(stored["W"])
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    text = f"""{head} g (float[5, 2, {READ}] x) => (float[5, 2, 3] y) {{
        o = {op} <hidden_size = {HIDDEN}{attributes}> (x, {names})
        t = Transpose <perm = [0, 2, 1, 3]> (o) f = Reshape (t, s) y = MatMul (f, d) }}"""
    model = onnx.parser.parse_model(text)
    more = {"s": np.array([5, 2, -1]), "d": drawn(directions * HIDDEN, 3)}
    for name, values in (stored | more).items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def the_cause(found: Comparison) -> tuple[str, str, str]:
    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert cause.proof is Proof.NECESSARY
    assert found.localisation is not None
    assert found.localisation.first is not None
    assert found.localisation.first.right_where == cause.right_where
    return cause.what, cause.left, cause.right


@pytest.mark.parametrize(
    ("op", "order", "said"),
    [
        ("LSTM", [0, 2, 3, 1], ("i, o, f, c", "i, f, c, o")),
        ("LSTM", [0, 2, 1, 3], ("i, o, f, c", "i, f, o, c")),
        ("GRU", [1, 0, 2], ("z, r, h", "r, z, h")),
    ],
)
def test_gates_in_another_order_are_one_cause(
    compare: Compare, op: str, order: list[int], said: tuple[str, str]
) -> None:
    stored = weights(op)
    right, wrong = layer(op, stored), layer(op, reordered(stored, order))
    assert the_cause(compare(right, wrong)) == ("order of gates", *said)
    what, _, _ = the_cause(compare(wrong, right))
    assert what == "order of gates"


def test_gates_of_one_tensor_alone_are_said_to_be_of_that(compare: Compare) -> None:
    stored = weights("GRU")
    wrong = layer("GRU", reordered(stored, [1, 0, 2], "R"))
    what, _, _ = the_cause(compare(layer("GRU", stored), wrong))
    assert what == "order of gates in R"


def test_directions_that_are_swapped_are_one_cause(compare: Compare) -> None:
    stored = weights("LSTM", 2)
    both = ', direction = "bidirectional"'
    turned = {name: np.ascontiguousarray(each[::-1]) for name, each in stored.items()}
    found = compare(layer("LSTM", stored, both), layer("LSTM", turned, both))
    assert the_cause(found) == ("directions", "forward, reverse", "reverse, forward")
    gates = reordered(turned, [0, 2, 3, 1])
    found = compare(layer("LSTM", stored, both), layer("LSTM", gates, both))
    assert the_cause(found)[0] == "directions and order of gates"


def test_biases_of_the_state_that_are_zeros_are_named(compare: Compare) -> None:
    stored = weights("LSTM")
    half = stored | {"B": stored["B"] * np.repeat(np.float32([1, 0]), 4 * HIDDEN)}
    whole, less = layer("LSTM", stored), layer("LSTM", half)
    assert the_cause(compare(whole, less)) == ("biases of the state (Rb)", "present", "zeros")
    assert the_cause(compare(less, whole)) == ("biases of the state (Rb)", "zeros", "present")


@pytest.mark.parametrize(("name", "what"), [("B", "B"), ("h", "initial_h"), ("c", "initial_c")])
def test_what_one_side_lacks_is_put_in(compare: Compare, name: str, what: str) -> None:
    stored = weights("LSTM") | {"h": drawn(1, 2, HIDDEN), "c": drawn(1, 2, HIDDEN)}
    less = {key: each for key, each in stored.items() if key != name}
    assert the_cause(compare(layer("LSTM", stored), layer("LSTM", less)))[0] == what
    assert the_cause(compare(layer("LSTM", less), layer("LSTM", stored)))[0] == what


def test_first_states_that_are_swapped_are_one_cause(compare: Compare) -> None:
    one, other = drawn(1, 2, HIDDEN), 2 * drawn(1, 2, HIDDEN)
    stored = weights("LSTM")
    found = compare(
        layer("LSTM", stored | {"h": one, "c": other}),
        layer("LSTM", stored | {"h": other, "c": one}),
    )
    assert the_cause(found) == ("initial_c and initial_h", "each in its place", "swapped")


def test_biases_that_come_to_the_same_are_no_difference_of_outputs(compare: Compare) -> None:
    stored = weights("LSTM")
    size = 4 * HIDDEN
    summed = np.zeros_like(stored["B"])
    summed[:, :size] = stored["B"][:, :size] + stored["B"][:, size:]
    found = compare(layer("LSTM", stored), layer("LSTM", stored | {"B": summed}))
    assert found.verdict in (Verdict.AGREES, Verdict.EQUIVALENT)
