"""Keras networks, exported, with what Keras itself says of them.

Keras is imported where a network is built, so that the tests can be collected without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from inspector.count.tables import table
from inspector.facts.manifest import KEY
from inspector.facts.summary import Summary
from inspector.flows import summarise_file

WIDE = 500
"""Columns in which no cell of a Keras summary is wrapped."""


class Layer(NamedTuple):
    """A row of a summary as it is printed; dims as Keras writes them."""

    name: str
    kind: str
    shape: str
    parameters: int


class Totals(NamedTuple):
    """Elements as Keras counts them."""

    total: int
    trainable: int
    non_trainable: int


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What Keras says: rows and totals are parsed from the text that it prints."""

    layers: list[Layer]
    printed: Totals
    optimizer: int
    counted: Totals


@dataclass(frozen=True, kw_only=True)
class Made:
    """An exported network: what Keras says, and what the file does with and without manifest."""

    truth: Truth
    kept: Summary
    bare: Summary


@dataclass(frozen=True, kw_only=True)
class Application:
    """One of keras.applications, at its smallest input."""

    pixels: int = 32
    drawn: bool
    options: Mapping[str, Any]


def _application(pixels: int = 32, *, drawn: bool = False, **options: Any) -> Application:
    return Application(pixels=pixels, drawn=drawn, options=options)


# Ten classes where the last layer alone would take seconds.
APPLICATIONS: Mapping[str, Application] = {
    "MobileNet": _application(),
    "MobileNetV2": _application(drawn=True),
    "MobileNetV3Small": _application(drawn=True),
    "MobileNetV3Large": _application(),
    "EfficientNetB0": _application(drawn=True),
    "EfficientNetV2B0": _application(),
    "DenseNet121": _application(drawn=True),
    "ResNet50": _application(classes=10),
    "Xception": _application(71, drawn=True, classes=10),
    "InceptionV3": _application(75, classes=10),
}


def application(name: str) -> Any:
    """A network with the weights of a fresh one, or with norms as training leaves them."""
    import keras

    spec = APPLICATIONS[name]
    keras.utils.set_random_seed(7)
    shape = (spec.pixels, spec.pixels, 3)
    model = getattr(keras.applications, name)(weights=None, input_shape=shape, **spec.options)
    return drawn(model) if spec.drawn else model


def drawn(model: Any) -> Any:
    """Statistics, gammas and betas that no two layers share."""
    import keras

    rng = np.random.default_rng(5)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                size = tuple(variable.shape)
                positive = variable.name in ("gamma", "moving_variance")
                values = rng.uniform(0.5, 1.5, size) if positive else rng.normal(0, 0.2, size)
                variable.assign(values.astype(np.float32))
    return model


def made(model: Any, folder: Path) -> Made:
    """Export a network and read the file; it is deleted again, some take 90 MB."""
    from inspector.export import export_keras

    kept, bare = folder / "kept.onnx", folder / "bare.onnx"
    try:
        export_keras(model, kept)
        without_manifest(kept, bare)
        return Made(truth=truth_of(model), kept=summarise_file(kept), bare=summarise_file(bare))
    finally:
        kept.unlink(missing_ok=True)
        bare.unlink(missing_ok=True)


def without_manifest(kept: Path, bare: Path) -> None:
    """The same file, as any other program that saves it anew might leave it."""
    proto = onnx.load(str(kept))
    others = [each for each in proto.metadata_props if each.key != KEY]
    assert len(others) == len(proto.metadata_props) - 1
    del proto.metadata_props[:]
    proto.metadata_props.extend(others)
    onnx.save(proto, str(bare))


def truth_of(model: Any) -> Truth:
    """What `model.summary()` prints, and what the model counts."""
    printed: list[str] = []
    model.summary(line_length=WIDE - 4, print_fn=lambda text, **_: printed.append(text))
    text = "".join(printed)
    layers = []
    for line in text.splitlines():
        if line.startswith("│"):
            named, shape, parameters, *_ = (each.strip() for each in line.strip("│").split("│"))
            name, kind = re.fullmatch(r"(.+) \((\w+)\)", named).groups()
            layers.append(Layer(name, kind, shape, int(parameters.replace(",", ""))))
    return Truth(
        layers=layers,
        printed=Totals(*(_said(text, each) for each in ("Total", "Trainable", "Non-trainable"))),
        optimizer=_said(text, "Optimizer") if "Optimizer params" in text else 0,
        counted=Totals(
            model.count_params(), _sum(model.trainable_weights), _sum(model.non_trainable_weights)
        ),
    )


def _said(text: str, what: str) -> int:
    return int(re.search(rf"^ {what} params: ([\d,]+) \(", text, re.MULTILINE)[1].replace(",", ""))


def _sum(weights: list[Any]) -> int:
    return sum(prod(each.shape) for each in weights)


