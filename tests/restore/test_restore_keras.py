"""Stock exports of Keras models by tf2onnx, restored: truth is what the layers hold."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from restored_files import (
    assert_near,
    assert_same_interface,
    assert_same_outputs,
    assert_truths,
    feeds_of,
    keras_truths,
    norms_of,
    quiet,
    run,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="these exports need it")
tf2onnx = pytest.importorskip("tf2onnx", reason="these exports need it")

from inspector.export import export_keras, source  # noqa: E402  # what needs Keras comes behind it
from inspector.facts.batchnorm import Form  # noqa: E402  # behind what it needs
from inspector.facts.restored import Restored  # noqa: E402  # behind what it needs
from inspector.facts.traced import Fate  # noqa: E402  # behind what it needs
from inspector.flows import inspect_file  # noqa: E402  # behind what it needs
from inspector.restore import restore  # noqa: E402  # behind what it needs

L = keras.layers
MODELS = Path(__file__).resolve().parents[2] / "models"


def filled(model: Any) -> Any:
    """As training leaves a model: no two values equal, a scale may be negative."""
    rng = np.random.default_rng(11)
    for variable in model.variables:
        layer, _, name = variable.path.rpartition("/")
        if name in ("moving_variance", "gamma"):
            drawn = rng.uniform(0.4, 2.0, variable.shape)
            variable.assign(-drawn if name == "gamma" and drawn.size % 2 else drawn)
        elif name in ("beta", "moving_mean", "bias") and "zero" not in layer:
            variable.assign(rng.normal(0.0, 0.3, variable.shape))
    return model


def made(model: Any, folder: Path) -> tuple[Path, Path, Path]:
    stock, kept = folder / "stock.onnx", folder / "kept.onnx"
    export_keras(model, kept)
    with quiet():
        tf2onnx.convert.from_keras(model, output_path=str(stock))
    return stock, kept, folder / "restored.onnx"


def restored(model: Any, folder: Path) -> Restored:
    """Restore a stock export, and hold the file against the model itself."""
    stock, kept, output = made(model, folder)
    # It is no test of anything if the exporter kept them.
    assert Form.NATIVE not in {each.norm.form for each in inspect_file(stock).norms}
    found = restore(stock, kept, output)
    truths = keras_truths(model)
    assert [each.why_not for each in found.outcomes] == [""] * len(truths)
    assert found.complete
    assert found.bitwise == found.of == 4 * len(truths)
    assert found.with_stock.within
    assert found.with_reference.within
    assert len(found.with_stock.batch_sizes) > 1
    assert_truths(output, truths)
    assert_same_interface(stock, output)
    assert_same_outputs(stock, output)
    for batch in (1, 4):
        feeds = feeds_of(stock, batch)
        (values,) = run(output, feeds).values()
        assert_near(np.asarray(model(*feeds.values(), training=False)), values)
    seen = inspect_file(output)
    assert {each.norm.form for each in seen.norms} == {Form.NATIVE}
    assert (seen.folded, seen.affines) == ((), ())
    return found


def test_the_questions_network(tmp_path: Path) -> None:
    where = source.parse(f"{MODELS / 'keras_cnn.py'}:small")
    with source.opened(where, lambda each: isinstance(each, keras.Model), "a model") as model:
        found = restored(model, tmp_path)
    assert [each.was for each in found.outcomes] == [Fate.ARITHMETIC]


def stack(momentum: float) -> Any:
    def normed(layer: Any) -> list[Any]:
        return [layer, L.BatchNormalization(momentum=momentum, name=f"{layer.name}_bn"), L.ReLU()]

    image = x = keras.Input((8, 8, 3), name="image")
    for layer in [
        L.BatchNormalization(name="image_bn"),
        *normed(L.Conv2D(4, 3, padding="same", use_bias=False, name="bare")),
        *normed(L.Conv2D(4, 3, padding="same", name="biased")),
        *normed(L.Conv2D(4, 3, padding="same", name="zeroed")),
        *normed(L.SeparableConv2D(4, 3, padding="same", use_bias=False, name="separable")),
        *normed(L.Conv2DTranspose(4, 3, name="up")),
        *normed(L.Conv2DTranspose(5, 3, strides=2, use_bias=False, name="up_bare")),
        *normed(L.DepthwiseConv2D(3, use_bias=False, name="depth")),
        *normed(L.DepthwiseConv2D(3, name="depth_biased")),
        L.BatchNormalization(scale=False, name="before"),
        L.Conv2D(4, 1, name="behind"),
        L.BatchNormalization(center=False, name="uncentred"),
        L.GlobalAveragePooling2D(),
        *normed(L.Dense(6, name="hidden")),
        *normed(L.Dense(5, use_bias=False, name="hidden_bare")),
        L.Dense(3, name="out"),
    ]:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "fresh"])
def test_what_stands_before_a_batchnorm(trained: bool, tmp_path: Path) -> None:
    model = stack(0.85)
    found = restored(filled(model) if trained else model, tmp_path)
    assert {each.was for each in found.outcomes} == {Fate.ARITHMETIC, Fate.FOLDED}


def sequence() -> list[Any]:
    return [
        keras.Input((10, 3)),
        L.Conv1D(4, 3, padding="same", use_bias=False),
        L.BatchNormalization(name="line_bn"),
        L.ReLU(),
        L.Dense(5),
        L.BatchNormalization(name="dense_bn"),
        L.LSTM(4),
        L.BatchNormalization(name="state_bn"),
        L.Dense(2),
    ]


def volume() -> list[Any]:
    return [
        keras.Input((6, 6, 6, 2)),
        L.Conv3D(4, 3, use_bias=False),
        L.BatchNormalization(name="volume_bn"),
        L.ReLU(),
        L.BatchNormalization(axis=1, name="first_bn"),
        L.GlobalAveragePooling3D(),
    ]


def rows() -> list[Any]:
    return [
        keras.Input((6,)),
        L.BatchNormalization(name="row_bn"),
        L.Dense(4),
        L.BatchNormalization(name="one_bn"),
        L.BatchNormalization(name="two_bn"),
        L.Dense(3),
    ]


@pytest.mark.parametrize("layers", [sequence, volume, rows], ids=lambda each: each.__name__)
def test_other_ranks_and_axes(layers: Any, tmp_path: Path) -> None:
    image, *others = layers()
    x = image
    for layer in others:
        x = layer(x)
    restored(filled(keras.Model(image, x)), tmp_path)


# What is folded differs: into Convs with a bias of zeros, as all of ResNet50's are when fresh.
@pytest.mark.parametrize(
    ("name", "trained"), [("MobileNetV2", True), ("ResNet50", True), ("ResNet50", False)]
)
def test_large_networks(name: str, trained: bool, tmp_path: Path) -> None:
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(32, 32, 3), classes=5, name=name.lower())
    found = restored(filled(model) if trained else model, tmp_path)
    assert len(found.outcomes) == {"MobileNetV2": 52, "ResNet50": 53}[name]


def shared() -> Any:
    convolution = L.Conv2D(3, 3, padding="same", use_bias=False)
    normed = L.BatchNormalization(name="bn")
    image = keras.Input((8, 8, 3))
    once = L.ReLU()(normed(convolution(image)))
    return keras.Model(image, normed(L.ReLU()(convolution(once))))


def test_a_layer_that_is_called_twice_is_two_nodes_with_the_same_tensors(tmp_path: Path) -> None:
    model = filled(shared())
    stock, kept, output = made(model, tmp_path)
    found = restore(stock, kept, output)
    assert {each.was for each in found.outcomes} == {Fate.FOLDED, Fate.ARITHMETIC}
    assert found.complete
    one, other = norms_of(output).values()
    assert list(one.input[1:]) == list(other.input[1:])
    (truth,) = keras_truths(model).values()
    arrays = {e.name: numpy_helper.to_array(e) for e in onnx.load(str(output)).graph.initializer}
    four = [arrays[name].tobytes() for name in one.input[1:]]
    assert four == [each.tobytes() for each in truth.four]
    assert_same_interface(stock, output)
    assert_same_outputs(stock, output)


def test_mixed_precision(tmp_path: Path) -> None:
    """Keras normalises in float32 there, between Casts."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        image = keras.Input((8, 8, 3))
        x = L.ReLU()(L.BatchNormalization(name="one")(L.Conv2D(4, 3)(image)))
        x = L.BatchNormalization(name="two")(L.Conv2D(4, 3, use_bias=False)(x))
        model = filled(keras.Model(image, x))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    stock, kept, output = made(model, tmp_path)
    found = restore(stock, kept, output)
    assert found.complete
    assert found.with_stock.within
    assert_truths(output, keras_truths(model))
    assert_same_interface(stock, output)
