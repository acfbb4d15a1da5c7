"""Copies of models with small changes; ONNX's reference evaluator says what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from inspector.errors import UndecidedError
from inspector.facts.patch import (
    Bypass,
    InsertAfter,
    Patch,
    SetAttribute,
    SetInput,
    SetOutputCount,
)
from inspector.read.open import open_model
from inspector.write.patch import patched

CHAIN = """<ir_version: 8, opset_import: ["" : 17]>
g (float[3] x) => (float[3] y) <float[3] c = {1, 2, 3}>
{ a = LeakyRelu <alpha: float = 0.5> (x) b = Mul(a, c) y = Add(b, x) }"""
X = np.array([-2, 4, 6], np.float32)


def run(
    tmp_path: Path, patches: Sequence[Patch], text: str = CHAIN, x: np.ndarray = X
) -> np.ndarray:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    before = path.read_bytes()
    data = patched(open_model(path), patches).data
    assert path.read_bytes() == before
    made = onnx.ModelProto.FromString(data)
    onnx.checker.check_model(made)
    (found,) = ReferenceEvaluator(made).run(None, {"x": x})
    return np.asarray(found)


def leaky(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x < 0, alpha * x, x)


C = np.array([1, 2, 3], np.float32)


def insert(value: str, op: str, constant: float) -> InsertAfter:
    return InsertAfter(
        value=value, op_type=op, domain="", attributes={}, constants={1: np.float32(constant)}
    )


def test_no_patch_is_a_copy(tmp_path: Path) -> None:
    np.testing.assert_allclose(run(tmp_path, []), leaky(X, 0.5) * C + X)


def test_attributes_are_set_and_removed(tmp_path: Path) -> None:
    changed = run(tmp_path, [SetAttribute(node="a", name="alpha", value=0.25)])
    np.testing.assert_allclose(changed, leaky(X, 0.25) * C + X)
    removed = run(tmp_path, [SetAttribute(node="a", name="alpha", value=None)])
    np.testing.assert_allclose(removed, leaky(X, 0.01) * C + X)


def test_inputs_are_set_for_one_reader_alone(tmp_path: Path) -> None:
    text = CHAIN.replace("Add(b, x)", "Add(b, c)")
    values = np.array([5, 5, 5], np.float32)
    changed = run(tmp_path, [SetInput(node="b", position=1, values=values)], text)
    np.testing.assert_allclose(changed, leaky(X, 0.5) * 5 + C)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("a", (leaky(X, 0.5) + 1) * 10 * C + X),
        ("y", (leaky(X, 0.5) * C + X + 1) * 10),
        ("x", leaky((X + 1) * 10, 0.5) * C + (X + 1) * 10),
    ],
)
def test_insertions_keep_their_order(tmp_path: Path, value: str, wanted: np.ndarray) -> None:
    both = [insert(value, "Add", 1), insert(value, "Mul", 10)]
    np.testing.assert_allclose(run(tmp_path, both), wanted)


def test_insertions_come_after_changes_to_the_same_node(tmp_path: Path) -> None:
    patches = [insert("a", "Add", 1), SetAttribute(node="a", name="alpha", value=0.25)]
    np.testing.assert_allclose(run(tmp_path, patches), (leaky(X, 0.25) + 1) * C + X)


def test_bodies_read_what_stands_behind_an_input(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[3] x) => (float[3] y) { c = Constant <value = bool {1}> ()
    y = If (c) <then_branch = t () => (float[3] o) { o = Neg(x) },
    else_branch = e () => (float[3] p) { p = Abs(x) }> }"""
    np.testing.assert_allclose(run(tmp_path, [insert("x", "Add", 1)], text), -(X + 1))


def test_operators_are_passed_by(tmp_path: Path) -> None:
    np.testing.assert_allclose(run(tmp_path, [Bypass(node="a", keep=0)]), X * C + X)


def test_outputs_are_dropped_and_added(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[4, 2] x) => (float[4, 2] y) <float[2] s = {1, 2}, float[2] m = {0, 0}>
    { y, rm, rv = BatchNormalization <training_mode: int = 1> (x, s, m, m, s) }"""
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    inference: list[Patch] = [
        SetAttribute(node="y", name="training_mode", value=0),
        SetOutputCount(node="y", count=1),
    ]
    scale = np.array([1, 2], np.float32)
    slope = scale / np.sqrt(scale + 1e-5)
    np.testing.assert_allclose(run(tmp_path, inference, text, x), x * slope, rtol=1e-5)
    plain = text.replace("y, rm, rv", "y").replace(" <training_mode: int = 1>", "")
    training: list[Patch] = [
        SetAttribute(node="y", name="training_mode", value=1),
        SetOutputCount(node="y", count=3),
    ]
    wanted = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5) * scale
    np.testing.assert_allclose(run(tmp_path, training, plain, x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "patch",
    [
        SetAttribute(node="nowhere", name="alpha", value=1.0),
        SetAttribute(node="a", name="alpha", value=object()),  # type: ignore[arg-type]  # the point
        Bypass(node="nowhere", keep=0),
        insert("nowhere", "Add", 1),
    ],
)
def test_what_cannot_be_patched_is_said(tmp_path: Path, patch: Patch) -> None:
    with pytest.raises(UndecidedError):
        run(tmp_path, [patch])


def test_an_empty_list_is_no_attribute(tmp_path: Path) -> None:
    changed = run(tmp_path, [SetAttribute(node="a", name="alpha", value=())])
    np.testing.assert_allclose(changed, leaky(X, 0.01) * C + X)


def test_a_node_that_is_passed_by_takes_no_more_patches(tmp_path: Path) -> None:
    twice: list[Patch] = [Bypass(node="y", keep=1), Bypass(node="y", keep=1)]
    twice.append(SetInput(node="y", position=1, values=np.zeros(3, np.float32)))
    np.testing.assert_allclose(run(tmp_path, twice), X)