def layers_of(summary: Summary) -> list[Layer]:
    """The rows of the table in Keras' style."""
    return [
        Layer(str(name), str(kind), shape_of(dims), parameters)
        for name, kind, dims, parameters in table(summary, "keras").rows
    ]


def shape_of(dims: Any) -> str:
    """Dims as Keras prints them."""
    return "?" if dims is None else f"({', '.join(map(str, dims))})"


def question() -> Any:
    """Conv, BatchNorm, Flatten, Dense, Dense, with every weight drawn: small."""
    return _of_models("small")


def question_full() -> Any:
    """The same as the question has it."""
    return _of_models("cnn")


def _of_models(name: str) -> Any:
    import keras

    from inspector.export import source

    path = Path(__file__).resolve().parents[2] / "models" / "keras_cnn.py"
    where = source.parse(f"{path}:{name}")
    with source.opened(where, lambda each: isinstance(each, keras.Model), "a model") as model:
        return model


def _chain(shape: tuple[int | None, ...], *layers: Any, **options: Any) -> Any:
    import keras

    image = x = keras.Input(shape, **options)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def sequential() -> Any:
    """A Sequential lists no InputLayer."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax"),
        ]
    )


def shared() -> Any:
    """A convolution and its norm over two inputs."""
    import keras
    from keras import layers

    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    conv, norm, relu = (
        layers.Conv2D(4, 3, name="both"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(),
    )
    x, y = (relu(norm(conv(each))) for each in (a, b))
    return keras.Model([a, b], layers.Dense(2)(layers.Flatten()(layers.Concatenate()([x, y]))))


def tied() -> Any:
    """A layer called twice, in a row."""
    from keras import layers

    dense = layers.Dense(7, activation="tanh", name="tied")
    return _chain(
        (7,), dense, layers.BatchNormalization(), dense, layers.Dense(3, activation="softmax")
    )


def nested() -> Any:
    """Models in a model are one row each."""
    import keras
    from keras import layers

    inner = _chain((8, 8, 3), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU())
    rows = [keras.Input((6, 6, 4)), layers.Conv2D(5, 3), layers.BatchNormalization(), layers.ReLU()]
    return _chain(
        (8, 8, 3), inner, keras.Sequential(rows), layers.GlobalAveragePooling2D(), layers.Dense(2)
    )


def separable() -> Any:
    """A SeparableConv2D is two convolutions in the file and one row."""
    from keras import layers

    return _chain(
        (8, 8, 3),
        layers.SeparableConv2D(6, 3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.SeparableConv2D(5, 3, use_bias=False, depth_multiplier=2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )


def multiplied() -> Any:
    """A depthwise convolution with two filters for each channel."""
    from keras import layers

    return _chain(
        (8, 8, 3),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
    )


def conv1d() -> Any:
    """Written as two-dimensional convolutions; the first is causal, the second dilated."""
    from keras import layers

    return _chain(
        (16, 3),
        layers.Conv1D(4, 3, padding="causal"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling1D(),
        layers.Conv1D(5, 3, dilation_rate=2, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(2),
    )


def conv3d() -> Any:
    """Data with three axes of space."""
    from keras import layers

    return _chain(
        (6, 6, 6, 2),
        layers.Conv3D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.AveragePooling3D(2),
        layers.Flatten(),
        layers.Dense(2),
    )


def upsampling() -> Any:
    """A transposed convolution, a skip connection, and a last convolution of one filter."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3))
    skip = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = layers.Conv2D(6, 3, padding="same")(layers.MaxPooling2D()(skip))
    x = layers.Conv2DTranspose(4, 2, strides=2)(layers.BatchNormalization()(x))
    x = layers.Concatenate()([skip, layers.BatchNormalization()(x)])
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(layers.UpSampling2D()(x)))


def recurrent() -> Any:
    """An embedding and two LSTMs."""
    from keras import layers

    return _chain(
        (6,),
        layers.Embedding(11, 5),
        layers.LSTM(4, return_sequences=True),
        layers.LSTM(3),
        layers.Dense(2, activation="sigmoid"),
        dtype="int32",
    )


def attention() -> Any:
    """A transformer's block, with Dropout."""
    import keras
    from keras import layers

    tokens = keras.Input((6, 8))
    attended = layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    x = layers.LayerNormalization()(layers.Add()([tokens, attended]))
    inside = layers.Dense(8)(layers.Dropout(0.1)(layers.Dense(16, activation="relu")(x)))
    x = layers.LayerNormalization()(layers.Add()([x, inside]))
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def frozen() -> Any:
    """What a frozen layer learned is not trainable, and is no statistic."""
    from keras import layers

    model = _chain(
        (8, 8, 3),
        layers.Conv2D(4, 3, name="held"),
        layers.BatchNormalization(name="held_norm"),
        layers.ReLU(),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(2),
    )
    for name in ("held", "held_norm"):
        model.get_layer(name).trainable = False
    return model


