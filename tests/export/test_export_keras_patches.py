"""The patches: scoped, of one thread, undone on every exit, and checked against the versions."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import InspectorError, UsageError
from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
tf_keras = pytest.importorskip("tf_keras", reason="it is patched too")
L = keras.layers


def net(library: Any = keras, name: str | None = None) -> Any:
    image = library.Input((6, 6, 2))
    x = library.layers.Conv2D(3, 3)(image)
    model = library.Model(image, library.layers.BatchNormalization()(x), name=name)
    rng = np.random.default_rng(0)
    for each in model.weights:
        each.assign(rng.uniform(0.5, 1.5, each.shape))
    return model


def everything() -> dict[str, Any]:
    """All that a patch touches, with what the owners hold themselves."""
    import tensorflow as tf
    import tf2onnx
    from keras.src.backend.tensorflow import nn
    from keras.src.backend.tensorflow.core import name_scope
    from keras.src.ops.operation import Operation
    from tf2onnx import optimizer, tf_loader, utils
    from tf2onnx.optimizer import back_to_back_optimizer as folds
    from tf_keras.src.engine.base_layer import Layer
    from tf_keras.src.layers.normalization.batch_normalization import BatchNormalizationBase

    owners = {
        "tf": (tf, "function"),
        "nn": (nn, "batch_normalization"),
        "keras": (L.BatchNormalization, "call"),
        "scope": (name_scope, "__enter__"),
        "operation": (Operation, "__call__"),
        "loader": (tf_loader, "tf_optimize_grappler"),
        "folds": (folds, "_func_map"),
        "numbers": (utils, "INTERNAL_NAME"),
        "legacy": (BatchNormalizationBase, "call"),
        "legacy layer": (Layer, "_autographed_call"),
    }
    found: dict[str, Any] = {key: getattr(owner, name) for key, (owner, name) in owners.items()}
    found |= {f"{key}, own": name in vars(owner) for key, (owner, name) in owners.items()}
    found["optimizers"] = list(optimizer._get_optimizers())
    found["pairs"] = sorted(folds._func_map)
    found["root"] = (list(logging.root.handlers), logging.root.disabled)
    found["modules"] = {name: sorted(vars(each)) for name, each in (("tf2onnx", tf2onnx),)}
    return found


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_everything_is_as_it_was(library: Any, tmp_path: Path) -> None:
    export_keras(net(library), tmp_path / "x.onnx")  # imports what is imported late
    before = everything()
    export_keras(net(library), tmp_path / "x.onnx")
    assert everything() == before


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_as_it_was_after_a_failure(
    library: Any, error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tf2onnx.tfonnx

    def fail(*_: Any, **__: Any) -> None:
        raise error("stop")

    export_keras(net(library), tmp_path / "y.onnx")
    before = everything()
    monkeypatch.setattr(tf2onnx.tfonnx, "process_tf_graph", fail)
    with pytest.raises((InspectorError, KeyboardInterrupt)):
        export_keras(net(library), tmp_path / "x.onnx")
    assert everything() == before
    assert not (tmp_path / "x.onnx").exists()


def test_what_keras_computes_stays_the_same(tmp_path: Path) -> None:
    model, image = net(), np.random.default_rng(1).normal(size=(2, 6, 6, 2)).astype("f4")
    before = model(image).numpy().tobytes()
    export_keras(model, tmp_path / "x.onnx")
    assert model(image).numpy().tobytes() == before
    model.compile("sgd", "mse")
    model.fit(image, np.zeros((2, 4, 4, 3), "f4"), verbose=0)


def test_other_threads_see_no_patch() -> None:
    import tensorflow as tf

    from inspector.export import keras_library, keras_patches

    model, image = net(), np.zeros((1, 6, 6, 2), "f4")
    operators: list[set[str]] = []

    def trace() -> None:
        spec = [tf.TensorSpec([None, 6, 6, 2])]
        function = tf.function(lambda x: model(x, training=False), input_signature=spec)
        graph = function.get_concrete_function().graph
        operators.append({each.type for each in graph.get_operations()})

    with keras_patches.native_batchnorm(keras_library.Keras()) as calls:
        thread = threading.Thread(target=trace)
        thread.start()
        thread.join()
        assert calls.met == []
        trace()
        assert len(calls.met) == 1
    model(image)
    assert "FusedBatchNormV3" not in operators[0]
    assert "FusedBatchNormV3" in operators[1]


def test_exports_in_several_threads(read: Any, tmp_path: Path) -> None:
    before = everything()
    models = [net(name=f"net_{i}") for i in range(4)]
    failed: list[BaseException] = []

    def export(i: int) -> None:
        try:
            export_keras(models[i], tmp_path / f"{i}.onnx")
        except BaseException as error:  # noqa: BLE001  # handed to the test, which is another thread
            failed.append(error)

    threads = [threading.Thread(target=export, args=(i,)) for i in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failed == []
    assert everything() == before
    for i in range(4):
        assert len(read(tmp_path / f"{i}.onnx").norms) == 1


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspector.export import keras_selftest

    monkeypatch.setattr(keras_selftest, "KNOWN", {name: ("0.1",) for name in keras_selftest.KNOWN})
    monkeypatch.setattr(keras_selftest, "_passed", set())


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_unknown_versions_that_work(library: Any, tmp_path: Path) -> None:
    from inspector.export import keras_selftest

    made = export_keras(net(library), tmp_path / "x.onnx")
    assert len(made.manifest.batchnorms) == 1
    assert len(keras_selftest._passed) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["x.onnx"]


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize("how", ["folded", "gone"])
def test_unknown_versions_that_do_not(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tf2onnx import optimizer
    from tf2onnx.optimizer import back_to_back_optimizer

    from inspector.export import tensorflow_patches

    if how == "gone":
        monkeypatch.delattr(back_to_back_optimizer, "_func_map")
    else:

        @contextmanager
        def nothing() -> Iterator[Any]:
            yield dict(optimizer._get_optimizers())

        monkeypatch.setattr(tensorflow_patches, "untouched_constants", nothing)
    with pytest.raises(UsageError, match="a small network does not keep its BatchNorm") as caught:
        export_keras(net(), tmp_path / "x.onnx")
    assert "tf2onnx" in str(caught.value)
    assert caught.value.hint.startswith("pip install ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_installed_versions_are_known() -> None:
    from inspector.export import keras_library, keras_selftest

    for library in (keras_library.Keras(), keras_library.Legacy()):
        for name, version in keras_selftest.installed(library).items():
            assert version in keras_selftest.KNOWN[name]
