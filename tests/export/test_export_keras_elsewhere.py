"""Keras 3 under the torch backend; each test is a Python of its own, which the backend needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
pytest.importorskip("torch", reason="the backend in question")

NET = """
import json, sys
import keras, numpy as np
from keras import layers as L
from inspector.errors import InspectorError
from inspector.export import export_keras

def net(*first):
    image = x = keras.Input((8, 8, 3), name="image")
    for layer in first:
        x = layer(x)
    x = L.BatchNormalization(momentum=0.15, epsilon=2e-3)(L.Conv2D(4, 3)(x))
    model = keras.Model(image, L.GlobalAveragePooling2D()(L.ReLU()(x)))
    rng = np.random.default_rng(0)
    for each in model.weights:
        each.assign(rng.uniform(0.5, 1.5, each.shape))
    return model

class NeedsTorch(L.Layer):
    def call(self, x):
        import torch
        return torch.relu(x)

def export(model, **options):
    try:
        made = export_keras(model, "x.onnx", **options)
    except InspectorError as error:
        return {"error": str(error)}
    check = made.manifest.verification
    return {"bitwise": check.bitwise, "exporter": made.manifest.exporter, "notes": made.notes,
            "sources": sorted(t.source for t in made.manifest.tensors),
            "momentum": [b.momentum for b in made.manifest.batchnorms]}

model = net()
told = [export(model), export(net(NeedsTorch()))]
made = export(model, inputs_as_nchw=True, dynamic=["batch", "height", "width"])
np.save("image.npy", image := np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype("f4"))
np.save("wanted.npy", model.predict(image, verbose=0))
told += [made, sorted(v.path for v in model.weights), keras.backend.backend()]
print(json.dumps(told))
"""


def test_a_model_of_the_torch_backend(read: Any, run: Any, tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603  # this Python
        [sys.executable, "-c", NET],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain, custom, turned, paths, backend = json.loads(done.stdout.splitlines()[-1])
    assert backend == "torch"
    for each in (plain, turned):
        assert each["bitwise"] == 4
        assert each["exporter"].endswith("from a model of the torch backend")
        assert each["sources"] == paths
        assert each["momentum"] == [0.15]
    assert plain["notes"] == []
    (note,) = turned["notes"]
    assert note.startswith("height and width may have any length in ONNX, and was verified at")
    assert "a copy of it does not export under TensorFlow" in custom["error"]
    assert "layers that need torch cannot be converted" in custom["error"]
    assert "\n" not in custom["error"]
    image, wanted = np.load(tmp_path / "image.npy"), np.load(tmp_path / "wanted.npy")
    (got,) = run(tmp_path / "x.onnx", {"image": image.transpose(0, 3, 1, 2)})
    assert np.abs(got - wanted).max() < 1e-4
    assert len(read(tmp_path / "x.onnx").norms) == 1


OWN = """
import keras, numpy as np
from keras import layers as L

@keras.saving.register_keras_serializable("elsewhere")
class Two(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = L.BatchNormalization(), L.BatchNormalization()

    def build(self, a_shape, b_shape=None):
        self.first.build(a_shape)
        self.second.build(a_shape)

    def call(self, a, b=None):
        x = self.first(a)
        return {"z": x if b is None else x + self.second(b), "a": a}

def build():
    Two()  # numbers its layers, which those of the copy then have not
    model = Two()
    model(np.zeros((2, 6), "f4"), np.zeros((2, 6), "f4"))
    rng = np.random.default_rng(0)
    for each in model.weights:
        each.assign(rng.uniform(0.5, 1.5, each.shape))
    return model
"""
ASKING = """
import json
from inspector.export import export_keras
made = export_keras("own.py:build", "x.onnx", imports=["own"])
print(json.dumps([made.manifest.verification.bitwise, made.notes]))
"""


def test_layers_that_are_numbered_anew_in_the_copy(read: Any, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    done = subprocess.run(  # noqa: S603  # this Python
        [sys.executable, "-c", ASKING],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [8, []]
    graph = read(tmp_path / "x.onnx").model.graph
    assert [each.name for each in graph.input] == ["input_0", "input_1"]
    assert [each.name for each in graph.output] == ["a", "z"]