def operations() -> Any:
    """Operations that are no layers are rows as well, without parameters."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = keras.ops.relu6(x * np.arange(1, 5, dtype=np.float32) + 0.5)
    return keras.Model(
        image, layers.Dense(2)(layers.Flatten()(layers.BatchNormalization()(x) + image))
    )


def unscaled() -> Any:
    """Norms without scale, without center, and without either."""
    from keras import layers

    return _chain(
        (8, 8, 3),
        layers.Conv2D(4, 3, use_bias=False, padding="same"),
        layers.BatchNormalization(scale=False),
        layers.ReLU(),
        layers.BatchNormalization(center=False),
        layers.Conv2D(6, 1),
        layers.BatchNormalization(center=False, scale=False),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5),
    )


def dense() -> Any:
    """No spatial axes at all."""
    from keras import layers

    return _chain(
        (7,),
        layers.Dense(9, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.3),
        layers.Dense(4),
        layers.ELU(),
    )


def compiled() -> Any:
    """An optimizer's variables are in the total that Keras prints; they are not the model's."""
    model = dense()
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(16, width)).astype(np.float32) for width in (7, 4))
    model.fit(x, y, verbose=0)
    return model


def groups() -> Any:
    """Norms by group and by sample, which the file has as arithmetic."""
    from keras import layers

    return _chain(
        (8, 8, 4),
        layers.Conv2D(8, 3),
        layers.GroupNormalization(4),
        layers.ReLU(),
        layers.GroupNormalization(2, scale=False),
        layers.LayerNormalization(axis=[1, 2, 3]),
        layers.Flatten(),
        layers.Dense(2),
    )


def slopes() -> Any:
    """PReLU, whose slopes the exporter stores with the sign turned."""
    from keras import layers

    return _chain(
        (8, 8, 3),
        layers.Conv2D(4, 3),
        layers.PReLU(shared_axes=[1, 2]),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(5),
        layers.PReLU(),
    )


def adapted() -> Any:
    """Normalization, adapted to data: Keras counts a mean, a variance and a step."""
    from keras import layers

    rows = layers.Normalization(axis=-1)
    rng = np.random.default_rng(0)
    rows.adapt(rng.normal(2, 3, (64, 8, 8, 3)).astype(np.float32))
    return _chain(
        (8, 8, 3), layers.Rescaling(1 / 255), rows, layers.Conv2D(4, 3), layers.BatchNormalization()
    )


def given() -> Any:
    """Normalization by numbers that are given: Keras counts none of them."""
    from keras import layers

    rows = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    return _chain((8, 8, 3), rows, layers.Conv2D(4, 3), layers.BatchNormalization())


def channels_first() -> Any:
    """Layers that Keras itself lists channels-first."""
    from keras import layers

    return _chain(
        (3, 8, 8),
        layers.Conv2D(4, 3, data_format="channels_first"),
        layers.BatchNormalization(axis=1),
        layers.Flatten(data_format="channels_first"),
        layers.Dense(2),
    )


def permuted() -> Any:
    """A gate over the channels, and layers that only move values."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
    pooled = layers.GlobalAveragePooling2D()(x)
    moved = layers.Permute((3, 1, 2))(layers.Multiply()([x, layers.Reshape((1, 1, 4))(pooled)]))
    return keras.Model(image, [layers.Flatten()(moved), layers.Softmax()(layers.Dense(3)(pooled))])


def outputs() -> Any:
    """An operation that gives several values."""
    import keras
    from keras import layers

    image = keras.Input((8, 8, 6))
    x, y = keras.ops.split(layers.BatchNormalization()(image), 2, axis=-1)
    return keras.Model(image, [layers.Conv2D(2, 3)(x), layers.Conv2D(3, 3)(y)])


def subclassed() -> Any:
    """Keras lists the layers of such a model alone, in the order in which it got them."""
    import keras
    from keras import layers

    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.flat = layers.Dense(2), layers.Flatten()
            self.conv, self.norm = layers.Conv2D(4, 3), layers.BatchNormalization()

        def call(self, x: Any) -> Any:
            return self.head(self.flat(keras.ops.relu(self.norm(self.conv(x)))))

    model = Model()
    model(keras.Input((8, 8, 3)))
    return model


NETWORKS: Mapping[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        question,
        question_full,
        sequential,
        shared,
        tied,
        nested,
        separable,
        multiplied,
        conv1d,
        conv3d,
        upsampling,
        recurrent,
        attention,
        frozen,
        operations,
        unscaled,
        dense,
        compiled,
        groups,
        slopes,
        adapted,
        given,
        channels_first,
        permuted,
        outputs,
        subclassed,
    )
}


def network(name: str) -> Any:
    """A hand-written network; the norms of all but the question's are drawn."""
    import keras

    keras.utils.set_random_seed(7)
    model = NETWORKS[name]()
    return model if name.startswith("question") else drawn(model)
