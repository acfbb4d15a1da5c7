"""The last step of an export: one file or two, verified or not, whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.compare.runtime.run import Fed, Runner
from inspector.errors import ExportDisagreesError
from inspector.export import feeds, manifests
from inspector.export.references import Reference, reference
from inspector.export.verify import ExpectedNorm
from inspector.facts.count import Role
from inspector.facts.export import Export
from inspector.facts.manifest import FrameworkTotals, Manifest, SourceTensor
from inspector.flows import inspect_file
from inspector.report import render

CHANNELS = 512
PARTS = ("scale", "bias", "mean", "var")
RNG = np.random.default_rng(3)
VALUES = {part: RNG.uniform(0.5, 2, CHANNELS).astype("f4") for part in PARTS}
INPUT = feeds.Input(name="x", dtype=np.dtype("f4"), dims=(None, CHANNELS))


def model() -> onnx.ModelProto:
    node = onnx.helper.make_node(
        "BatchNormalization", ["x", *PARTS], ["y"], name="bn", epsilon=1e-3, momentum=0.9
    )
    dims = ["batch", CHANNELS]
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, dims)],
        [onnx.helper.make_tensor_value_info("y", 1, dims)],
        [numpy_helper.from_array(values, part) for part, values in VALUES.items()],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)


def truth(shift: float = 0.0) -> Reference:
    scale, bias, mean, var = (VALUES[part] for part in PARTS)

    def run(batch: feeds.Feeds) -> list[np.ndarray]:
        plain = (batch["x"] - mean) / np.sqrt(var + np.float32(1e-3)) * scale + bias
        return [(plain + shift).astype("f4")]

    return reference(run, [INPUT])


def finish(path: Path, wanted: Reference | None, *, epsilon: float = 1e-3) -> Export:
    values = tuple(VALUES[part] for part in PARTS)
    norm = ExpectedNorm(node="bn", source="bn", values=values, epsilon=epsilon)
    described = manifests.Description(
        framework="torch",
        version="0",
        exporter="a test",
        tensors=tuple(
            SourceTensor(name=part, source=f"bn.{part}", role=role)
            for part, role in zip(PARTS, [Role.LEARNED] * 2 + [Role.STATISTIC] * 2, strict=True)
        ),
        batchnorms=(),
        not_exported=(),
        totals=FrameworkTotals(trainable=2 * CHANNELS, other=2 * CHANNELS),
        notes=(),
    )
    return manifests.finish(model(), path, wanted, [norm], described, opset=18)


@pytest.fixture(params=["one file", "two files"])
def files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    if request.param == "one file":
        return 1
    monkeypatch.setattr(manifests, "LARGE", 1000)
    return 2


def test_an_export_is_verified_and_written(files: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    made = finish(path, truth())
    assert len(list(tmp_path.iterdir())) == files
    assert made.size == sum(each.stat().st_size for each in tmp_path.iterdir())
    onnx.checker.check_model(str(path))
    check = made.manifest.verification
    assert check is not None
    assert (check.bitwise, check.of) == (4, 4)
    inspection = inspect_file(path)
    assert inspection.manifest == made.manifest
    np.testing.assert_array_equal(inspection.norms[0].values.var.high, VALUES["var"].max())
    x = np.ones((3, CHANNELS), "f4")
    found = Runner(path, name="m").run(Fed(values={"x": x}))["y"]
    assert np.isfinite(found).all()


def test_what_disagrees_leaves_nothing(files: int, tmp_path: Path) -> None:
    with pytest.raises(ExportDisagreesError, match="rounding explains"):
        finish(tmp_path / "m.onnx", truth(0.1))
    assert not os.listdir(tmp_path)


def test_without_verification_it_is_said(files: int, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    made = finish(path, None)
    assert made.manifest.verification is None
    (kept,) = [p.value for p in onnx.load(str(path)).metadata_props if p.key == manifests.KEY]
    assert Manifest.from_json(kept).verification is None
    for fact in (made, inspect_file(path)):
        assert "verified" in render(fact, "text")
        assert "no: the export" in render(fact, "text")


def test_batchnorms_are_compared_without_verification_too(files: int, tmp_path: Path) -> None:
    with pytest.raises(ExportDisagreesError, match="epsilon of BatchNorm 'bn'"):
        finish(tmp_path / "m.onnx", None, epsilon=1e-5)
    assert not os.listdir(tmp_path)
