"""BatchNorms folded into the operator behind them, and those of which only a part is found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from restored_files import (
    Truth,
    assert_same_interface,
    assert_same_outputs,
    assert_truths,
)
from test_restore_edges import C, intercept, model, node, norm, restored, slope, truth

from inspector.facts.traced import Fate
from inspector.restore import large, restore

RNG = np.random.default_rng(23)
X = ["N", C, 6, 6]


def drawn(*shape: int) -> Any:
    return RNG.normal(0.0, 0.5, shape).astype(np.float32)


def by_input(weights: Any, values: Any, op_type: str, group: int) -> Any:
    """Weights with a number for each input channel in them."""
    if op_type == "MatMul":
        return weights * values[:, None]
    if op_type == "ConvTranspose":
        return weights * values[:, None, None, None]
    each = values.reshape(group, 1, -1, 1, 1)
    split = weights.reshape(group, -1, *weights.shape[1:])
    return (split * each).reshape(weights.shape)


def summed(weights: Any, op_type: str) -> Any:
    if op_type == "MatMul":
        return weights.sum(axis=0)
    if op_type == "ConvTranspose":
        return weights.sum(axis=(0, 2, 3))
    return weights.sum(axis=(1, 2, 3))


def pair(op_type: str, weights: Any, x: Any, **attributes: Any) -> tuple[Any, Any, Truth]:
    """A BatchNorm before an operator; and the operator that took it in."""
    each, bias = truth(x[-1] if op_type == "MatMul" else x[1]), drawn(4)
    bn, stored = norm("bn", "x", "h", each)
    group = attributes.get("group", 1)
    a, c = (part(each).astype(np.float64) for part in (slope, intercept))
    put_in = by_input(weights, a, op_type, group).astype(np.float32)
    more = summed(by_input(weights, c, op_type, group), op_type)
    folded = (bias + more).astype(np.float32)
    y = ["N", "d", "e", 4] if op_type == "MatMul" else ["N", 4, "d", "e"]
    if op_type == "MatMul":
        nodes = [node("MatMul", "h w", "m"), node("Add", "m b", "y")]
        bn_last = [node("Transpose", "x", "t", perm=[0, 3, 1, 2])]
        bn.input[0], bn.output[0] = "t", "u"
        kept_nodes = [*bn_last, bn, node("Transpose", "u", "h", perm=[0, 2, 3, 1]), *nodes]
        stock_nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "y")]
    else:
        kept_nodes = [bn, node(op_type, "h w b", "y", **attributes)]
        stock_nodes = [node(op_type, "x w b", "y", **attributes)]
    kept = model(kept_nodes, {**stored, "w": weights, "b": bias}, x=x, outputs={"y": y})
    stock = model(stock_nodes, {"w": put_in, "b": folded}, x=x, outputs={"y": y})
    return kept, stock, each


def stored_in(folder: Path) -> Mapping[str, Any]:
    graph = onnx.load(str(folder / "restored.onnx")).graph
    return {each.name: numpy_helper.to_array(each) for each in graph.initializer}


@pytest.mark.parametrize(
    ("op_type", "shape", "x", "attributes"),
    [
        ("Conv", (4, C, 3, 3), X, {}),
        ("Conv", (4, 2, 1, 1), ["N", 4, 6, 6], {"group": 2}),
        ("MatMul", (C, 4), ["N", 5, 6, C], {}),
    ],
    ids=["conv", "groups", "dense"],
)
def test_folded_forward(op_type: str, shape: Any, x: Any, attributes: Any, tmp_path: Path) -> None:
    weights = drawn(*shape)
    kept, stock, each = pair(op_type, weights, x, **attributes)
    found = restored(kept, stock, tmp_path)
    assert [(e.was, e.why_not) for e in found.outcomes] == [(Fate.FOLDED, "")]
    assert_truths(tmp_path / "restored.onnx", {"bn": each})
    assert stored_in(tmp_path)["w"].tobytes() == weights.tobytes()


def test_what_pads_with_zeros_is_left_and_said(tmp_path: Path) -> None:
    kept, stock, _ = pair("Conv", drawn(4, C, 3, 3), X, pads=[1, 1, 1, 1])
    (outcome,) = restored(kept, stock, tmp_path).outcomes
    assert outcome.why_not == (
        "it went into Conv 'n_y' behind it, which pads with zeros: with it back in its place, "
        "the edges would differ"
    )


def test_a_part_that_is_found_is_named(tmp_path: Path) -> None:
    """The slope is there; the intercept was merged with what nobody has."""
    each = truth()
    bn, stored = norm("bn", "x", "y", each)
    kept = model([bn], stored, x=X, outputs={"y": X})
    parts = {"s": slope(each).reshape(1, C, 1, 1), "t": drawn(1, C, 1, 1)}
    nodes = [node("Mul", "x s", "m"), node("Add", "m t", "y")]
    stock = model(nodes, parts, x=X, outputs={"y": X})
    (outcome,) = restored(kept, stock, tmp_path).outcomes
    assert outcome.why_not == (
        "Mul n_m holds its slope, but its intercept is not found: it was merged with other numbers"
    )


def test_what_is_too_large_for_one_file_gets_a_data_file(tmp_path: Path, monkeypatch: Any) -> None:
    """As beyond 1.5 GB: what is not touched is the same in every bit, and nothing is lost."""
    each, weights, table = truth(8), drawn(8, 64, 8, 8), drawn(8, 5000)
    bn, stored = norm("bn", "h", "z", each)
    put_in = (weights * slope(each).reshape(-1, 1, 1, 1)).astype(np.float32)
    x = ["N", 64, 8, 8]
    ends = [node("Flatten", "z", "f"), node("MatMul", "f table", "g"), node("Neg", "g", "y")]
    kept = model(
        [node("Conv", "x w", "h"), bn, *ends],
        {**stored, "w": weights, "table": table},
        x=x,
        outputs={"y": ["N", 5000]},
    )
    stock = model(
        [node("Conv", "x w b", "z"), *ends],
        {"w": put_in, "b": intercept(each), "table": table},
        x=x,
        outputs={"y": ["N", 5000]},
    )
    paths = [tmp_path / f"{name}.onnx" for name in ("stock", "kept", "out")]
    options = {"save_as_external_data": True, "size_threshold": 1024}
    onnx.save(stock, str(paths[0]), location="stock.data", **options)
    onnx.save(kept, str(paths[1]))
    monkeypatch.setattr(large, "LARGE", 100_000)
    found = restore(*paths)
    assert found.complete
    files = sorted(each.name for each in tmp_path.iterdir())
    assert files == ["kept.onnx", "out.onnx", "out.onnx.data", "stock.data", "stock.onnx"]
    assert found.size == sum((tmp_path / name).stat().st_size for name in files[1:3])
    proto = onnx.load(str(paths[2]), load_external_data=False)
    outside = {e.name for e in proto.graph.initializer if e.data_location}
    assert outside == {"w", "table"}
    assert_truths(paths[2], {"bn": each})
    arrays = {e.name: numpy_helper.to_array(e) for e in onnx.load(str(paths[2])).graph.initializer}
    assert arrays["w"].tobytes() == weights.tobytes()
    assert arrays["table"].tobytes() == table.tobytes()
    assert_same_interface(paths[0], paths[2])
    assert_same_outputs(paths[0], paths[2])
