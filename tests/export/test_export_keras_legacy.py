"""tf_keras, which is Keras 2: its layers, its files, and what of them is safe to load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import ExportDisagreesError, UnreadableError
from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
tf_keras = pytest.importorskip("tf_keras", reason="these are tests of it")
L = tf_keras.layers


def chain(shape: tuple[int | None, ...], *layers: Any, **options: Any) -> Any:
    image = x = tf_keras.Input(shape, **options)
    for layer in layers:
        x = layer(x)
    return tf_keras.Model(image, x, name="net")


def bn(**options: Any) -> Any:
    return L.BatchNormalization(**{"momentum": 0.15, "epsilon": 2e-3, **options})


def filled(model: Any) -> Any:
    rng = np.random.default_rng(7)
    for each in model.weights:
        low = 0.5 if "gamma" in each.name or "variance" in each.name else -0.5
        each.assign(rng.uniform(low, low + 1.0, each.shape))
    return model


class Subclassed(tf_keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norms = L.Conv2D(4, 3), [bn(), bn()]

    def call(self, x: Any) -> Any:
        x = self.conv(x)
        for norm in self.norms:
            x = norm(x)
        return x


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((2, 6, 6, 3), "f4"))
    return model


def shared() -> Any:
    norm, conv = bn(), L.Conv2D(3, 3, padding="same")
    image = tf_keras.Input((6, 6, 3))
    return tf_keras.Model(image, norm(conv(L.ReLU()(norm(conv(image))))))


def several() -> Any:
    a, b = tf_keras.Input((6,), name="a"), tf_keras.Input((4,), name="b")
    x, y = bn()(L.Dense(3)(a)), bn()(L.Dense(3)(b))
    return tf_keras.Model([a, b], [L.Add()([x, y]), x])


NETS: dict[str, tuple[Callable[[], Any], int]] = {
    "rank 2": (lambda: chain((5,), L.Dense(4), bn(), L.Dense(2)), 1),
    "rank 3": (lambda: chain((6, 5), L.Conv1D(4, 3), bn()), 1),
    "rank 3, axis 1": (lambda: chain((6, 5), bn(axis=1)), 1),
    "rank 4": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.Conv2D(4, 3), bn()), 2),
    "rank 4, axis 1": (lambda: chain((3, 6, 7), bn(axis=1)), 1),
    "rank 5": (lambda: chain((4, 4, 4, 2), L.Conv3D(3, 2), bn()), 1),
    "depthwise": (lambda: chain((6, 6, 3), L.DepthwiseConv2D(3), bn(), L.SeparableConv2D(4, 2)), 1),
    "transposed": (lambda: chain((6, 6, 3), L.Conv2DTranspose(4, 3, strides=2), bn()), 1),
    "not fused": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(fused=False)), 1),
    "virtual batches": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(virtual_batch_size=2)), 1),
    "synchronized": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(synchronized=True)), 1),
    "nested": (lambda: chain((6, 6, 3), chain((6, 6, 3), L.Conv2D(4, 3), bn()), L.ReLU(), bn()), 2),
    "sequential": (lambda: tf_keras.Sequential([L.Input((6, 6, 3)), L.Conv2D(4, 3), bn()]), 1),
    "mixed": (lambda: chain((6, 6, 3), L.Conv2D(4, 3, dtype="mixed_float16"),
                            bn(dtype="mixed_float16")), 1),
    "any size": (lambda: chain((None, None, 3), L.Conv2D(4, 3), bn()), 1),
    "subclassed": (subclassed, 2),
    "shared": (shared, 2),
    "several": (several, 2),
}  # fmt: skip


@pytest.mark.parametrize(("build", "count"), NETS.values(), ids=NETS.keys())
def test_every_norm_is_kept(
    build: Callable[[], Any], count: int, read: Any, tmp_path: Path
) -> None:
    model = filled(build())
    before = [each.numpy().tobytes() for each in model.weights]
    made = export_keras(model, tmp_path / "x.onnx")
    seen = read(made.path)
    assert [each.numpy().tobytes() for each in model.weights] == before
    assert len(seen.norms) == len(made.manifest.batchnorms) == count
    layers = [e for e in model._flatten_layers() if isinstance(e, L.BatchNormalization)]
    by_mean = {e.moving_mean.numpy().astype("f4").tobytes(): e for e in layers}
    for each in made.manifest.batchnorms:
        stored = seen.tensors[each.node]
        layer = by_mean[stored[2].tobytes()]
        assert each.source.rpartition("/")[2] == layer.name
        own = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        for variable, other in zip(own, stored, strict=True):
            assert variable.numpy().tobytes() == other.tobytes()
        assert np.float32(seen.momentum[each.node]) == np.float32(0.15)
        assert np.float32(seen.epsilon[each.node]) == np.float32(2e-3)
    assert seen.float_elements == model.count_params()
    names = [e.name.partition(":")[0].removeprefix(f"{model.name}/") for e in model.weights]
    assert sorted({e.source for e in made.manifest.tensors}) == sorted(names)
    assert made.manifest.exporter.startswith("tf_keras, ")
    assert made.manifest.framework_version == tf_keras.__version__
    listed = [each.name for each in made.manifest.layers if not each.within]
    assert listed == [each.name for each in model.layers]
    scoped = {each.name: each.scopes for each in made.manifest.layers}
    assert all(scoped[each.source.rpartition("/")[2]] for each in made.manifest.batchnorms
               if "/" not in each.source and each.source in scoped)  # fmt: skip


@pytest.mark.parametrize(("scale", "center"), [(False, True), (True, False), (False, False)])
def test_without_scale_or_center(scale: bool, center: bool, read: Any, tmp_path: Path) -> None:
    model = filled(chain((6, 6, 3), L.Conv2D(4, 3), bn(scale=scale, center=center)))
    made = export_keras(model, tmp_path / "x.onnx")
    invented = [each for each in made.manifest.tensors if each.synthetic]
    assert len(invented) == (not scale) + (not center)
    assert read(made.path).float_elements == model.count_params() + 4 * len(invented)


def test_free_axes(read: Any, run: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    model = filled(chain((8, 8, 3), L.Conv2D(4, 3), bn(), L.GlobalMaxPooling2D(), name="image"))
    made = export_keras(
        model, tmp_path / "x.onnx", dynamic=("batch", "height", "width"), inputs_as_nchw=True
    )
    shape = read(made.path).model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 3, "height", "width"]
    image = np.random.default_rng(0).normal(size=(2, 11, 19, 3)).astype("f4")
    (got,) = run(made.path, {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))})
    spec = [tf.TensorSpec([None, None, None, 3])]
    plain = tf.function(lambda x: model(x, training=False), input_signature=spec)
    assert np.abs(got - plain(image).numpy()).max() < 1e-5


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    made = export_keras(
        filled(chain((6, 6, 3), L.Conv2D(4, 3), bn(renorm=True))), tmp_path / "x.onnx"
    )
    assert "batch renormalisation" in made.notes[0]
    left = {each.source.rpartition("/")[2] for each in made.manifest.not_exported}
    assert left == {"renorm_mean", "renorm_stddev", "moving_stddev"}

    with pytest.raises(ExportDisagreesError, match=r"normalises over axes \[1, 3\]"):
        export_keras(filled(chain((4, 4, 3), bn(axis=[1, 3]))), tmp_path / "y.onnx")

    image = tf_keras.Input((6,))
    forced = tf_keras.Model(image, bn()(image, training=True))
    made = export_keras(filled(forced), tmp_path / "z.onnx")
    assert "is called with training=True" in made.notes[0]


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "folder"])
def test_files(name: str, read: Any, tmp_path: Path) -> None:
    model = filled(chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.Flatten(), L.Dense(2), bn()))
    model.save(tmp_path / name, **({"save_format": "tf"} if name == "folder" else {}))
    made = export_keras(str(tmp_path / name), tmp_path / "x.onnx")
    seen = read(made.path)
    assert len(seen.norms) == 2
    assert set(seen.momentum.values()) == {np.float32(0.15)}
    assert made.manifest.exporter.startswith("tf_keras, ")
    assert seen.float_elements == model.count_params()
    assert made.notes == ()


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "folder"])
def test_code_in_files_is_not_run_unless_asked_for(name: str, tmp_path: Path) -> None:
    model = filled(
        chain((6, 6, 3), L.Conv2D(4, 3), L.Lambda(lambda x: (MET.append(1), x * 2.0)[1]), bn())
    )
    model.save(tmp_path / name, **({"save_format": "tf"} if name == "folder" else {}))
    MET.clear()
    if name == "folder":
        made = export_keras(str(tmp_path / name), tmp_path / "x.onnx")
        assert "its graph was exported" in made.notes[0]
        assert made.manifest.exporter.startswith("SavedModel, ")
        assert len(made.manifest.batchnorms) == 1
    else:
        with pytest.raises(UnreadableError) as caught:
            export_keras(str(tmp_path / name), tmp_path / "x.onnx")
        assert "--unsafe" in caught.value.hint
    assert MET == []


MET: list[int] = []


def test_a_file_cannot_have_a_module_imported(tmp_path: Path) -> None:
    model = filled(chain((4,), L.Dense(3, activation="relu"), bn()))
    model.save(tmp_path / "plain.keras")
    with (
        zipfile.ZipFile(tmp_path / "plain.keras") as plain,
        zipfile.ZipFile(tmp_path / "net.keras", "w") as changed,
    ):
        for name in plain.namelist():
            data = plain.read(name)
            if name == "config.json":
                config = json.loads(data)
                dense = config["config"]["layers"][1]
                dense["module"], dense["registered_name"] = "antigravity", "x"
                data = json.dumps(config).encode()
            changed.writestr(name, data)
    with pytest.raises(UnreadableError, match="safe_mode refuses to run it"):
        export_keras(str(tmp_path / "net.keras"), tmp_path / "x.onnx")
    assert "antigravity" not in sys.modules


def test_a_folder_with_layers_of_unknown_code(read: Any, tmp_path: Path) -> None:
    model = filled(subclassed())
    model.save(tmp_path / "folder", save_format="tf")
    made = export_keras(str(tmp_path / "folder"), tmp_path / "x.onnx")
    assert "cannot be restored without their code" in made.notes[0]
    assert len(made.manifest.batchnorms) == 2
    assert made.manifest.verification.bitwise == 8


SCRIPT = """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf
def build():
    assert tf.keras.__name__.startswith("tf_keras"), tf.keras.__name__
    return tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.BatchNormalization()])
"""


@pytest.mark.skipif(not os.environ.get("BNINSPECT_LONG"), reason="starts TensorFlow again")
def test_keras_2_behind_the_name_of_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SCRIPT)
    done = subprocess.run(  # this Python
        [sys.executable, "-m", "inspector", "export", "keras", "net.py:build", "-o", "x.onnx"],
        cwd=tmp_path,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
