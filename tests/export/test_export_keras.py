from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import ExportDisagreesError, UnreadableError, UsageError
from inspector.export import export_keras
from inspector.facts.count import Role
from inspector.facts.manifest import KEY, Manifest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
L = keras.layers


def chain(shape: tuple[int | None, ...], *layers: Any, **options: Any) -> Any:
    image = x = keras.Input(shape, **options)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def bn(**options: Any) -> Any:
    return L.BatchNormalization(momentum=0.15, epsilon=2e-3, **options)


def shared() -> Any:
    norm, conv = bn(), L.Conv2D(3, 3, padding="same")
    image = keras.Input((6, 6, 3))
    return keras.Model(image, norm(conv(L.ReLU()(norm(conv(image))))))


def nested() -> Any:
    inner = chain((6, 6, 3), L.Conv2D(4, 3), bn())
    sequential = keras.Sequential([keras.Input((4, 4, 4)), bn(), L.Conv2D(2, 1)])
    return chain((6, 6, 3), inner, L.ReLU(), sequential, bn())


def several() -> Any:
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    x, y = bn()(L.Dense(3)(a)), bn()(L.Dense(3)(b))
    return keras.Model([a, b], [L.Add()([x, y]), x, x])


def named() -> Any:
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    x, y = bn()(L.Dense(3)(a)), bn()(L.Dense(3)(b))
    return keras.Model({"q": a, "p": b}, {"z": x, "s": L.Add()([x, y])})


class Subclassed(keras.Model):
    def __init__(self, training: bool | None = None) -> None:
        super().__init__()
        self.conv, self.norms, self.force = L.Conv2D(4, 3), [bn(), bn()], training

    def call(self, x: Any) -> Any:
        x = self.conv(x)
        for norm in self.norms:
            x = norm(x) if self.force is None else norm(x, training=self.force)
        return x


def subclassed(training: bool | None = None) -> Any:
    model = Subclassed(training)
    model(np.zeros((2, 6, 6, 3), "f4"))
    return model


def frozen() -> Any:
    model = chain((6, 6, 3), L.Conv2D(4, 3), bn())
    model.trainable = False
    return model


LAYERS: dict[str, tuple[Callable[[], Any], int]] = {
    "rank 2": (lambda: chain((5,), L.Dense(4), bn(), L.Dense(2)), 1),
    "rank 3": (lambda: chain((6, 5), L.Conv1D(4, 3), bn(), L.Conv1D(2, 3)), 1),
    "rank 3, axis 1": (lambda: chain((6, 5), bn(axis=1)), 1),
    "rank 4": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.Conv2D(4, 3), bn()), 2),
    "rank 4, axis 1": (lambda: chain((3, 6, 6), bn(axis=1)), 1),
    "rank 4, axis -2": (lambda: chain((3, 6, 7), bn(axis=-2)), 1),
    "rank 5": (lambda: chain((4, 4, 4, 2), L.Conv3D(3, 2), bn()), 1),
    "rank 5, axis 1": (lambda: chain((2, 4, 4, 4), bn(axis=1)), 1),
    "rank 6": (lambda: chain((2, 3, 4, 4, 2), bn()), 1),
    "depthwise": (lambda: chain((6, 6, 3), L.DepthwiseConv2D(3), bn(), L.SeparableConv2D(4, 2)), 1),
    "transposed": (lambda: chain((6, 6, 3), L.Conv2DTranspose(4, 3, strides=2), bn()), 1),
    "half": (lambda: chain((6, 6, 3), L.Conv2D(4, 3, dtype="float16"), bn(dtype="float16"),
                           dtype="float16"), 1),
    "mixed": (lambda: chain((6, 6, 3), L.Conv2D(4, 3, dtype="mixed_float16"),
                            bn(dtype="mixed_float16")), 1),
    "sequential": (lambda: keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(4, 3), bn()]), 1),
    "subclassed": (subclassed, 2),
    "nested": (nested, 3),
    "shared": (shared, 2),
    "several": (several, 2),
    "named": (named, 2),
    "per time step": (lambda: chain((3, 6, 6, 2), L.TimeDistributed(
        chain((6, 6, 2), L.Conv2D(3, 3), bn())), L.Flatten()), 3),
    "frozen": (frozen, 1),
    "any size": (lambda: chain((None, None, 3), L.Conv2D(4, 3), bn(),
                               L.GlobalAveragePooling2D()), 1),
    "dropout": (lambda: chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.Dropout(0.5)), 1),
}  # fmt: skip


