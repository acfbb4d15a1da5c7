"""Every place and form in which Keras has BatchNorm; Keras' own weights and outputs are truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import UnreadableError
from inspector.export import export_keras
from inspector.facts.count import Role

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
L = keras.layers
SHAPES = {2: (6,), 3: (5, 6), 4: (5, 4, 6), 5: (3, 4, 5, 6), 6: (2, 3, 4, 5, 6)}


def chain(shape: tuple[int | None, ...], *layers: Any, **options: Any) -> Any:
    image = x = keras.Input(shape, **options)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


def bn(**options: Any) -> Any:
    return L.BatchNormalization(**{"momentum": 0.15, "epsilon": 2e-3, **options})


def norms_of(model: Any) -> list[Any]:
    return [each for each in model._flatten_layers() if isinstance(each, L.BatchNormalization)]


def check(model: Any, path: Path, read: Any, run: Any, *, calls: int | None = None) -> Any:
    """Everything that has to hold of any export, judged by Keras and ONNX Runtime alone."""
    made = export_keras(model, path)
    seen = read(path)
    layers = {each.path.removeprefix(f"{model.name}/"): each for each in norms_of(model)}
    assert len(seen.norms) == (len(layers) if calls is None else calls)
    assert {each.source for each in made.manifest.batchnorms} == set(layers)
    for each in made.manifest.batchnorms:
        layer, stored = layers[each.source], seen.tensors[each.node]
        mean = layer.moving_mean.numpy()
        ones, zeros = np.ones_like(mean, "f4"), np.zeros_like(mean, "f4")
        wanted = (
            layer.gamma.numpy() if layer.scale else ones,
            layer.beta.numpy() if layer.center else zeros,
            mean,
            layer.moving_variance.numpy(),
        )
        for own, other in zip(wanted, stored, strict=True):
            assert own.astype("f4").tobytes() == other.tobytes()
        assert np.float32(seen.momentum[each.node]) == np.float32(layer.momentum)
        assert np.float32(seen.epsilon[each.node]) == np.float32(layer.epsilon)
    for size in (1, 3):
        rng = np.random.default_rng(size)
        feeds = {
            each.name: rng.normal(size=(size, *(d.dim_value for d in shape[1:]))).astype(
                {1: "f4", 10: "f2"}[each.type.tensor_type.elem_type]
            )
            for each in seen.model.graph.input
            if (shape := each.type.tensor_type.shape.dim)
        }
        wanted = keras.tree.flatten(
            model(list(feeds.values()) if len(feeds) > 1 else next(iter(feeds.values())))
        )
        for own, other in zip(wanted, run(path, feeds), strict=True):
            rtol = 2e-2 if other.dtype == np.float16 else 2e-5
            scale = float(np.abs(own.numpy()).max())
            assert np.abs(own.numpy().astype("f8") - other).max() <= rtol * max(scale, 1e-3)
    sources = [each.source for each in made.manifest.tensors if not each.synthetic]
    assert sorted(set(sources)) == sorted(
        {each.path.removeprefix(f"{model.name}/") for each in model.weights}
    )
    explained = sum(seen.arrays[each.name].size for each in made.manifest.tensors if each.synthetic)
    known = {each.name for each in made.manifest.tensors}
    explained += sum(
        each.size
        for name, each in seen.arrays.items()
        if each.dtype.kind == "f" and name not in known
    )
    assert seen.float_elements - explained == model.count_params()
    return made


@pytest.mark.parametrize(
    ("rank", "axis"),
    [(rank, axis) for rank in SHAPES for axis in (-1, 1, 2, -2) if axis < rank and axis % rank],
)
def test_ranks_and_axes(
    rank: int, axis: int, fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    check(fill(chain(SHAPES[rank], bn(axis=axis))), tmp_path / "x.onnx", read, run)


@pytest.mark.parametrize("rank", [2, 3, 4, 6])
@pytest.mark.parametrize(("scale", "center"), [(False, True), (True, False), (False, False)])
def test_without_scale_or_center(
    rank: int, scale: bool, center: bool, fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    model = fill(chain(SHAPES[rank], bn(scale=scale, center=center), bn()))
    made = check(model, tmp_path / "x.onnx", read, run)
    invented = [each for each in made.manifest.tensors if each.synthetic]
    assert len(invented) == (not scale) + (not center)
    assert {each.role for each in invented} == {Role.CONSTANT}


AFTER: dict[str, tuple[tuple[int, ...], Callable[[], list[Any]]]] = {
    "Conv1D": ((8, 3), lambda: [L.Conv1D(4, 3)]),
    "Conv1D causal": ((8, 3), lambda: [L.Conv1D(4, 3, padding="causal", dilation_rate=2)]),
    "Conv2D same": ((8, 8, 3), lambda: [L.Conv2D(4, 3, strides=2, padding="same")]),
    "Conv2D no bias": ((8, 8, 3), lambda: [L.Conv2D(4, 3, use_bias=False)]),
    "Conv2D dilated": ((9, 9, 3), lambda: [L.Conv2D(4, 3, dilation_rate=2)]),
    "Conv2D groups": ((8, 8, 4), lambda: [L.Conv2D(6, 3, groups=2)]),
    "Conv3D": ((5, 5, 5, 2), lambda: [L.Conv3D(3, 2)]),
    "DepthwiseConv1D": ((8, 3), lambda: [L.DepthwiseConv1D(3)]),
    "DepthwiseConv2D": ((8, 8, 3), lambda: [L.DepthwiseConv2D(3, depth_multiplier=2)]),
    "SeparableConv1D": ((8, 3), lambda: [L.SeparableConv1D(4, 3)]),
    "SeparableConv2D": ((8, 8, 3), lambda: [L.SeparableConv2D(4, 3)]),
    "Conv1DTranspose": ((8, 3), lambda: [L.Conv1DTranspose(4, 3, strides=2)]),
    "Conv2DTranspose": ((6, 6, 3), lambda: [L.Conv2DTranspose(4, 3, strides=2, padding="same")]),
    "Conv3DTranspose": ((3, 3, 3, 2), lambda: [L.Conv3DTranspose(3, 2)]),
    "Dense": ((7,), lambda: [L.Dense(4)]),
    "Dense no bias": ((7,), lambda: [L.Dense(4, use_bias=False)]),
    "Dense over time": ((5, 7), lambda: [L.Dense(4)]),
    "EinsumDense": ((5, 7), lambda: [L.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d")]),
    "MaxPooling": ((8, 8, 3), lambda: [L.MaxPooling2D()]),
    "AveragePooling": ((8, 8, 3), lambda: [L.AveragePooling2D(2)]),
    "GlobalAveragePooling": ((8, 8, 3), lambda: [L.GlobalAveragePooling2D()]),
    "UpSampling": ((4, 4, 3), lambda: [L.UpSampling2D()]),
    "ZeroPadding": ((4, 4, 3), lambda: [L.ZeroPadding2D()]),
    "Cropping": ((6, 6, 3), lambda: [L.Cropping2D()]),
    "ReLU": ((8, 8, 3), lambda: [L.Conv2D(4, 3), L.ReLU()]),
    "PReLU": ((8, 8, 3), lambda: [L.Conv2D(4, 3), L.PReLU(shared_axes=[1, 2])]),
    "GELU": ((8, 8, 3), lambda: [L.Conv2D(4, 3, activation="gelu")]),
    "swish": ((8, 8, 3), lambda: [L.Conv2D(4, 3, activation="swish")]),
    "BatchNorm": ((8, 8, 3), lambda: [L.Conv2D(4, 3), bn()]),
    "LayerNorm": ((5, 8), lambda: [L.LayerNormalization()]),
    "GroupNorm": ((4, 4, 8), lambda: [L.GroupNormalization(4)]),
    "Dropout": ((8,), lambda: [L.Dense(4), L.Dropout(0.5)]),
    "Flatten": ((4, 4, 3), lambda: [L.Flatten()]),
    "Reshape and Permute": ((4, 6), lambda: [L.Reshape((3, 8)), L.Permute((2, 1))]),
    "attention": ((5, 8), lambda: [Attending()]),
}  # fmt: skip


class Attending(L.Layer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attention = L.MultiHeadAttention(2, 4)

    def build(self, shape: Any) -> None:
        self.attention.build(shape, shape)
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)


@pytest.mark.parametrize(("shape", "layers"), AFTER.values(), ids=AFTER.keys())
def test_after_every_kind_of_layer(
    shape: tuple[int, ...], layers: Any, fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    check(fill(chain(shape, *layers(), bn())), tmp_path / "x.onnx", read, run)


def test_zeros_and_ones_stay_what_they_are(read: Any, tmp_path: Path) -> None:
    # A fresh network: every bias, mean and beta is zero, every gamma and variance one.
    model = chain((6, 6, 4), bn(), L.Conv2D(4, 3), L.DepthwiseConv2D(3), bn(), L.Flatten(),
                  L.Dense(4), bn())  # fmt: skip
    made = export_keras(model, tmp_path / "x.onnx")
    assert read(made.path).float_elements == model.count_params()
    assert sorted(each.source for each in made.manifest.tensors) == sorted(
        each.path for each in model.weights
    )


def test_prelu_slopes_are_tied_and_called_what_they_are(
    fill: Any, read: Any, tmp_path: Path
) -> None:
    model = fill(chain((6, 6, 3), L.Conv2D(4, 3), L.PReLU(shared_axes=[1, 2]), bn()))
    made = export_keras(model, tmp_path / "x.onnx")
    (slopes,) = (each for each in made.manifest.tensors if each.source.endswith("alpha"))
    alpha = next(each for each in model.weights if each.path.endswith("alpha"))
    stored = read(made.path).arrays[slopes.name]
    assert slopes.name == f"{alpha.path}/negated"
    assert np.array_equal(np.sort(-stored.ravel()), np.sort(alpha.numpy().ravel()))
    assert made.manifest.not_exported == ()


def twins() -> Any:
    def encoder(name: str) -> Any:
        image = keras.Input((6, 6, 3))
        x = L.Conv2D(4, 3, name="conv")(image)
        return keras.Model(image, bn(name="bn")(x), name=name)

    left, right = keras.Input((6, 6, 3), name="left"), keras.Input((6, 6, 3), name="right")
    one, two = encoder("one"), encoder("two")
    return keras.Model([left, right], L.Add()([one(left), two(right), one(right)]))


def test_layers_of_one_name_in_two_models_are_told_apart(
    fill: Any, read: Any, tmp_path: Path
) -> None:
    model = fill(twins())
    made = export_keras(model, tmp_path / "x.onnx")
    seen = read(made.path)
    parts = ("conv/kernel", "conv/bias", "bn/gamma", "bn/beta", "bn/moving_mean",
             "bn/moving_variance")  # fmt: skip
    sources = {f"{name}/{part}" for name in ("one", "two") for part in parts}
    assert {each.source for each in made.manifest.tensors} == sources
    weights = {each.name: each.weights for each in made.manifest.layers}
    for name in ("one", "two"):
        inner = model.get_layer(name)
        assert set(weights[name]) == {f"{name}/{part}" for part in parts}
        assert set(weights[f"{name}/bn"]) == {f"{name}/{part}" for part in parts[2:]}
        held = {e.source: e.name for e in made.manifest.tensors}
        gamma = seen.arrays[held[f"{name}/bn/gamma"]]
        assert gamma.tobytes() == inner.get_layer("bn").gamma.numpy().tobytes()
    # The shared one is called twice and stored once.
    assert sorted(each.source for each in made.manifest.batchnorms) == [
        "one/bn",
        "one/bn",
        "two/bn",
    ]
    assert seen.float_elements == model.count_params()


def test_one_model_in_two_models_keeps_one_path(fill: Any, read: Any, tmp_path: Path) -> None:
    inner = chain((4, 4, 3), L.Conv2D(3, 1, name="conv"), bn(name="bn"))
    first, second = chain((4, 4, 3), inner, L.ReLU()), chain((4, 4, 3), inner)
    model = fill(chain((4, 4, 3), first, second))
    made = export_keras(model, tmp_path / "x.onnx")
    assert {each.source for each in made.manifest.batchnorms} == {"bn"}
    assert read(made.path).float_elements == model.count_params()


@pytest.mark.parametrize(
    "build",
    [
        lambda: chain((8, 8, 3), L.Conv2D(4, 3), bn(synchronized=True)),
        lambda: chain((8, 8, 3), L.Conv2D(4, 3), bn(trainable=False)),
        lambda: chain((8, 8, 3), L.Conv2D(4, 3), bn(epsilon=1e-7, momentum=1.0)),
        lambda: chain((8, 8, 3), L.Conv2D(4, 3), bn(momentum=0.0)),
        lambda: chain((8, 8, 3), L.Conv2D(1, 3), bn()),
        lambda: chain((8, 8, 1), bn(), L.Conv2D(4, 3)),
    ],
    ids=["synchronized", "frozen", "epsilon", "momentum 0", "one channel", "one channel in"],
)
def test_settings(build: Any, fill: Any, read: Any, run: Any, tmp_path: Path) -> None:
    check(fill(build()), tmp_path / "x.onnx", read, run)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_half_precision(policy: str, fill: Any, read: Any, run: Any, tmp_path: Path) -> None:
    options = {"dtype": policy}
    model = fill(
        chain((8, 8, 3), L.Conv2D(4, 3, **options), bn(**options), L.ReLU(**options), bn(**options))
    )
    made = export_keras(model, tmp_path / "x.onnx")
    assert len(made.manifest.batchnorms) == 2
    assert made.manifest.verification.bitwise == 8


def bfloat() -> Any:
    return chain((8,), L.Dense(4, dtype="bfloat16"), bn(dtype="bfloat16"))


def test_bfloat16_is_refused_with_the_cause(fill: Any, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="computes in bfloat16, which ONNX Runtime") as caught:
        export_keras(fill(bfloat()), tmp_path / "x.onnx")
    assert "--no-verify" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_written_where_nothing_is_run(
    fill: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = export_keras(fill(bfloat()), tmp_path / "x.onnx", verify=False)
    assert made.manifest.verification is None
    assert len(made.manifest.batchnorms) == 1
    assert tuple(capfd.readouterr()) == ("", "")


def test_without_verification_norms_are_compared_all_the_same(
    fill: Any, read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inspector.compare.runtime import run

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be run")

    monkeypatch.setattr(run.Runner, "__init__", refused)
    told: list[str] = []
    made = export_keras(
        fill(chain((6,), L.Dense(3), bn())),
        tmp_path / "x.onnx",
        verify=False,
        progress=told.append,
    )
    assert made.manifest.verification is None
    assert len(read(made.path).norms) == 1
    assert told == ["loading TensorFlow and the model", "converting to ONNX"]


def test_several_inputs_and_outputs_that_share(
    fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    left, right = keras.Input((6, 6, 3), name="left"), keras.Input((6, 6, 3), name="right")
    conv, norm = L.Conv2D(4, 3), bn()
    x, y = norm(conv(left)), norm(conv(right))
    model = fill(keras.Model([left, right], [x, L.Concatenate()([x, y]), bn()(y)]))
    check(model, tmp_path / "x.onnx", read, run, calls=3)


def test_a_norm_that_no_output_needs(fill: Any, tmp_path: Path) -> None:
    class Unused(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = bn(), bn()

        def call(self, x: Any) -> Any:
            self.idle(x)
            return self.used(x)

    model = Unused()
    model(np.zeros((1, 4), "f4"))
    made = export_keras(fill(model), tmp_path / "x.onnx")
    assert len(made.manifest.batchnorms) == 1
    assert len(made.manifest.not_exported) == 4
