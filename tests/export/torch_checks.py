"""What every export from PyTorch has to keep, told by PyTorch's state_dict and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

PARTS = ("weight", "bias", "running_mean", "running_var")


def all_nodes(graph: Any) -> list[Any]:
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += all_nodes(attribute.g)
            for each in attribute.graphs:
                found += all_nodes(each)
    return found


def stored(graph: Any) -> dict[str, Any]:
    found = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in all_nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= stored(attribute.g)
    return found


def attribute(node: Any, name: str) -> float:
    return next(each.f for each in node.attribute if each.name == name)


def check_norms(
    path: str | Path, norms: Mapping[str, tuple[float, float | None]], state: Mapping[str, Any]
) -> Any:
    """Each BatchNorm by its state_dict path is a node with exactly its tensors, eps, momentum."""
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=False)
    tensors = stored(model.graph)
    nodes = [each for each in all_nodes(model.graph) if each.op_type == "BatchNormalization"]
    assert sorted(node.name for node in nodes) == sorted(norms)
    for node in nodes:
        epsilon, momentum = norms[node.name]
        for name, part in zip(node.input[1:], PARTS, strict=True):
            if f"{node.name}.{part}" in state:
                assert name == f"{node.name}.{part}"
                expected = state[name].numpy()
                assert tensors[name].dtype == expected.dtype
                assert tensors[name].tobytes() == expected.tobytes()
            else:
                assert (tensors[name] == (1 if part == "weight" else 0)).all()
        assert np.float32(attribute(node, "epsilon")) == np.float32(epsilon)
        kept = 1.0 if momentum is None else 1.0 - momentum
        assert np.float32(attribute(node, "momentum")) == np.float32(kept)
        assert not any(each.name == "training_mode" and each.i for each in node.attribute)
    return model


def norms_of(module: Any) -> dict[str, tuple[float, float | None]]:
    import torch

    kinds = (torch.nn.modules.batchnorm._BatchNorm,)
    return {
        path: (each.eps, each.momentum)
        for path, each in module.named_modules()
        if isinstance(each, kinds)
    }


def ran(path: str | Path, *arrays: Any) -> list[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def same_outputs(path: str | Path, module: Any, *tensors: Any, rtol: float = 2e-5) -> None:
    import torch
    from torch.utils import _pytree as pytree

    with torch.no_grad():
        expected = [each.numpy() for each in pytree.tree_leaves(module(*tensors))]
    got = ran(path, *(each.numpy() for each in tensors))
    assert len(expected) == len(got)
    for left, right in zip(expected, got, strict=True):
        assert left.shape == right.shape
        scale = max(float(np.abs(left).max(initial=0)), 1e-3)
        np.testing.assert_allclose(
            right.astype(np.float64), left.astype(np.float64), rtol=0, atol=rtol * scale
        )


def copied(module: Any) -> dict[str, Any]:
    return {name: each.detach().clone() for name, each in module.state_dict().items()}


def dims(value: Any) -> Sequence[int | str]:
    return [e.dim_param or e.dim_value for e in value.type.tensor_type.shape.dim]