@pytest.mark.parametrize(("build", "count"), LAYERS.values(), ids=LAYERS.keys())
def test_every_layer_keeps_its_batchnorm(
    build: Callable[[], Any], count: int, fill: Any, read: Any, tmp_path: Path
) -> None:
    model = fill(build())
    before = [each.numpy().tobytes() for each in model.variables]
    made = export_keras(model, tmp_path / "x.onnx")
    seen = read(made.path)

    assert [each.numpy().tobytes() for each in model.variables] == before
    assert len(seen.norms) == count
    assert (made.manifest.verification.bitwise, made.manifest.verification.of) == (4 * count,) * 2
    layers = {}
    for each in model._flatten_layers():
        if isinstance(each, L.BatchNormalization):
            layers[each.path.removeprefix(f"{model.name}/")] = each
    assert len(made.manifest.batchnorms) == count
    for each in made.manifest.batchnorms:
        layer = layers[each.source]
        wanted = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        for variable, stored in zip(wanted, seen.tensors[each.node], strict=True):
            assert variable.numpy().astype("f4").tobytes() == stored.tobytes()
        assert np.float32(seen.momentum[each.node]) == np.float32(0.15)
        assert np.float32(seen.epsilon[each.node]) == np.float32(2e-3)

    # Every weight is there once, under its own name, and nothing of Keras' besides.
    sources = [each.source for each in made.manifest.tensors]
    paths = sorted(each.path.removeprefix(f"{model.name}/") for each in model.weights)
    assert sorted(sources) == paths
    assert seen.float_elements == model.count_params()
    assert made.manifest.totals.trainable + made.manifest.totals.other == model.count_params()
    for each in made.manifest.tensors:
        statistic = "moving" in each.source
        assert each.role == (Role.STATISTIC if statistic else Role.LEARNED)
        variable = next(v for v in model.weights if v.path.endswith(each.source))
        stored = seen.arrays[each.name]
        assert np.array_equal(
            np.sort(variable.numpy().astype(stored.dtype).ravel()), np.sort(stored.ravel())
        )


def test_roles_are_right_where_all_values_are_equal(read: Any, tmp_path: Path) -> None:
    model = chain((6, 6, 4), L.Conv2D(4, 3), bn(), L.ReLU(), L.DepthwiseConv2D(3), bn())
    made = export_keras(model, tmp_path / "x.onnx")
    seen = read(made.path)
    assert seen.float_elements == model.count_params()
    roles = {each.source: each.role for each in made.manifest.tensors}
    assert roles == {
        each.path: Role.STATISTIC if "moving" in each.path else Role.LEARNED
        for each in model.weights
    }
    for norm in made.manifest.batchnorms:
        node = seen.norms[norm.node]
        assert list(node.input[1:]) == [
            f"{norm.source}/{each}" for each in ("gamma", "beta", "moving_mean", "moving_variance")
        ]
    convolutions = [
        node for node in seen.model.graph.node if node.op_type == "Conv" and len(node.input) == 3
    ]
    names = [each.path for each in model.weights if each.path.endswith("bias")]
    assert [node.input[2] for node in convolutions] == names


@pytest.mark.parametrize(
    ("scale", "center", "synthetic"), [(False, True, 1), (True, False, 1), (False, False, 2)]
)
def test_an_absent_scale_or_bias_is_marked_synthetic(
    scale: bool, center: bool, synthetic: int, fill: Any, read: Any, tmp_path: Path
) -> None:
    model = fill(chain((6, 6, 3), L.Conv2D(4, 3), bn(scale=scale, center=center)))
    made = export_keras(model, tmp_path / "x.onnx")
    invented = [each for each in made.manifest.tensors if each.synthetic]
    assert len(invented) == synthetic
    (stored,) = read(made.path).tensors.values()
    assert (stored[0] == 1).all() == (not scale)
    assert (stored[1] == 0).all() == (not center)
    assert read(made.path).float_elements == model.count_params() + 4 * synthetic
    assert all(each.role is Role.CONSTANT and not each.source for each in invented)


