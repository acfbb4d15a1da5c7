"""What the tests hold restored files against: the framework's arrays, and ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

RELATIVE = 2e-5
"""How far outputs may be off, relative to the largest of them; a wrong layer is off by 1e-2."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A BatchNorm as its framework has it: scale, B, mean, var; momentum as ONNX writes it."""

    four: tuple[Any, ...]
    epsilon: float
    momentum: float


def keras_truths(model: Any) -> dict[str, Truth]:
    import keras

    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.moving_mean.shape
            gamma = layer.gamma.numpy() if layer.scale else np.ones(channels, np.float32)
            beta = layer.beta.numpy() if layer.center else np.zeros(channels, np.float32)
            four = (gamma, beta, layer.moving_mean.numpy(), layer.moving_variance.numpy())
            found[layer.name] = Truth(four=four, epsilon=layer.epsilon, momentum=layer.momentum)
    return found


def torch_truths(module: Any) -> dict[str, Truth]:
    from torch import nn

    return {
        name: Truth(
            four=tuple(
                each.detach().numpy().copy()
                for each in (layer.weight, layer.bias, layer.running_mean, layer.running_var)
            ),
            epsilon=layer.eps,
            momentum=1 - layer.momentum,
        )
        for name, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    }


def norms_of(path: Path) -> dict[str, Any]:
    """Every BatchNormalization node of the main graph by its name."""
    nodes = [n for n in onnx.load(str(path)).graph.node if n.op_type == "BatchNormalization"]
    found = {node.name: node for node in nodes}
    assert len(found) == len(nodes)
    return found


def assert_truths(path: Path, truths: Mapping[str, Truth]) -> None:
    """The file's BatchNorms are these, under their names, in every bit, each in its own tensors."""
    graph = onnx.load(str(path)).graph
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    assert len(arrays) == len(graph.initializer)
    norms = norms_of(path)
    assert sorted(norms) == sorted(truths)
    read = [name for node in norms.values() for name in node.input[1:]]
    assert len(set(read)) == len(read)
    for name, truth in truths.items():
        node = norms[name]
        for stored, wanted in zip(node.input[1:], truth.four, strict=True):
            assert arrays[stored].dtype == wanted.dtype
            assert arrays[stored].shape == wanted.shape
            assert arrays[stored].tobytes() == wanted.tobytes()
        said = {each.name: each.f for each in node.attribute}
        assert np.float32(said["epsilon"]) == np.float32(truth.epsilon)
        assert said["momentum"] == np.float32(truth.momentum)


def assert_same_interface(stock: Path, restored: Path) -> None:
    """What others see of a model is what it was."""
    one, other = onnx.load(str(stock)), onnx.load(str(restored))
    for field in ("input", "output"):
        assert list(getattr(one.graph, field)) == list(getattr(other.graph, field))
    assert list(one.opset_import) == list(other.opset_import)
    assert list(one.metadata_props) == list(other.metadata_props)
    assert one.ir_version == other.ir_version
    onnx.checker.check_model(other, full_check=True)


def feeds_of(path: Path, batch: int, seed: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = {}
    for each in session.get_inputs():
        dims = [size if isinstance(size, int) else batch for size in each.shape]
        dtype = np.float16 if "float16" in each.type else np.float32
        found[each.name] = rng.normal(size=dims).astype(dtype)
    return found


def run(path: Path, feeds: Mapping[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def assert_near(one: Any, other: Any, allowed: float = 0.0) -> None:
    """`allowed` is what rounding was measured to make of a network that magnifies it."""
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= max(RELATIVE * np.abs(one).max(), allowed)


def assert_same_outputs(stock: Path, restored: Path, allowed: float = 0.0) -> None:
    for batch in (1, 5):
        feeds = feeds_of(stock, batch)
        wanted, got = run(stock, feeds), run(restored, feeds)
        assert wanted.keys() == got.keys()
        for name, values in wanted.items():
            assert_near(values, got[name], allowed)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.onnx prints its progress, and warns that its older exporter is the older one."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
