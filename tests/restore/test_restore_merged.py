"""BatchNorms whose numbers Grappler merges with a factor, a shift or an operator's weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from restored_files import (
    assert_near,
    assert_same_interface,
    assert_same_outputs,
    assert_truths,
    feeds_of,
    keras_truths,
    norms_of,
    run,
)

keras = pytest.importorskip("keras", reason="these exports need it")
pytest.importorskip("tf2onnx", reason="these exports need it")

from test_restore_keras import filled, made  # noqa: E402  # what needs Keras comes behind it

from inspector.facts.traced import Fate  # noqa: E402  # behind what it needs
from inspector.restore import restore  # noqa: E402  # behind what it needs

L = keras.layers
LONG = bool(os.environ.get("BNINSPECT_LONG"))


def bn(name: str, **options: Any) -> Any:
    return L.BatchNormalization(name=name, **options)


def gelu(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)  # tf2onnx has no Erfc


def activated(x: Any) -> Any:
    """Every activation that is a product: its slope goes into one of the factors."""
    for at, kind in enumerate(["swish", "hard_swish", gelu, "mish", "hard_sigmoid"]):
        x = L.Conv2D(4, 1, use_bias=bool(at % 2), name=f"conv{at}")(x)
        x = bn(f"before{at}")(x)
        x = L.Activation(kind)(x)
        x = bn(f"behind{at}")(x)
    return bn("last")(x)


def gated(x: Any) -> Any:
    """Two operators multiplied: the slope goes into the weights of the one without a bias."""
    bare = L.Conv2D(4, 3, use_bias=False)(x) * L.Conv2D(4, 3, use_bias=False)(x)
    x = L.ReLU()(bn("bare")(bare))
    biased = L.Conv2D(4, 3)(x) * L.Conv2D(4, 3, activation="tanh")(x) * L.Conv2D(4, 3)(x)
    x = L.ReLU()(bn("biased")(biased))
    return bn("squared")(x * x)


class Scale(L.Layer):  # type: ignore[misc]  # Keras has no types
    """A number for each channel, as ConvNeXt has it: merged with a slope of as many."""

    def build(self, shape: Any) -> None:
        drawn = keras.initializers.RandomUniform(0.5, 1.5, seed=1)
        self.by = self.add_weight(shape=(shape[-1],), initializer=drawn, name="by")

    def call(self, x: Any) -> Any:
        return x * self.by


def scaled(x: Any) -> Any:
    """Constants before and behind."""
    x = bn("halved")(x * 0.5)
    x = L.ReLU()(bn("in_weights")(L.Conv2D(4, 3, use_bias=False)(x) * 0.3))
    x = L.ReLU()(bn("shifted")(x / 3.0) + 1.5)
    x = L.ReLU()(bn("by_channel")(Scale()(x)))
    x = bn("in_weights_too")(L.Conv2D(4, 3, use_bias=False)(x)) - 0.25
    return L.ReLU()(x)


def flat(x: Any) -> Any:
    x = L.Flatten()(x)
    x = bn("row")(L.Dense(6, activation="swish")(x))
    return bn("gate")(L.Dense(5, use_bias=False)(x) * L.Dense(5, activation="sigmoid")(x))


def excited(x: Any) -> Any:
    x = L.Conv2D(4, 1)(x)
    by = L.Conv2D(4, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return bn("excited")(L.Multiply()([x, by]))


def on_rows(x: Any) -> Any:
    return bn("rows", axis=1)(L.Conv2D(4, 3, padding="same", activation="swish")(x))


@pytest.mark.parametrize(
    "build",
    [activated, gated, scaled, flat, excited, on_rows],
    ids=lambda each: each.__name__,
)
def test_numbers_that_were_merged(build: Any, tmp_path: Path) -> None:
    image = keras.Input((12, 12, 3), name="image")
    model = filled(keras.Model(image, build(image)))
    stock, kept, output = made(model, tmp_path)
    assert not norms_of(stock)
    found = restore(stock, kept, output)
    assert [(each.name, each.why_not) for each in found.outcomes if each.why_not] == []
    assert {each.was for each in found.outcomes} <= {Fate.ARITHMETIC, Fate.FOLDED}
    assert all(each.where for each in found.outcomes)
    assert_truths(output, keras_truths(model))
    assert_same_interface(stock, output)
    assert_same_outputs(stock, output)
    feeds = feeds_of(stock, 3)
    (values,) = run(output, feeds).values()
    assert_near(np.asarray(model(*feeds.values(), training=False)), values)


@pytest.mark.skipif(not LONG, reason="minutes: BNINSPECT_LONG=1")
@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("EfficientNetB0", 49),
        ("EfficientNetV2B0", 59),
        ("MobileNetV3Small", 34),
        ("MobileNetV3Large", 46),
    ],
)
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "fresh"])
def test_large_networks(name: str, norms: int, trained: bool, tmp_path: Path) -> None:
    build = getattr(keras.applications, name)
    keras.utils.set_random_seed(1)
    model = build(weights=None, input_shape=(32, 32, 3), classes=5)
    model = filled(model) if trained else model
    stock, kept, output = made(model, tmp_path)
    found = restore(stock, kept, output)
    assert [(each.name, each.why_not) for each in found.outcomes if each.why_not] == []
    assert len(found.outcomes) == norms
    assert_truths(output, keras_truths(model))
    assert found.with_stock is not None
    # Other inputs than it was measured on; deep networks of random weights are chaotic.
    assert_same_outputs(stock, output, 4 * found.with_stock.tolerance)