def test_training_mode_is_said_and_the_model_left_alone(fill: Any, tmp_path: Path) -> None:
    model = fill(subclassed(training=True))
    before = [each.numpy().tobytes() for each in model.variables]
    made = export_keras(model, tmp_path / "x.onnx")
    assert [each.numpy().tobytes() for each in model.variables] == before
    assert len(made.notes) == 2
    assert "is called with training=True" in made.notes[0]
    assert made.manifest.verification.of == 0
    assert {each.source.rpartition("/")[2] for each in made.manifest.not_exported} == {
        "moving_mean",
        "moving_variance",
    }


def test_what_is_not_exported_is_listed(tmp_path: Path) -> None:
    model = chain((6, 6, 3), L.Conv2D(4, 3), bn(), L.Dropout(0.5))
    made = export_keras(model, tmp_path / "x.onnx")
    (generator,) = made.manifest.not_exported
    assert "seed_generator" in generator.source
    assert "no weight of the model" in generator.why


def test_the_manifest_travels_in_the_file(read: Any, tmp_path: Path) -> None:
    made = export_keras(chain((4,), bn()), tmp_path / "x.onnx")
    stored = {each.key: each.value for each in read(made.path).model.metadata_props}
    assert Manifest.from_json(stored[KEY]) == made.manifest
    assert made.manifest.framework == "keras"
    assert made.manifest.framework_version == keras.__version__
    assert made.size == Path(made.path).stat().st_size


@pytest.mark.parametrize("opset", [9, 13, 17, None])
def test_the_opset_asked_for(opset: int | None, read: Any, tmp_path: Path) -> None:
    made = export_keras(chain((6, 6, 3), L.Conv2D(2, 3), bn()), tmp_path / "x.onnx", opset=opset)
    (version,) = [
        e.version for e in read(made.path).model.opset_import if e.domain in ("", "ai.onnx")
    ]
    assert version == made.opset == (opset or 18)


