"""The question's two networks at full size, exported once for all of these tests."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inspector.export import export_keras, export_torch, source

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tf2onnx", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")


@pytest.fixture(scope="module")
def pair(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("pair")
    return SimpleNamespace(
        keras=export_keras(f"{models}/keras_cnn.py:cnn", folder / "keras.onnx"),
        torch=export_torch(f"{models}/torch_cnn.py:cnn", folder / "torch.onnx"),
        matched=export_torch(f"{models}/torch_cnn.py:matched", folder / "torch_matched.onnx"),
        folder=folder,
    )


def framework(models: Path, spec: str) -> Any:
    import keras
    import torch

    wanted = (keras.Model, torch.nn.Module)
    with source.opened(
        source.parse(f"{models / spec}"), lambda each: isinstance(each, wanted), "a model"
    ) as found:
        return found


def images(batch: int) -> Any:
    return np.random.default_rng(batch).normal(size=(batch, 64, 64, 1)).astype("f4")


def relative(got: Any, wanted: Any) -> float:
    assert got.shape == wanted.shape
    return float(np.abs(got - wanted).max() / wanted.std())


@pytest.mark.parametrize("batch", [1, 5])
def test_the_keras_file_agrees_with_predict(batch: int, pair: Any, models: Path, run: Any) -> None:
    model = framework(models, "keras_cnn.py:cnn")
    (got,) = run(pair.keras.path, {"image": images(batch)})
    assert relative(got, model.predict(images(batch), verbose=0)) < 1e-5


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(("name", "net"), [("torch", "cnn"), ("matched", "matched")])
def test_the_torch_file_agrees_with_the_module(
    name: str, net: str, batch: int, pair: Any, models: Path, run: Any
) -> None:
    import torch

    module = framework(models, f"torch_cnn.py:{net}")
    image = images(batch).transpose(0, 3, 1, 2).copy()
    (got,) = run(getattr(pair, name).path, {"input": image})
    with torch.no_grad():
        assert relative(got, module(torch.from_numpy(image)).numpy()) < 1e-5


def test_the_two_batchnorms_are_equal_in_bits(pair: Any, read: Any) -> None:
    keras, torch, matched = (read(each.path) for each in (pair.keras, pair.torch, pair.matched))
    assert list(keras.norms) == ["batch_normalization"]
    assert list(torch.norms) == list(matched.norms) == ["bn"]
    for left, *others in zip(
        keras.tensors["batch_normalization"],
        torch.tensors["bn"],
        matched.tensors["bn"],
        strict=True,
    ):
        assert left.shape == (32,)
        assert all(left.tobytes() == each.tobytes() for each in others)
    assert keras.momentum["batch_normalization"] == np.float32(0.15)
    assert torch.momentum["bn"] == np.float32(0.9)
    assert matched.momentum["bn"] == np.float32(1 - 0.85)
    assert keras.epsilon["batch_normalization"] == np.float32(1e-3)
    assert torch.epsilon["bn"] == np.float32(1e-5)


def test_the_counts_are_the_questions(pair: Any, read: Any) -> None:
    for made in (pair.keras, pair.torch, pair.matched):
        assert (made.manifest.totals.trainable, made.manifest.totals.other) == (13_108_694, 64)
        assert read(made.path).float_elements == 13_108_758
        assert made.manifest.verification.bitwise == made.manifest.verification.of == 4
        assert made.manifest.verification.relative < 1e-5
    assert [each.source for each in pair.torch.manifest.not_exported] == ["bn.num_batches_tracked"]
    assert pair.keras.manifest.not_exported == ()


def test_there_is_one_file_an_export(pair: Any) -> None:
    assert sorted(each.name for each in pair.folder.iterdir()) == [
        "keras.onnx",
        "torch.onnx",
        "torch_matched.onnx",
    ]
