from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def models() -> Path:
    return ROOT / "models"


@pytest.fixture
def read() -> Callable[[str | Path], Any]:
    """What a test looks at in an exported file."""

    def look(path: str | Path) -> Any:
        model = onnx.load(str(path))
        arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
        return SimpleNamespace(
            model=model,
            arrays=arrays,
            norms={n.name: n for n in norms},
            tensors={n.name: [arrays.get(name) for name in n.input[1:]] for n in norms},
            momentum={
                n.name: next(a.f for a in n.attribute if a.name == "momentum") for n in norms
            },
            epsilon={n.name: next(a.f for a in n.attribute if a.name == "epsilon") for n in norms},
            float_elements=sum(each.size for each in arrays.values() if each.dtype.kind == "f"),
        )

    return look


@pytest.fixture
def run() -> Callable[..., list[Any]]:
    import onnxruntime

    def outputs(path: str | Path, feeds: dict[str, Any]) -> list[Any]:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))

    return outputs


@pytest.fixture
def fill() -> Callable[[Any], Any]:
    """Give a Keras model weights of which no two are equal; variances are positive."""

    def filled(model: Any) -> Any:
        rng = np.random.default_rng(7)
        for variable in model.variables:
            if "float" not in str(variable.dtype):
                continue
            values = rng.normal(0.0, 0.5, variable.shape)
            if variable.path.rpartition("/")[2] in ("gamma", "moving_variance"):
                values = rng.uniform(0.5, 1.5, variable.shape)
            variable.assign(values)
        return model

    return filled


@pytest.fixture
def torch_fill() -> Callable[[Any], Any]:
    """Give a module weights of which no two are equal; variances are positive."""
    import torch

    def filled(module: Any) -> Any:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, each in [*module.named_parameters(), *module.named_buffers()]:
                if torch.nn.parameter.is_lazy(each) or not each.is_floating_point():
                    continue
                values = torch.rand(each.shape, generator=generator, dtype=torch.float64)
                each.copy_(values + 0.5 if "var" in name else values - 0.5)
        return module

    return filled
