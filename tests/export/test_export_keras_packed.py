"""Variables that ONNX has in another form, and what tf2onnx writes for Resize."""

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
L = keras.layers


def chain(shape: tuple[int | None, ...], *layers: Any) -> Any:
    image = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def weights_left_out(made: Any) -> dict[str, str]:
    return {each.source: each.why for each in made.manifest.not_exported if each.is_weight}


def test_an_lstm_s_bias_is_its_own(fill: Any, read: Any, tmp_path: Path) -> None:
    model = fill(chain((5, 4), L.LSTM(3, return_sequences=True, name="r"), L.BatchNormalization()))
    made = export_keras(model, tmp_path / "x.onnx")
    seen = read(made.path)
    assert weights_left_out(made) == {}
    (node,) = (each for each in seen.model.graph.node if each.op_type == "LSTM")
    cell = "r/lstm_cell"
    assert list(node.input[1:4]) == [f"{cell}/kernel", f"{cell}/recurrent_kernel", f"{cell}/bias"]
    i, f, c, o = np.split(model.get_layer("r").cell.bias.numpy(), 4)
    stored = seen.arrays[f"{cell}/bias"]
    assert stored.tobytes() == np.concatenate([i, o, f, c, np.zeros(12, "f4")]).tobytes()
    tied = {each.name: each.source for each in made.manifest.tensors}
    assert tied[f"{cell}/bias"] == f"{cell}/bias"


def test_two_directions_lie_beside_each_other(fill: Any, read: Any, tmp_path: Path) -> None:
    layer = L.Bidirectional(L.LSTM(3, return_sequences=True), name="r")
    made = export_keras(fill(chain((5, 4), layer, L.BatchNormalization())), tmp_path / "x.onnx")
    seen = read(made.path)
    (node,) = (each for each in seen.model.graph.node if each.op_type == "LSTM")
    left = weights_left_out(made)
    assert len(left) == 6
    for source, why in left.items():
        part = ("kernel", "recurrent_kernel", "bias").index(source.rpartition("/")[2])
        assert why.startswith(f"stored in {node.input[1 + part]!r} beside others")
    assert not {each.name for each in made.manifest.tensors} & set(node.input[1:4])


def test_what_is_not_equal_is_not_said_to_be(
    fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspector.export import keras_packed

    monkeypatch.setattr(keras_packed, "_GATES", (0, 1, 2, 3))
    model = fill(chain((5, 4), L.Bidirectional(L.LSTM(3)), L.BatchNormalization()))
    made = export_keras(model, tmp_path / "x.onnx")
    assert {each for each in weights_left_out(made).values()} == {
        "stored in another form, from which its values cannot be told"
    }


def test_the_rows_of_a_gru_s_bias(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="this model is of it")
    sequence = tf_keras.Input((5, 4))
    model = tf_keras.Model(sequence, tf_keras.layers.GRU(2, name="r")(sequence))
    rng = np.random.default_rng(0)
    for each in model.weights:
        each.assign(rng.normal(size=each.shape))
    made = export_keras(model, tmp_path / "x.onnx")
    ((source, why),) = weights_left_out(made).items()
    assert source.endswith("bias")
    assert "row by row: equal in every bit" in why


def test_the_constants_of_a_normalization(read: Any, tmp_path: Path) -> None:
    layer = L.Normalization(name="n")
    layer.adapt(np.random.default_rng(0).normal(size=(50, 3, 4)).astype("f4") * 3 + 1)
    model = chain((3, 4), layer, L.BatchNormalization())
    made = export_keras(model, tmp_path / "x.onnx")
    tied = {each.source: each.name for each in made.manifest.tensors}
    assert (tied["n/mean"], tied["n/variance"]) == ("n/mean", "n/variance/root")
    arrays = read(made.path).arrays
    variables = {each.path: each.numpy() for each in layer.weights}
    assert arrays["n/mean"].tobytes() == variables["n/mean"].tobytes()
    assert arrays["n/variance/root"].tobytes() == np.sqrt(variables["n/variance"]).tobytes()
    assert list(weights_left_out(made)) == ["n/count"]


def test_constants_that_are_equal(tmp_path: Path) -> None:
    layer = L.Normalization(name="n")
    layer.build((None, 4))
    for each in layer.weights[:2]:
        each.assign(np.ones(4, "f4"))
    layer.finalize_state()
    made = export_keras(chain((4,), layer, L.BatchNormalization()), tmp_path / "x.onnx")
    sources = [each.source for each in made.manifest.tensors if each.source.startswith("n/")]
    assert sorted(sources) == ["n/mean", "n/variance"]


def test_constants_of_a_layer_that_is_called_twice(read: Any, tmp_path: Path) -> None:
    layer = L.Normalization(name="n")
    layer.adapt(np.random.default_rng(0).normal(size=(50, 4)).astype("f4") * 3 + 1)
    made = export_keras(chain((4,), layer, layer, L.BatchNormalization()), tmp_path / "x.onnx")
    assert read(made.path).float_elements == 6 * 4
    names = [each.name for each in made.manifest.tensors if each.source.startswith("n/")]
    assert sorted(names) == ["n/mean", "n/variance/root"]


def test_constants_that_the_variables_do_not_tell(tmp_path: Path) -> None:
    layer = L.Normalization(name="n")
    layer.adapt(np.random.default_rng(0).normal(size=(50, 3, 4)).astype("f4"))
    model = chain((3, 4), layer, L.BatchNormalization())
    for each in layer.weights[:2]:
        each.assign(each + 1.0)  # the constants stay
    made = export_keras(model, tmp_path / "x.onnx")
    assert set(weights_left_out(made)) == {"n/mean", "n/variance", "n/count"}


@pytest.mark.parametrize("opset", [11, 17, None])
def test_images_of_every_length(opset: int | None, fill: Any, read: Any, tmp_path: Path) -> None:
    # 23 · (7 / 23) is 6.9999995 in single precision.
    image = keras.Input((20, 23, 3))
    sizes = ((31, 7), (13, 17), (40, 46))
    made = [
        L.BatchNormalization()(L.Resizing(*each, interpolation="nearest")(image)) for each in sizes
    ]
    path = export_keras(fill(keras.Model(image, made)), tmp_path / "x.onnx", opset=opset).path
    graph = read(path).model.graph
    found = [[d.dim_value for d in e.type.tensor_type.shape.dim[1:3]] for e in graph.output]
    assert [tuple(each) for each in found] == list(sizes)
    modes = {
        attribute.s.decode()
        for node in graph.node
        if node.op_type == "Resize"
        for attribute in node.attribute
        if attribute.name == "coordinate_transformation_mode"
    }
    # What ONNX took away with opset 13 is not asked for since.
    assert modes == ({"tf_half_pixel_for_nn"} if opset == 11 else {"half_pixel"})


def test_half_precision_is_resized_in_single(fill: Any, tmp_path: Path) -> None:
    options = {"dtype": "mixed_float16"}
    up = L.UpSampling2D(interpolation="bilinear", **options)
    model = chain((6, 6, 3), L.Conv2D(4, 3, **options), L.BatchNormalization(**options), up)
    made = export_keras(fill(model), tmp_path / "x.onnx")
    assert made.manifest.verification is not None
