"""Models from files and folders: .keras, .h5, SavedModel; custom objects and unsafe code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inspector.errors import UnreadableError, UsageError
from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
L = keras.layers


def chain(shape: tuple[int | None, ...], *layers: Any) -> Any:
    image = x = keras.Input(shape, name="image")
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x, name="net")


def bn(**options: Any) -> Any:
    return L.BatchNormalization(**{"momentum": 0.15, "epsilon": 2e-3, **options})


@pytest.fixture
def read() -> Callable[[str | Path], Any]:
    """As in conftest.py, for nodes that may have no momentum."""
    import onnx
    from onnx import helper, numpy_helper

    def look(path: str | Path) -> Any:
        model = onnx.load(str(path))
        arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
        attributes = {
            n.name: {a.name: helper.get_attribute_value(a) for a in n.attribute} for n in norms
        }
        return SimpleNamespace(
            model=model,
            norms={n.name: n for n in norms},
            tensors={n.name: [arrays[name] for name in n.input[1:]] for n in norms},
            momentum={name: each.get("momentum") for name, each in attributes.items()},
            epsilon={name: each["epsilon"] for name, each in attributes.items()},
            float_elements=sum(each.size for each in arrays.values() if each.dtype.kind == "f"),
        )

    return look


def small() -> Any:
    return chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.ReLU(), L.Flatten(), L.Dense(2), bn())


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_a_saved_file(name: str, fill: Any, read: Any, run: Any, tmp_path: Path) -> None:
    model = fill(small())
    model.save(tmp_path / name)
    made = export_keras(str(tmp_path / name), tmp_path / "x.onnx")
    seen = read(made.path)
    assert len(seen.norms) == 2
    assert set(seen.momentum.values()) == {np.float32(0.15)}
    assert seen.float_elements == model.count_params()
    image = np.random.default_rng(0).normal(size=(3, 6, 6, 3)).astype("f4")
    assert (
        np.abs(run(made.path, {"image": image})[0] - model.predict(image, verbose=0)).max() < 1e-4
    )
    assert made.notes == ()


GRAPHS: dict[str, tuple[Callable[[], Any], int]] = {
    "rank 2": (lambda: chain((5,), L.Dense(4), bn()), 1),
    "rank 3": (lambda: chain((6, 5), L.Conv1D(4, 3), bn()), 1),
    "rank 3, axis 1": (lambda: chain((6, 5), bn(axis=1)), 1),
    "rank 4": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.ReLU(), bn()), 2),
    "rank 4, axis 1": (lambda: chain((3, 6, 7), bn(axis=1)), 1),
    "rank 4, axis 2": (lambda: chain((3, 6, 7), bn(axis=2)), 1),
    "rank 5": (lambda: chain((4, 4, 4, 2), L.Conv3D(3, 2), bn()), 1),
    "rank 6": (lambda: chain((2, 3, 4, 4, 2), bn()), 1),
    "no scale": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(scale=False)), 1),
    "no center": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(center=False)), 1),
    "neither": (lambda: chain((6, 5), bn(scale=False, center=False)), 1),
    "one channel": (lambda: chain((6, 6, 1), bn()), 1),
    "small": (small, 2),
}


@pytest.mark.parametrize(
    ("way", "kind"), [*(("export", kind) for kind in GRAPHS), ("save", "rank 4"), ("save", "small")]
)
def test_a_saved_model_has_its_norms_again(
    way: str, kind: str, fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    import tensorflow as tf

    build, count = GRAPHS[kind]
    model = fill(build())
    folder = tmp_path / "saved"
    if way == "export":
        model.export(folder, verbose=False)
    else:
        tf.saved_model.save(model, str(folder))
    made = export_keras(str(folder), tmp_path / "x.onnx")
    seen = read(made.path)
    assert len(seen.norms) == len(made.manifest.batchnorms) == count
    for each in made.manifest.batchnorms:
        layer = model.get_layer(each.source)
        mean = layer.moving_mean.numpy()
        wanted = (
            layer.gamma.numpy() if layer.scale else np.ones_like(mean),
            layer.beta.numpy() if layer.center else np.zeros_like(mean),
            mean,
            layer.moving_variance.numpy(),
        )
        for own, other in zip(wanted, seen.tensors[each.node], strict=True):
            assert own.tobytes() == other.tobytes()
        assert np.float32(seen.epsilon[each.node]) == np.float32(2e-3)
        assert each.momentum is None
    assert any("momentum" in note for note in made.notes)
    sources = {each.source for each in made.manifest.tensors if not each.synthetic}
    assert sources == {each.path for each in model.weights}
    totals = made.manifest.totals
    assert totals.trainable + totals.other == model.count_params()
    name, *_ = (each.name for each in seen.model.graph.input)
    image = np.random.default_rng(0).normal(size=(3, *model.inputs[0].shape[1:])).astype("f4")
    (got,) = run(made.path, {name: image})
    assert np.allclose(got, model.predict(image, verbose=0), rtol=2e-5, atol=1e-4)


def test_a_saved_network(read: Any, run: Any, tmp_path: Path) -> None:
    model = keras.applications.MobileNetV2(
        weights=None, classes=10, alpha=0.35, input_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(1)
    for each in model.weights:
        if each.path.endswith(("gamma", "moving_variance")):
            each.assign(rng.uniform(0.5, 1.5, each.shape))
        elif each.path.endswith(("beta", "moving_mean")):
            each.assign(rng.normal(0.0, 0.1, each.shape))
    model.export(tmp_path / "saved", verbose=False)
    made = export_keras(tmp_path / "saved", tmp_path / "x.onnx")
    seen = read(made.path)
    assert len(seen.norms) == 52
    assert made.manifest.verification.bitwise == 208
    assert {e.source for e in made.manifest.tensors} == {e.path for e in model.weights}
    assert not any("PartitionedCall" in node.name for node in seen.model.graph.node)
    for each in made.manifest.batchnorms:
        layer = model.get_layer(each.source)
        assert layer.moving_mean.numpy().tobytes() == seen.tensors[each.node][2].tobytes()


def test_layers_of_one_name_in_a_saved_model(fill: Any, read: Any, tmp_path: Path) -> None:
    def inner(name: str) -> Any:
        image = keras.Input((6, 6, 3))
        return keras.Model(image, bn(name="bn")(L.Conv2D(3, 1, name="conv")(image)), name=name)

    model = fill(chain((6, 6, 3), inner("one"), inner("two")))
    model.export(tmp_path / "saved", verbose=False)
    made = export_keras(tmp_path / "saved", tmp_path / "x.onnx")
    seen = read(made.path)
    assert sorted(each.source for each in made.manifest.batchnorms) == ["bn", "bn_1"]
    assert len({each.source for each in made.manifest.tensors}) == len(model.weights)
    held = {each.source: each.name for each in made.manifest.tensors}
    for each in made.manifest.batchnorms:
        number = each.source.removeprefix("bn")
        assert list(seen.norms[each.node].input[1:]) == [
            held[f"bn/{part}{number}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        ]


def test_a_saved_model_in_mixed_precision(fill: Any, read: Any, tmp_path: Path) -> None:
    half = {"dtype": "mixed_float16"}
    model = fill(chain((8, 8, 3), L.Conv2D(4, 3, **half), bn(**half), L.ReLU(**half)))
    model.export(tmp_path / "saved", verbose=False)
    made = export_keras(tmp_path / "saved", tmp_path / "x.onnx")
    assert len(read(made.path).norms) == 1
    assert made.manifest.verification.bitwise == 4


def test_a_saved_model_with_free_axes(fill: Any, read: Any, tmp_path: Path) -> None:
    fill(chain((None, None, 3), L.Conv2D(4, 3), bn())).export(tmp_path / "saved", verbose=False)
    made = export_keras(
        tmp_path / "saved",
        tmp_path / "x.onnx",
        dynamic=("batch", "height"),
        input_shape=(1, 8, 10, 3),
        inputs_as_nchw=True,
    )
    shape = read(made.path).model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 3, "height", 10]


def test_what_a_saved_model_computes_otherwise_stays(tmp_path: Path, read: Any) -> None:
    # Arithmetic that looks alike and is none: the mean is not that of the shift.
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (tf.Variable([1.0, 2.0, k]) for k in (3.0, 4.0, 5.0))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def serve(self, x: Any) -> Any:
            inverse = tf.math.rsqrt(self.a + 1e-3) * self.b
            return {"y": x * inverse + (self.c - x * inverse)}

    net = Net()
    tf.saved_model.save(net, str(tmp_path / "saved"), signatures=net.serve)
    made = export_keras(tmp_path / "saved", tmp_path / "x.onnx")
    assert read(made.path).norms == {}
    assert made.notes == ()


def test_folders_that_serve_nothing(tmp_path: Path) -> None:
    import tensorflow as tf

    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="it is no SavedModel"):
        export_keras(str(tmp_path / "empty"), tmp_path / "x.onnx")
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    with pytest.raises(UnreadableError, match="has no signature 'serving_default'"):
        export_keras(str(tmp_path / "bare"), tmp_path / "x.onnx")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"\x00garbage")
    with pytest.raises(UnreadableError, match="TensorFlow does not load it") as caught:
        export_keras(str(tmp_path / "broken"), tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


CUSTOM = """
import keras

