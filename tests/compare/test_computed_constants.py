"""Weights that a graph computes from stored numbers are the weights that another export stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from inspector.facts.comparison import CauseKind, Verdict
from inspector.read.open import open_model
from inspector.write.constants import MOST_BYTES, with_constants
from tests.compare.conftest import Compare

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
STORED = "t = MatMul(x, w)\nr = Relu(t)\ny = MatMul(r, v)"
RNG = np.random.default_rng(0)
W = RNG.standard_normal((16, 12), np.float32)
V = RNG.standard_normal((12, 4), np.float32)


def net(body: str = STORED, ir_version: int = 8, **stored: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEAD + f"g (float[N, 16] x) => (float[N, 4] y) {{\n{body}\n}}")
    tensors = {"w": W, "v": V, **stored}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in tensors.items())
    model.ir_version = ir_version
    return model


def written(kernel: np.ndarray, how: str) -> tuple[onnx.ModelProto, np.ndarray]:
    """A network whose first kernel is computed, and that kernel as its first weights stand."""
    half = kernel.astype(np.float16)
    norm = np.linalg.norm(kernel, axis=0, keepdims=True).astype(np.float32)
    body, stored, value = {
        "cast": ("k = Cast<to = 1>(w)", {"w": half}, half.astype(np.float32)),
        "double": ("k = Cast<to = 1>(w)", {"w": kernel.astype(np.float64)}, kernel),
        "scaled": (
            "k = Mul(w, s)",
            {"w": kernel / np.float32(4), "s": np.float32(4) * np.ones(1, np.float32)},
            kernel,
        ),
        "weight norm": (
            "n = ReduceL2<axes = [0], keepdims = 1>(w)\nd = Div(w, n)\nk = Mul(d, s)",
            {"w": kernel, "s": norm},
            kernel,
        ),
        "moved behind": (
            "c = Cast<to = 1>(w)\nk = Transpose<perm = [1, 0]>(c)",
            {"w": np.ascontiguousarray(half.T)},
            half.astype(np.float32),
        ),
        "a constant node": (
            "two = Constant<value = float {2.0}>()\nk = Mul(w, two)",
            {"w": kernel / np.float32(2)},
            kernel,
        ),
    }[how]
    return net(body + "\n" + STORED.replace("w)", "k)"), **stored), value


HOWS = ["cast", "double", "scaled", "weight norm", "moved behind", "a constant node"]


@pytest.mark.parametrize("how", HOWS)
def test_they_are_equivalent_to_the_stored_ones(compare: Compare, how: str) -> None:
    computed, kernel = written(W, how)

    for found in (compare(net(w=kernel), computed), compare(computed, net(w=kernel))):
        if how == "weight norm":  # a root and a division are rounded
            assert found.verdict is Verdict.AGREES
            assert all("rounded" in each.right for each in found.harmless)
            continue
        assert found.verdict is Verdict.EQUIVALENT, (found.reason, found.harmless)


@pytest.mark.parametrize("how", HOWS)
def test_one_column_that_differs_is_the_cause(compare: Compare, how: str) -> None:
    computed, kernel = written(W, how)
    kernel = kernel.copy()
    kernel[:, 5] += 0.25

    found = compare(net(w=kernel), computed)

    assert found.verdict is Verdict.DIFFERENT
    (cause,) = found.causes
    assert cause.kind is CauseKind.PARAMETER
    assert cause.what == "kernel"
    assert "0.25" in cause.right


def test_weights_rounded_in_storage_are_one_cause(compare: Compare) -> None:
    body = (
        "k = Cast<to = 1>(w)\nu = Cast<to = 1>(v)\nt = MatMul(x, k)\nr = Relu(t)\ny = MatMul(r, u)"
    )
    found = compare(net(), net(body, w=W.astype(np.float16), v=V.astype(np.float16)))

    (cause,) = found.causes
    assert cause.what == "weights rounded to float16"


def test_the_patched_model_has_them_stored(compare: Compare, tmp_path: Any) -> None:
    computed, kernel = written(W, "cast")
    path = tmp_path / "fixed.onnx"
    kernel = kernel + np.float32(0.25)

    found = compare(net(w=kernel), computed, patch_out=path)

    assert found.patched_to == str(path)
    assert compare(net(w=kernel), path).verdict is Verdict.IDENTICAL


@pytest.mark.parametrize("how", HOWS)
def test_the_function_stays(tmp_path: Any, how: str) -> None:
    computed, _ = written(W, how)
    path = tmp_path / "m.onnx"
    onnx.save(computed, path)

    folded = with_constants(open_model(path))

    assert folded is not None
    x = RNG.standard_normal((3, 16), np.float32)
    wanted, found = (
        ReferenceEvaluator(each).run(None, {"x": x})[0] for each in (computed, folded.weights.proto)
    )
    np.testing.assert_array_equal(wanted, found)
    assert {each.op_type for each in folded.graph.nodes if "k" in each.outputs} == set()


@pytest.mark.parametrize(
    ("body", "stored", "ir_version"),
    [
        (STORED, {}, 8),
        ("k = Transpose<perm = [1, 0]>(w)\n" + STORED.replace("w)", "k)"), {"w": W.T.copy()}, 8),
        ("k = Mul(w, x2)\nx2 = Neg(x)\ny = MatMul(k, v)", {}, 8),
    ],
)
def test_what_is_stored_moved_or_fed_is_left(
    tmp_path: Any, body: str, stored: dict[str, np.ndarray], ir_version: int
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(net(body, ir_version, **stored), path)
    assert with_constants(open_model(path)) is None


def test_a_default_that_may_be_fed_is_no_constant(tmp_path: Any) -> None:
    model, _ = written(W, "scaled")
    model.graph.input.append(onnx.helper.make_tensor_value_info("s", 1, [1]))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert with_constants(open_model(path)) is None
    model.ir_version = 3
    for each in model.graph.initializer:
        if each.name != "s":
            info = onnx.helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
            model.graph.input.append(info)
    onnx.save(model, path)
    assert with_constants(open_model(path)) is not None


def test_too_much_is_left_as_it_is(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(written(W, "cast")[0], path)
    assert W.nbytes < MOST_BYTES
    monkeypatch.setattr("inspector.write.constants.MOST_BYTES", W.nbytes - 1)
    assert with_constants(open_model(path)) is None


def test_a_bias_that_is_shaped_and_cast_like_another_value_is_a_constant(compare: Compare) -> None:
    """As PyTorch's exporter writes a convolution without a bias where it does not optimise."""
    kernel = RNG.standard_normal((5, 3, 1, 1), np.float32)
    norm = [RNG.random(5, np.float32) + np.float32(0.5) for _ in range(4)]

    def conv(body: str, **stored: np.ndarray) -> onnx.ModelProto:
        model = onnx.parser.parse_model(
            f"{HEAD}g (float[N, 3, 4, 4] x) => (float[N, 5, 4, 4] y) {{\n{body}\n}}"
        )
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in stored.items())
        return model

    kept = conv(
        """z = Constant<value = float {0.0}>()
        c = CastLike(z, x)
        s = Shape<start = 0, end = 1>(w)
        one = Constant<value_ints = [1]>()
        n = Expand(s, one)
        b = Expand(c, n)
        t = Conv(x, w, b)
        y = BatchNormalization(t, s0, s1, s2, s3)""",
        w=kernel,
        **{f"s{at}": each for at, each in enumerate(norm)},
    )
    slope = (norm[0].astype(np.float64) / np.sqrt(norm[3].astype(np.float64) + 1e-5)).astype("f4")
    folded = conv(
        "y = Conv(x, w, b)",
        w=kernel * slope[:, None, None, None],
        b=norm[1] - norm[2] * slope,
    )
    assert compare(kept, folded).verdict is Verdict.EQUIVALENT
    assert compare(folded, kept).verdict is Verdict.EQUIVALENT


def test_what_is_computed_from_words_is_no_error(compare: Compare) -> None:
    def words(other: float) -> onnx.ModelProto:
        model = onnx.parser.parse_model(
            """<ir_version: 9, opset_import: ["" : 19]>
            g (float[N, 2] x) => (float[N, 2] y) {
                e = Expand(s, n)
                q = Equal(e, t)
                z = Where(q, one, two)
                y = Mul(x, z)
            }"""
        )
        stored = {"n": np.array([2]), "one": np.float32(1), "two": np.float32(other)}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(each), name) for name, each in stored.items()
        )
        for name, each in {"s": ["a"], "t": ["a", "b"]}.items():
            model.graph.initializer.append(
                numpy_helper.from_array(np.array(each, dtype=object), name)
            )
        return model

    assert compare(words(2), words(2)).verdict is Verdict.IDENTICAL
    assert compare(words(2), words(3)).verdict is Verdict.DIFFERENT
