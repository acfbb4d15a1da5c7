"""Stock exports restored from weights alone: no code of the network, no epsilon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from restored_files import (
    Truth,
    assert_same_interface,
    assert_same_outputs,
    assert_truths,
    keras_truths,
    norms_of,
    quiet,
    torch_truths,
)

from inspector.errors import UsageError
from inspector.facts.restored import Restored
from inspector.restore import restore_from_tensors

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def restored(
    stock: Path, tensors: Mapping[str, Any], truths: Mapping[str, Truth], output: Path
) -> Restored:
    found = restore_from_tensors(stock, tensors, output)
    assert [each.why_not for each in found.outcomes] == [""] * len(truths)
    assert found.complete
    assert found.bitwise == found.of == 4 * len(truths)
    assert found.with_stock.within
    assert found.with_reference is None
    assert any("momentum" in each for each in found.notes)
    # The weights do not tell it: what the stock export says, or ONNX's default.
    unstated = {
        name: Truth(four=each.four, epsilon=each.epsilon, momentum=each.momentum)
        for name, each in truths.items()
    }
    assert_tensors(output, unstated)
    assert_same_interface(stock, output)
    assert_same_outputs(stock, output)
    return found


def assert_tensors(path: Path, truths: Mapping[str, Truth]) -> None:
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            kept = [each for each in node.attribute if each.name != "momentum"]
            del node.attribute[:]
            node.attribute.extend(kept)
            momentum = truths[node.name].momentum
            node.attribute.append(onnx.helper.make_attribute("momentum", momentum))
    onnx.save(model, str(path.with_suffix(".momentum.onnx")))
    assert_truths(path.with_suffix(".momentum.onnx"), truths)


@pytest.mark.parametrize("exporter", ["dynamo", "TorchScript"])
def test_torch(exporter: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="these weights are of it")
    pytest.importorskip("onnxscript", reason="this export needs it")
    nn = torch.nn

    torch.manual_seed(3)
    module = nn.Sequential(
        nn.BatchNorm2d(3),
        *(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4, eps=3.7e-4), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
    ).eval()
    for path, values in module.state_dict().items():
        if path.endswith("running_var"):
            values.uniform_(0.01, 0.1)
        elif path.endswith("running_mean") or (values.dim() == 1 and values.is_floating_point()):
            values.uniform_(0.2, 1.0)
    stock = tmp_path / "stock.onnx"
    options = {"dynamo": False} if exporter == "TorchScript" else {}
    with quiet():
        torch.onnx.export(module, (torch.zeros(2, 3, 12, 12),), stock, **options)
    tensors = {name: each.numpy() for name, each in module.state_dict().items()}
    output = tmp_path / "restored.onnx"
    restored(stock, tensors, torch_truths(module), output)
    held = {e.name: numpy_helper.to_array(e) for e in onnx.load(str(output)).graph.initializer}
    for name in ("1.weight", "4.weight", "4.bias", "7.weight", "7.bias", "10.weight", "10.bias"):
        if name in held:
            assert held[name].tobytes() == tensors[name].tobytes()
    assert {"1.weight", "4.weight", "4.bias", "7.weight"} <= held.keys()


def keras_model() -> Any:
    keras = pytest.importorskip("keras", reason="these weights are of it")
    pytest.importorskip("tf2onnx", reason="this export needs it")
    layers = keras.layers

    image = x = keras.Input((9, 9, 3))
    for at, layer in enumerate(
        [
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.DepthwiseConv2D(3, use_bias=False, depth_multiplier=2, name="depth"),
            layers.Conv2DTranspose(4, 3, name="up"),
            layers.Conv2D(4, 3, activation="relu", name="active"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(6, name="dense"),
        ]
    ):
        x = layer(x)
        if layer.name != "pool":
            epsilon = (1e-3, 1.001e-5)[at % 2]
            x = layers.BatchNormalization(epsilon=epsilon, name=f"{layer.name}_bn")(x)
    model = keras.Model(image, x)
    rng = np.random.default_rng(19)
    for variable in model.variables:
        name = variable.path.rpartition("/")[2]
        if name in ("moving_variance", "gamma"):
            variable.assign(rng.uniform(0.001, 0.01, variable.shape) ** (name != "gamma"))
        elif name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0.0, 0.3, variable.shape))
    return model


def h5_tensors(path: Path) -> dict[str, Any]:
    import h5py

    found: dict[str, Any] = {}

    def take(name: str, each: Any) -> None:
        if isinstance(each, h5py.Dataset):
            found[name] = np.asarray(each)

    with h5py.File(path) as file:
        file.visititems(take)
    return found


@pytest.mark.parametrize("file", ["variables", "h5"])
def test_keras(file: str, tmp_path: Path) -> None:
    model = keras_model()
    import tf2onnx

    stock, weights = tmp_path / "stock.onnx", tmp_path / "net.weights.h5"
    with quiet():
        tf2onnx.convert.from_keras(model, output_path=str(stock))
    truths = keras_truths(model)
    tensors = {each.path: each.numpy() for each in model.variables}
    if file == "h5":
        model.save_weights(weights)
        tensors = h5_tensors(weights)
        # Keras calls layers by their classes there.
        by_var = {each.four[3].tobytes(): each for each in truths.values()}
        truths = {
            name.removesuffix("/vars/3"): by_var[values.tobytes()]
            for name, values in tensors.items()
            if values.tobytes() in by_var
        }
    found = restored(stock, tensors, truths, tmp_path / "restored.onnx")
    assert len(found.outcomes) == 5


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="these weights are of it")
    pytest.importorskip("onnxscript", reason="this export needs it")
    nn = torch.nn

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    module.eval()
    for each in (module[1], module[3]):
        each.running_var.uniform_(0.2, 1.0)
        each.running_mean.uniform_(0.2, 1.0)
    stock, output = tmp_path / "stock.onnx", tmp_path / "restored.onnx"
    with quiet():
        torch.onnx.export(module, (torch.zeros(1, 3, 8, 8),), stock)
    tensors = {name: each.numpy().copy() for name, each in module.state_dict().items()}
    tensors["1.running_mean"][-1] *= np.float32(1.01)
    found = restore_from_tensors(stock, tensors, output)
    assert [each.name for each in found.outcomes if each.restored] == ["3"]
    assert [each.name for each in found.outcomes if "any epsilon" in each.why_not] == ["1"]
    assert list(norms_of(output)) == ["3"]
    tensors["3.running_var"] *= np.float32(1.01)
    output.unlink()
    assert restore_from_tensors(stock, tensors, output).path == ""
    assert not output.exists()
    with pytest.raises(UsageError, match="no BatchNorm"):
        restore_from_tensors(stock, {"0.weight": tensors["0.weight"]}, output)