@pytest.mark.parametrize("opset", [6, 19])
def test_an_opset_out_of_range(opset: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose 7 to 18"):
        export_keras("x.py:f", tmp_path / "x.onnx", opset=opset)


def test_a_saved_model(fill: Any, run: Any, tmp_path: Path) -> None:
    model = fill(chain((6, 6, 3), L.Conv2D(4, 3), bn(), name="saved"))
    model.save(tmp_path / "m.keras")
    export_keras(str(tmp_path / "m.keras"), tmp_path / "x.onnx")
    image = np.random.default_rng(0).normal(size=(5, 6, 6, 3)).astype("f4")
    (got,) = run(tmp_path / "x.onnx", {"saved": image})
    assert np.allclose(got, model.predict(image, verbose=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.keras", None, "there is no such file"),
        ("m.keras", b"no archive", "Keras does not load it"),
        ("m.h5", b"no archive", "Keras does not load it"),
    ],
)
def test_a_saved_model_that_is_none(
    name: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=said) as caught:
        export_keras(str(tmp_path / name), tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.onnx").exists()


def patched() -> list[Any]:
    from keras.src.backend.tensorflow import nn
    from tf2onnx import optimizer, tf_loader
    from tf2onnx.optimizer import back_to_back_optimizer as folds

    return [
        nn.batch_normalization,
        L.BatchNormalization.call,
        tf_loader.tf_optimize_grappler,
        folds._func_map,
        sorted(folds._func_map),
        list(optimizer._get_optimizers()),
    ]


def test_patches_are_in_force_and_put_back(tmp_path: Path) -> None:
    from inspector.export import keras_library, keras_patches, tensorflow_patches

    before = patched()
    with (
        keras_patches.native_batchnorm(keras_library.Keras()),
        tensorflow_patches.untouched_constants(),
    ):
        inside = patched()
    assert [a is b for a, b in zip(before[:4], inside[:4], strict=True)] == [False] * 4
    assert ("Conv", "BatchNormalization") in before[4]
    assert ("Conv", "BatchNormalization") not in inside[4]
    assert patched() == before
    export_keras(chain((4,), bn()), tmp_path / "x.onnx")
    assert patched() == before


class Failing(keras.layers.Layer):
    """Works when it is called and fails when it is traced."""

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        if not tf.executing_eagerly():
            raise RuntimeError("not in a graph")
        return x


class Unsupported(keras.layers.Layer):
    """Uses an operator that ONNX and tf2onnx do not have."""

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.math.bessel_i0(x)


@pytest.mark.parametrize("where", ["trace", "convert", "unsupported", "verify"])
def test_a_failing_export_leaves_nothing_and_restores_everything(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chain((6,), bn(), L.Dense(2))
    if where == "trace":
        inner = Failing()

        class Net(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.norm = bn()

            def call(self, x: Any) -> Any:
                return inner(self.norm(x))

        model = Net()
        model(np.zeros((2, 6), "f4"))
    elif where == "convert":
        import tf2onnx.tfonnx

        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("converter\nbroke")

        monkeypatch.setattr(tf2onnx.tfonnx, "process_tf_graph", fail)
    elif where == "unsupported":
        model = chain((6,), bn(), Unsupported())
    else:
        from inspector.export import tensorflow_convert

        plain = tensorflow_convert.runner

        def off(*args: Any) -> Any:
            return lambda feeds: [each + 0.01 for each in plain(*args)(feeds)]

        monkeypatch.setattr(tensorflow_convert, "runner", off)
    before, values = patched(), [each.numpy().tobytes() for each in model.variables]
    (tmp_path / "x.onnx").write_bytes(b"old")
    with pytest.raises((UnreadableError, ExportDisagreesError)) as caught:
        export_keras(model, tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert patched() == before
    assert [each.numpy().tobytes() for each in model.variables] == values
    assert [each.name for each in tmp_path.iterdir()] == ["x.onnx"]
    assert (tmp_path / "x.onnx").read_bytes() == b"old"


def test_a_folded_batchnorm_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With tf2onnx's own folding put back, the BatchNorm goes into the convolution.
    from contextlib import contextmanager

    from tf2onnx import optimizer

    from inspector.export import tensorflow_patches

    @contextmanager
    def nothing() -> Any:
        yield dict(optimizer._get_optimizers())

    monkeypatch.setattr(tensorflow_patches, "untouched_constants", nothing)
    model = chain((6, 6, 3), L.Conv2D(4, 3), bn())
    with pytest.raises(ExportDisagreesError, match="did not stay a BatchNormalization node"):
        export_keras(model, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: keras.Sequential([L.Dense(2), bn()]), "call it once on an example"),
        (
            lambda: chain((4,), bn(dtype="float64"), dtype="float64"),
            "computes in float64, for which TensorFlow has no BatchNorm operator",
        ),
    ],
    ids=["not built", "double"],
)
def test_what_cannot_be_exported_is_said(build: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises((UnreadableError, ExportDisagreesError)) as caught:
        export_keras(build(), tmp_path / "x.onnx")
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_call_of_two_arguments_is_explained(tmp_path: Path) -> None:
    class Two(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.norm = bn()

        def call(self, a: Any, b: Any) -> Any:
            return self.norm(a) + b

    model = Two()
    model(np.zeros((2, 4), "f4"), np.zeros((2, 4), "f4"))
    with pytest.raises(UnreadableError, match="its call takes a, b") as caught:
        export_keras(model, tmp_path / "x.onnx")
    assert "keras.Model(inputs, model(*inputs))" in caught.value.hint


def test_something_else_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a Keras model"):
        export_keras(object(), tmp_path / "x.onnx")  # type: ignore[arg-type]  # the point


def test_progress_is_told_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    export_keras(chain((6, 6, 3), L.Conv2D(2, 3), bn()), tmp_path / "x.onnx", progress=told.append)
    assert told == [
        "loading TensorFlow and the model",
        "running the model in Keras",
        "converting to ONNX",
        "verifying with ONNX Runtime",
    ]
    assert tuple(capfd.readouterr()) == ("", "")
