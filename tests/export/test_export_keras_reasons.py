"""What a Keras export says of what it leaves out, stores otherwise, or cannot convert."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import ExitCode, UnreadableError
from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
L = keras.layers


def chain(shape: tuple[int | None, ...], *layers: Any, dtype: str | None = None) -> Any:
    image = x = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def bn(name: str | None = None) -> Any:
    return L.BatchNormalization(momentum=0.15, epsilon=2e-3, name=name)


class Dead(keras.Model):
    """One BatchNorm reaches no output, another does so in one of two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.dead = bn("used"), bn("dead")

    def call(self, x: Any) -> Any:
        y = self.used(x)
        self.used(self.dead(y))
        return y


def test_what_reaches_no_output(fill: Any, tmp_path: Path) -> None:
    model = Dead()
    model(np.zeros((2, 6), "f4"))
    made = export_keras(fill(model), tmp_path / "x.onnx")
    assert [each.source for each in made.manifest.batchnorms] == ["used"]
    assert made.notes == (
        "BatchNorm 'used' is called more often than it reaches an output: 1 in the file",
        "BatchNorm 'dead' is computed and reaches no output: it is not in the file",
    )
    assert {(each.source.partition("/")[0], each.why) for each in made.manifest.not_exported} == {
        ("dead", "no output depends on it")
    }


def test_what_reaches_no_output_of_a_saved_model(fill: Any, tmp_path: Path) -> None:
    model = Dead()
    model(np.zeros((2, 6), "f4"))
    fill(model).export(tmp_path / "saved", verbose=False)
    made = export_keras(tmp_path / "saved", tmp_path / "x.onnx")
    assert len(made.manifest.batchnorms) == 1
    left = made.manifest.not_exported
    assert [each.why for each in left] == ["no output depends on it"] * 4