@keras.saving.register_keras_serializable("bninspect_tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x
"""


def test_custom_objects_by_import(
    fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_layers.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(str(tmp_path))
    import own_layers  # type: ignore[import-not-found]  # written above

    fill(chain((4,), own_layers.Doubled(), bn())).save(tmp_path / "net.keras")
    monkeypatch.undo()
    sys.modules.pop("own_layers")
    registered = keras.saving.get_custom_objects()
    registered.pop("bninspect_tests>Doubled")
    with pytest.raises(UnreadableError, match="needs the class 'Doubled' of module 'own") as caught:
        export_keras(str(tmp_path / "net.keras"), tmp_path / "x.onnx")
    assert "--import" in caught.value.hint

    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    made = export_keras(str(tmp_path / "net.keras"), tmp_path / "x.onnx", imports=["own_layers"])
    assert sys.path == path
    assert len(made.manifest.batchnorms) == 1
    sys.modules.pop("own_layers")
    registered.pop("bninspect_tests>Doubled")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no module 'own_missing'"),
        ("raise ValueError('no\\nway')", "it does not import: ValueError: no"),
        ("import sys\nsys.exit(3)", "it does not import: SystemExit: 3"),
        ("import nowhere_else", "it does not import: ModuleNotFoundError"),
    ],
)
def test_modules_that_do_not_import(
    text: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "own_missing.py").write_text(text)
    with pytest.raises(UnreadableError) as caught:
        export_keras("net.keras", tmp_path / "x.onnx", imports=["own_missing"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    sys.modules.pop("own_missing", None)


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_code_in_a_file_is_not_run_unless_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    model = chain((4,), L.Lambda(lambda x: x * 2.0), bn())
    model.save(tmp_path / name)
    monkeypatch.setattr(keras.layers.Lambda, "call", lambda *_, **__: trace.touch())
    with pytest.raises(UnreadableError, match="safe_mode refuses to run it") as caught:
        export_keras(str(tmp_path / name), tmp_path / "x.onnx")
    assert "--unsafe runs it" in caught.value.hint
    assert not trace.exists()
    monkeypatch.undo()
    made = export_keras(str(tmp_path / name), tmp_path / "x.onnx", unsafe=True)
    assert len(made.manifest.batchnorms) == 1
    assert "safe_mode off" in made.notes[0]


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("no model")
    with pytest.raises(UnreadableError, match="not a saved Keras model"):
        export_keras(tmp_path / "net.txt", tmp_path / "x.onnx")
    with pytest.raises(UsageError, match="names no callable"):
        export_keras(str(tmp_path / "net.txt"), tmp_path / "x.onnx")
