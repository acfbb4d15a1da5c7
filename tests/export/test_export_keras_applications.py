"""Networks that people have: keras.applications, with statistics of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
LONG = bool(os.environ.get("BNINSPECT_LONG"))

NETWORKS = {
    "MobileNetV2": (64, 52),
    "DenseNet121": (64, 121),
    "EfficientNetB0": (64, 49),
    "ResNet50": (64, 53),
    "InceptionV3": (96, 94),
    "Xception": (96, 40),
    "NASNetMobile": (64, 192),
    "ResNet50V2": (64, 49),
    "EfficientNetV2B0": (64, 59),
    "ConvNeXtTiny": (64, 0),
}
"""Length of the image, and how many BatchNorms there are."""
QUICK = ("MobileNetV2", "EfficientNetB0")


def network(name: str, **options: Any) -> Any:
    """The network with random statistics, around those that its activations have."""
    model = getattr(keras.applications, name)(weights=None, classes=10, **options)
    rng = np.random.default_rng(1)
    for layer in norms_of(model):
        for each in layer.weights:
            positive = each.path.endswith(("gamma", "moving_variance"))
            drawn = (
                rng.uniform(0.5, 1.5, each.shape) if positive else rng.normal(0, 0.1, each.shape)
            )
            each.assign(drawn)
    return model


def norms_of(model: Any) -> list[Any]:
    return [e for e in model._flatten_layers() if isinstance(e, keras.layers.BatchNormalization)]


def check(model: Any, made: Any, seen: Any) -> None:
    layers = {each.path: each for each in norms_of(model)}
    assert {each.source for each in made.manifest.batchnorms} == set(layers)
    for each in made.manifest.batchnorms:
        layer = layers[each.source]
        assert np.float32(seen.momentum[each.node]) == np.float32(layer.momentum)
        assert np.float32(seen.epsilon[each.node]) == np.float32(layer.epsilon)
        mean = layer.moving_mean.numpy()
        wanted = (
            layer.gamma.numpy() if layer.scale else np.ones_like(mean),
            layer.beta.numpy() if layer.center else np.zeros_like(mean),
            mean,
            layer.moving_variance.numpy(),
        )
        for own, other in zip(wanted, seen.tensors[each.node], strict=True):
            assert own.tobytes() == other.tobytes()
    # Every element is Keras' or accounted for: what was invented, and the graph's own constants.
    known = {each.name: each for each in made.manifest.tensors}
    invented = sum(seen.arrays[n].size for n, each in known.items() if each.synthetic)
    constants = [v for n, v in seen.arrays.items() if v.dtype.kind == "f" and n not in known]
    left = sum(each.elements for each in made.manifest.not_exported if each.is_weight)
    rest = seen.float_elements - invented - sum(each.size for each in constants) + left
    assert rest == model.count_params()
    assert all(each.size <= 3 for each in constants)
    # By the layer's own name: Keras numbers layers through the life of a process.
    unread = {
        weight.path
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
        for weight in layer.weights
    }
    assert {each.source for each in made.manifest.not_exported if each.is_weight} <= unread


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in QUICK
        else pytest.param(name, marks=pytest.mark.skipif(not LONG, reason="a matter of minutes"))
        for name in NETWORKS
    ],
)
def test_a_network(name: str, read: Any, run: Any, tmp_path: Path) -> None:
    size, count = NETWORKS[name]
    model = network(name, input_shape=(size, size, 3))
    made = export_keras(model, tmp_path / "x.onnx")
    seen = read(made.path)
    assert len(seen.norms) == count == len(norms_of(model))
    verified = made.manifest.verification
    assert (verified.bitwise, verified.of) == (4 * count, 4 * count)
    assert verified.max_abs <= verified.tolerance
    check(model, made, seen)
    image = np.random.default_rng(3).random((2, size, size, 3), "f4")
    (name,) = (each.name for each in seen.model.graph.input)
    (got,) = run(made.path, {name: image})
    wanted = model.predict(image, verbose=0)
    # Deep networks of random weights magnify rounding: what that may be was measured.
    assert np.abs(got - wanted).max() <= max(1e-4 * np.abs(wanted).max(), verified.tolerance)


def test_free_height_and_width(read: Any, run: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    model = network("MobileNetV2", input_shape=(64, 64, 3), alpha=0.35)
    made = export_keras(model, tmp_path / "x.onnx", dynamic=("batch", "height", "width"))
    seen = read(made.path)
    assert len(seen.norms) == len(norms_of(model)) == 52
    check(model, made, seen)
    (given,) = seen.model.graph.input
    shape = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert shape == ["batch", "height", "width", 3]
    plain = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec([None, None, None, 3])],
        autograph=False,
    )
    for sizes in ((1, 64, 64), (2, 96, 128), (1, 75, 50)):
        image = np.random.default_rng(3).random((*sizes, 3), "f4")
        (got,) = run(made.path, {given.name: image})
        wanted = plain(image).numpy()
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