def test_a_saved_model_says_what_wrote_it(tmp_path: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    chain((4,), bn()).export(tmp_path / "saved", verbose=False)
    file = tmp_path / "saved" / "saved_model.pb"
    stored = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    assert stored.meta_graphs[0].meta_info_def.tensorflow_version == tf.__version__
    stored.meta_graphs[0].meta_info_def.tensorflow_version = "2.3.4"
    file.write_bytes(stored.SerializeToString())
    made = export_keras(tmp_path / "saved", tmp_path / "x.onnx")
    assert "2.3.4" in made.manifest.framework_version
    assert keras.__version__ not in made.manifest.framework_version


class Infinite(L.Layer):
    """Uses an operator that tf2onnx has no words for."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.math.bessel_i0(x)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Shifting(L.Layer):
    """Uses an operator that tf2onnx writes since opset 10 alone."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.roll(x, 1, 1)

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Sampling(keras.Model):
    """Draws in inference."""

    def __init__(self) -> None:
        super().__init__(name="sampler")
        self.norm, self.seed = bn(), keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        mean = self.norm(x)
        return {
            "mean": mean,
            "drawn": mean + keras.random.normal(keras.ops.shape(x), 0, 1, None, self.seed),
        }


def sampling() -> Any:
    model = Sampling()
    model(np.zeros((2, 6), "f4"))
    return model


LOOKUP = {"vocabulary": [3, 4, 5], "output_mode": "one_hot", "name": "look"}


@pytest.mark.parametrize(
    ("build", "opset", "said", "advice"),
    [
        (
            lambda: chain((6,), L.Discretization([0.0, 1.0], name="bins"), bn()),
            None,
            "layer 'bins' (Discretization) computes Bucketize, for which ONNX has no operator",
            "without this layer",
        ),
        (
            lambda: chain((6,), bn(), chain((6,), Infinite(name="inner"))),
            None,
            "layer 'inner' (Infinite) computes BesselI0, for which ONNX has no",
            "without this layer",
        ),
        (
            lambda: chain((1,), L.IntegerLookup(**LOOKUP), bn(), dtype="int64"),
            None,
            "layer 'look' (IntegerLookup) computes LookupTableFindV2, "
            "which tf2onnx does not convert",
            "without this layer",
        ),
        (
            sampling,
            None,
            "the model (Sampling) computes StatelessRandom",
            "take what draws random numbers out",
        ),
        (
            lambda: chain((6,), bn(), Shifting(name="roll")),
            9,
            "layer 'roll' (Shifting) computes Roll, which tf2onnx does not write at opset 9",
            "--opset 18 can be converted to",
        ),
    ],
)
def test_an_operator_that_onnx_has_not(
    build: Any, opset: int | None, said: str, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableError) as caught:
        export_keras(build(), tmp_path / "x.onnx", opset=opset)
    assert said in caught.value.what
    assert advice in caught.value.hint
    assert ("--opset" in caught.value.hint) == (opset is not None)
    assert not list(tmp_path.iterdir())


def test_the_opset_that_is_advised_works(tmp_path: Path) -> None:
    export_keras(chain((6,), bn(), Shifting()), tmp_path / "x.onnx", opset=18)


def test_strings_are_fed_to_nothing(tmp_path: Path) -> None:
    look = L.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    model = chain((1,), look, bn(), dtype="string")
    with pytest.raises(UnreadableError, match="takes strings") as caught:
        export_keras(model, tmp_path / "x.onnx")
    assert "--no-verify" in caught.value.hint
    assert len(export_keras(model, tmp_path / "x.onnx", verify=False).manifest.batchnorms) == 1


def test_weights_of_more_than_one_graph_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspector.export import keras_export, protos

    monkeypatch.setattr(protos, "LIMIT", 100)
    monkeypatch.setattr(keras_export, "subject_of", None)  # what begins the work
    with pytest.raises(UnreadableError, match="TensorFlow freezes 2 GiB at most"):
        export_keras(chain((6,), L.Dense(8), bn()), tmp_path / "x.onnx")


CUSTOM = """
import warnings
import keras

class Twice(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        warnings.warn("built by hand")

    def call(self, x):
        return x * 2

def own(x):
    return x * keras.ops.sigmoid(x)

class Net(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.norm = keras.layers.BatchNormalization()

    def call(self, x):
        return self.norm(x)
"""


@pytest.fixture
def custom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of classes that nothing registers."""
    (tmp_path / "unregistered_parts.py").write_text(CUSTOM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    yield importlib.import_module("unregistered_parts")
    sys.modules.pop("unregistered_parts", None)


def net(custom: Any) -> Any:
    model = custom.Net()
    model(np.zeros((2, 6), "f4"))
    return model


@pytest.mark.filterwarnings("ignore:built by hand")
@pytest.mark.parametrize(
    ("build", "file", "said"),
    [
        (lambda c: chain((6,), c.Twice(), bn()), "m.keras", "the class 'Twice' of module"),
        (lambda c: chain((6,), c.Twice(), bn()), "m.h5", "the layer 'Twice'"),
        (
            lambda c: chain((6,), L.Dense(3, activation=c.own), bn()),
            "m.keras",
            "the function 'own'",
        ),
        (net, "m.keras", "the class 'Net' of module 'unregistered_parts'"),
    ],
)
def test_a_file_with_classes_that_are_not_registered(
    build: Any, file: str, said: str, custom: Any, tmp_path: Path, capfd: Any
) -> None:
    build(custom).save(tmp_path / file)
    sys.modules.pop("unregistered_parts")
    with pytest.raises(UnreadableError) as caught:
        export_keras(file, tmp_path / "x.onnx")
    assert f"it needs {said}" in caught.value.what
    assert "--import " in caught.value.hint
    assert "builtins" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.UNREADABLE
    capfd.readouterr()
    made = export_keras(file, tmp_path / "x.onnx", imports=["unregistered_parts"])
    assert len(made.manifest.batchnorms) == 1
    assert "by hand" not in capfd.readouterr().err


def test_warnings_of_the_code_that_builds_the_model(custom: Any, tmp_path: Path) -> None:
    import warnings

    (tmp_path / "net.py").write_text(
        "import warnings, keras\n"
        "def build():\n"
        "    warnings.warn('raw')\n"
        "    return keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])\n"
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        export_keras("net.py:build", tmp_path / "x.onnx")
    assert not [each for each in said if "raw" in str(each.message)]


def test_code_that_fails_is_not_an_opset_s_fault(tmp_path: Path) -> None:
    class Adding(L.Layer):
        def call(self, x: Any) -> Any:
            import tensorflow as tf

            return x + tf.constant(1.0)

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    model = chain((6,), L.Dense(3, dtype="mixed_float16"), Adding(dtype="mixed_float16"), bn())
    with pytest.raises(UnreadableError, match="InvalidArgumentError") as caught:
        export_keras(model, tmp_path / "x.onnx")
    assert "opset" not in str(caught.value)
