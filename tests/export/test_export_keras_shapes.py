"""Free axes, fixed shapes, channels first, and the operator set: what a user asks of the graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import InspectorError, RunError, UnreadableError, UsageError
from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
L = keras.layers


def images(shape: tuple[int | None, ...] = (8, 8, 3), *last: Any, **options: Any) -> Any:
    image = keras.Input(shape, name="image", **options)
    x = L.BatchNormalization(epsilon=2e-3)(L.Conv2D(4, 3, padding="same")(image))
    x = L.MaxPooling2D(name="pooled")(L.ReLU()(x))
    for layer in last:
        x = layer(x)
    return keras.Model(image, x, name="images")


def dims(model: Any) -> list[list[int | str]]:
    return [
        [
            d.dim_value if d.HasField("dim_value") else d.dim_param
            for d in e.type.tensor_type.shape.dim
        ]
        for e in (*model.graph.input, *model.graph.output)
    ]


def wanted_at(model: Any, image: Any) -> Any:
    """What Keras gives at a size that the model was not built for."""
    import tensorflow as tf

    return tf.function(
        lambda x: model(x, training=False),
        autograph=False,
        input_signature=[tf.TensorSpec([None, None, None, image.shape[-1]])],
    )(image).numpy()


@pytest.mark.parametrize(
    ("dynamic", "inputs"),
    [
        (None, ["batch", 8, 8, 3]),
        ((), [1, 8, 8, 3]),
        (("batch",), ["batch", 8, 8, 3]),
        (("height",), [1, "height", 8, 3]),
        (("batch", "height", "width"), ["batch", "height", "width", 3]),
        (("n=0", "rows=1"), ["n", "rows", 8, 3]),
    ],
)
def test_exactly_the_axes_that_were_asked_for(
    dynamic: Any, inputs: list[Any], fill: Any, read: Any, tmp_path: Path
) -> None:
    made = export_keras(fill(images()), tmp_path / "x.onnx", dynamic=dynamic)
    assert dims(read(made.path).model)[0] == inputs
    assert made.manifest.verification.bitwise == 4


def test_free_height_and_width_are_really_run(
    fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    model = fill(images((8, 8, 3), L.GlobalAveragePooling2D(), L.Dense(2, name="scores")))
    made = export_keras(model, tmp_path / "x.onnx", dynamic=("batch", "height", "width"))
    assert dims(read(made.path).model) == [["batch", "height", "width", 3], ["batch", 2]]
    for shape in ((1, 8, 8, 3), (2, 14, 22, 3), (3, 5, 30, 3)):
        image = np.random.default_rng(0).normal(size=shape).astype("f4")
        (got,) = run(made.path, {"image": image})
        assert np.abs(got - wanted_at(model, image)).max() < 1e-5


def test_an_output_is_called_like_the_input_whose_length_it_has(
    fill: Any, read: Any, tmp_path: Path
) -> None:
    image = keras.Input((8, 8, 3), name="image")
    x = L.BatchNormalization()(L.Conv2D(4, 3, padding="same")(image))
    model = fill(keras.Model(image, [x, L.MaxPooling2D(name="half")(x)]))
    made = export_keras(model, tmp_path / "x.onnx", dynamic=("batch", "height", "width"))
    _, same, half = dims(read(made.path).model)
    assert same == ["batch", "height", "width", 4]
    assert half == ["batch", "half_1", "half_2", 4]


@pytest.mark.parametrize(
    ("dynamic", "said"),
    [
        (("batch", "height", "width"), "it does not take any height and width: "),
        (("depth",), "no input has an axis 'depth'"),
    ],
)
def test_axes_that_the_model_cannot_free(
    dynamic: Any, said: str, fill: Any, tmp_path: Path
) -> None:
    model = fill(images((8, 8, 3), L.Flatten(), L.Dense(2)))
    with pytest.raises(UsageError) as caught:
        export_keras(model, tmp_path / "x.onnx", dynamic=dynamic)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Graph execution error" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_axis_without_a_length(fill: Any, read: Any, tmp_path: Path) -> None:
    model = fill(images((None, None, 3)))
    with pytest.raises(UsageError, match="axis 1 of input 'image' has no length") as caught:
        export_keras(model, tmp_path / "x.onnx", dynamic=("batch",))
    assert "--input-shape" in caught.value.hint
    made = export_keras(
        model, tmp_path / "x.onnx", dynamic=("batch", "width"), input_shape=(1, 10, 12, 3)
    )
    assert dims(read(made.path).model)[0] == ["batch", 10, "width", 3]
    made = export_keras(model, tmp_path / "x.onnx", input_shape=(2, 10, 12, 3))
    assert dims(read(made.path).model)[0] == ["batch", 10, 12, 3]
    made = export_keras(model, tmp_path / "x.onnx", input_shape=(2, 10, 12, 3), dynamic=())
    assert dims(read(made.path).model)[0] == [2, 10, 12, 3]


def test_axes_of_one_name_and_two_lengths_have_two_names(
    fill: Any, read: Any, tmp_path: Path
) -> None:
    one, two = keras.Input((8, 8, 3), name="one"), keras.Input((4, 8, 3), name="two")
    pooled = [L.GlobalAveragePooling2D()(L.BatchNormalization()(x)) for x in (one, two)]
    made = export_keras(
        fill(keras.Model([one, two], L.Add()(pooled))),
        tmp_path / "x.onnx",
        dynamic=("batch", "height", "width"),
    )
    assert dims(read(made.path).model)[:2] == [
        ["batch", "height", "width", 3],
        ["batch", "two_height", "width", 3],
    ]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 9, 9, 3), "axis 1 of input 'image' is 8 in the model, not 9"),
        ((2, 8, 8), "has 4 axes, and [2, 8, 8] has 3"),
        (((1, 8, 8, 3), (1, 8)), "it has 1 inputs, and 2 shapes are given"),
        ((0, 8, 8, 3), "is no shape"),
        ((), "is no shape"),
    ],
)
def test_shapes_that_do_not_fit(shape: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export_keras(images(), tmp_path / "x.onnx", input_shape=shape)
    assert said in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_inputs_as_nchw(channels: int, fill: Any, read: Any, run: Any, tmp_path: Path) -> None:
    model = fill(images((8, 6, channels)))
    made = export_keras(model, tmp_path / "x.onnx", inputs_as_nchw=True)
    seen = read(made.path).model
    assert dims(seen) == [["batch", channels, 8, 6], ["batch", 4, 3, 4]]
    assert seen.graph.node[0].op_type == "Conv"
    image = np.random.default_rng(0).normal(size=(2, 8, 6, channels)).astype("f4")
    (got,) = run(made.path, {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})
    assert np.abs(got - model.predict(image, verbose=0)).max() < 1e-5


def test_inputs_as_nchw_with_free_axes_and_volumes(fill: Any, read: Any, tmp_path: Path) -> None:
    made = export_keras(
        fill(images()), tmp_path / "x.onnx", inputs_as_nchw=True, dynamic=("batch", "width")
    )
    assert dims(read(made.path).model)[0] == ["batch", 3, 8, "width"]
    volume, flat = keras.Input((4, 5, 6, 2), name="volume"), keras.Input((3,), name="flat")
    x = L.GlobalAveragePooling3D()(L.BatchNormalization()(L.Conv3D(3, 2)(volume)))
    made = export_keras(
        fill(keras.Model([volume, flat], L.Add()([x, flat]))),
        tmp_path / "x.onnx",
        inputs_as_nchw=True,
    )
    assert dims(read(made.path).model)[:2] == [["batch", 2, 4, 5, 6], ["batch", 3]]


def channels_first() -> Any:
    image = keras.Input((3, 8, 8), name="image")
    x = L.Conv2D(4, 3, data_format="channels_first")(image)
    return keras.Model(image, L.BatchNormalization(axis=1)(x))


def test_channels_first(fill: Any, read: Any, tmp_path: Path) -> None:
    made = export_keras(
        fill(channels_first()), tmp_path / "x.onnx", dynamic=("batch", "height", "width")
    )
    assert dims(read(made.path).model)[0] == ["batch", 3, "height", "width"]
    with pytest.raises(UsageError, match="channels first already"):
        export_keras(channels_first(), tmp_path / "x.onnx", inputs_as_nchw=True)
    with pytest.raises(UsageError, match="no input has the rank of an image"):
        export_keras(
            keras.Sequential([keras.Input((3,)), L.BatchNormalization()]),
            tmp_path / "x.onnx",
            inputs_as_nchw=True,
        )


class Never(keras.Model):
    def __init__(self, inputs: int = 1) -> None:
        super().__init__()
        self.conv, self.norm, self.inputs_wanted = L.Conv2D(4, 3), L.BatchNormalization(), inputs


class One(Never):
    def call(self, x: Any) -> Any:
        return self.norm(self.conv(x))


class Two(Never):
    def call(self, x: Any, y: Any) -> Any:
        return self.norm(self.conv(x) + y)


class Listed(Never):
    def call(self, both: Any) -> Any:
        return self.norm(self.conv(both[0]) + both[1])


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (One, (1, 8, 8, 3)),
        (Two, ((1, 8, 8, 3), (1, 6, 6, 4))),
        (Listed, ((1, 8, 8, 3), (1, 6, 6, 4))),
        (lambda: keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization()]), (2, 8, 8, 3)),
    ],
    ids=["one", "two", "list", "sequential"],
)
def test_a_model_that_was_never_called(build: Any, shape: Any, read: Any, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        export_keras(build(), tmp_path / "x.onnx")
    assert "--input-shape" in str(caught.value)
    made = export_keras(build(), tmp_path / "x.onnx", input_shape=shape)
    given = shape if isinstance(shape[0], tuple) else (shape,)
    assert dims(read(made.path).model)[: len(given)] == [["batch", *each[1:]] for each in given]
    assert len(made.manifest.batchnorms) == 1


def test_a_shape_that_the_code_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"does not take inputs of \[1, 8\]") as caught:
        export_keras(One(), tmp_path / "x.onnx", input_shape=(1, 8))
    assert "\n" not in str(caught.value)


def test_a_batch_that_cannot_be_free_is_said(fill: Any, read: Any, tmp_path: Path) -> None:
    class Fixed(L.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.reshape(x, (2, 12))

    model = fill(images_of_two(Fixed()))
    made = export_keras(model, tmp_path / "x.onnx")
    assert dims(read(made.path).model)[0] == [2, 3, 4]
    assert len(made.notes) == 1
    assert "the batch is fixed at 2: with a free one, " in made.notes[0]


def images_of_two(layer: Any) -> Any:
    given = keras.Input(batch_shape=(2, 3, 4))
    return keras.Model(given, L.BatchNormalization()(layer(L.BatchNormalization()(given))))


def test_the_newest_opset_that_works(
    fill: Any, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tf2onnx.tfonnx

    plain, tried = tf2onnx.tfonnx.process_tf_graph, []

    def picky(*args: Any, opset: int, **options: Any) -> Any:
        tried.append(opset)
        if opset > 16:
            raise RuntimeError("no such operator\nat all")
        return plain(*args, opset=opset, **options)

    monkeypatch.setattr(tf2onnx.tfonnx, "process_tf_graph", picky)
    model = fill(images())
    made = export_keras(model, tmp_path / "x.onnx")
    assert (made.opset, tried) == (16, [18, 17, 16])
    assert made.notes == (
        "opset 16 is used: tf2onnx does not convert it to opset 18: RuntimeError: no such operator",
    )
    assert [e.version for e in read(made.path).model.opset_import if e.domain == ""] == [16]
    with pytest.raises(InspectorError, match="to opset 17: RuntimeError: no such operator"):
        export_keras(model, tmp_path / "y.onnx", opset=17)
    assert not (tmp_path / "y.onnx").exists()


def test_an_opset_that_the_runtime_refuses(
    fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspector.export import keras_export

    plain = keras_export.finish

    def picky(*args: Any, opset: int, **options: Any) -> Any:
        if opset == 18:
            raise RunError("the runtime has no such kernel")
        return plain(*args, opset=opset, **options)

    monkeypatch.setattr(keras_export, "finish", picky)
    made = export_keras(fill(images()), tmp_path / "x.onnx")
    assert made.opset == 17
    assert made.notes == ("opset 17 is used: the runtime has no such kernel",)
    with pytest.raises(RunError, match="no such kernel"):
        export_keras(images(), tmp_path / "x.onnx", opset=18)


def test_argmax_asks_for_no_bits(tmp_path: Path) -> None:
    """Keras asks for the sign of a zero by a Bitcast, which tf2onnx has no words for."""
    import keras

    entry = keras.Input((6, 6, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(entry))
    flat = keras.layers.Flatten()(x)
    outputs = [keras.ops.argmax(flat, axis=-1), keras.ops.argmin(x), keras.ops.signbit(x)]
    made = export_keras(keras.Model(entry, outputs), tmp_path / "x.onnx")
    assert made.manifest.verification is not None
    assert len(made.manifest.batchnorms) == 1
