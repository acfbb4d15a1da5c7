"""The networks of models/ and the small files in tests/data."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.manifest import KEY, Manifest

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"tested_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights() -> Any:
    return load(ROOT / "models" / "weights.py")


@pytest.fixture(scope="module")
def script() -> Any:
    return load(ROOT / "scripts" / "make_small_models.py")


def test_the_full_size_is_the_questions(weights: Any) -> None:
    made = weights.keras_weights(weights.FULL)
    total = sum(each.size for each in made.values())
    statistics = sum(each.size for name, each in made.items() if "moving" in name)
    assert (total, statistics) == (13_108_758, 64)
    assert made["dense/kernel"].shape == (131_072, 100)


def test_statistics_are_not_those_of_a_fresh_layer(weights: Any) -> None:
    made = weights.keras_weights(weights.FULL)
    gamma, beta, mean, var = (
        made[f"batch_normalization/{each}"]
        for each in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    assert 0.5 <= gamma.min() < gamma.max() <= 1.5
    assert -0.5 <= beta.min() < 0 < beta.max() <= 0.5
    assert mean.min() > 0.1
    assert 0.33 <= var.min() < 0.7
    assert 1.5 < var.max() <= 1.98
    tiny = weights.keras_weights(weights.SMALL, variance=weights.TINY_VARIANCE)
    var = tiny["batch_normalization/moving_variance"]
    assert 0.001 <= var.min() < var.max() <= 0.0098
    assert all(each.dtype == np.float32 for each in made.values())


def test_weights_are_the_same_every_time(weights: Any) -> None:
    first, second = (weights.keras_weights(weights.SMALL) for _ in range(2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_the_first_dense_layer_is_permuted(weights: Any) -> None:
    size = weights.SMALL
    made = weights.keras_weights(size)
    dense = made["dense/kernel"]
    right = weights.torch_weights(made, size)["fc1.weight"]
    wrong = weights.torch_weights(made, size, permute_dense=False)["fc1.weight"]
    image = np.random.default_rng(0).normal(size=(size.height, size.width, size.filters))
    channels_first = image.transpose(2, 0, 1).reshape(-1)
    assert np.allclose(right @ channels_first, image.reshape(-1) @ dense)
    assert not np.allclose(wrong @ channels_first, image.reshape(-1) @ dense)
    assert np.array_equal(wrong, dense.T)


def test_kernels_are_transposed(weights: Any) -> None:
    made = weights.keras_weights(weights.Size(channels=2, filters=3, height=4, width=4))
    kernel = weights.torch_weights(made, weights.Size(filters=3, height=4, width=4))["conv.weight"]
    assert kernel.shape == (3, 2, 3, 3)
    assert kernel[2, 1, 0, 2] == made["conv2d/kernel"][0, 2, 1, 2]


def test_the_data_folder_holds_what_the_script_writes(script: Any) -> None:
    assert sorted(each.name for each in (ROOT / "tests" / "data").glob("*_small*.onnx")) == sorted(
        script.names()
    )


def test_the_small_models_are_one_function_but_for_what_their_names_say(script: Any) -> None:
    import onnxruntime

    image = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("f4")

    def outputs(name: str) -> Any:
        path = ROOT / "tests" / "data" / f"{name}.onnx"
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        fed = image if name.startswith("keras") else image.transpose(0, 3, 1, 2).copy()
        return session.run(None, {given.name: fed})[0]

    def apart(left: str, right: str) -> float:
        return float(np.abs(outputs(left) - outputs(right)).max())

    assert apart("keras_small", "torch_small_matched") < 1e-6
    assert apart("keras_small_tiny_variance", "torch_small_matched_tiny_variance") < 1e-5
    assert 1e-6 < apart("keras_small", "torch_small_matched_torch_epsilon") < 0.1
    for other in ("no_relu", "no_softmax", "wrong_flatten"):
        assert apart("keras_small", f"torch_small_matched_{other}") > 0.01
    assert apart("keras_small", "torch_small") > 0.1


def without_measurements(path: Path) -> bytes:
    """The file but for how far the frameworks' rounding lies apart, which the machine decides."""
    model = onnx.load(str(path))
    for entry in model.metadata_props:
        if entry.key == KEY:
            manifest = Manifest.from_json(entry.value)
            entry.value = dataclasses.replace(manifest, verification=None).to_json()
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def test_the_data_folder_is_up_to_date(script: Any, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx", reason="this export needs it")
    pytest.importorskip("onnxscript", reason="this export needs it")
    script.write(tmp_path)
    for name in script.names():
        made = onnx.load(str(tmp_path / name))
        kept_model = onnx.load(str(script.DATA / name))
        fresh, old = (
            Manifest.from_json({e.key: e.value for e in each.metadata_props}[KEY])
            for each in (made, kept_model)
        )
        stored = {each.name: each.raw_data for each in made.graph.initializer}
        for tensor in kept_model.graph.initializer:
            if any(tensor.name == each.name for each in old.tensors):
                assert stored[tensor.name] == tensor.raw_data
        assert fresh.totals == old.totals
        # Other versions may write other nodes; the same ones write the same bytes.
        if (fresh.exporter, fresh.framework_version, fresh.tool) == (
            old.exporter,
            old.framework_version,
            old.tool,
        ):
            assert without_measurements(tmp_path / name) == without_measurements(script.DATA / name)
