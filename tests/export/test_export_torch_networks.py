from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch_checks import all_nodes, check_norms, copied, norms_of, ran, same_outputs

from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "count"))
import torch_networks  # noqa: E402  # only where there is torch

LONG = bool(os.environ.get("BNINSPECT_LONG"))
NETWORKS = ["resnet", "densenet", "mobilenet", "conv1d", "conv3d", "no_affine", "upwards", "linear"]
OTHERS = ["tied", "lstm", "embedding", "transformer", "group_norm", "unused", "buffers"]


@pytest.mark.parametrize("state", ["fresh", "trained"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_a_free_batch(name: str, state: str, tmp_path: Path) -> None:
    module, inputs = torch_networks.made(name, state)
    made = export_torch(module, tmp_path / "x.onnx", dynamic=("batch",))
    model = check_norms(made.path, norms_of(module), copied(module))
    found = made.manifest.verification
    assert found is not None
    assert found.batch_sizes == (1, 5)
    assert found.bitwise == found.of == 4 * len(norms_of(module))
    assert found.max_abs <= found.tolerance
    stored = {each.name for each in model.graph.initializer}
    assert {n for n in module.state_dict() if not n.endswith("num_batches_tracked")} <= stored
    wanted = sum(each.numel() for each in module.parameters())
    assert made.manifest.totals.trainable == wanted
    same_outputs(made.path, module, *(torch.cat([each, each[:1]]) for each in inputs))


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks(name: str, tmp_path: Path) -> None:
    module, inputs = torch_networks.made(name, "trained")
    made = export_torch(module, tmp_path / "x.onnx")
    same_outputs(made.path, module, *inputs)
    assert made.manifest.verification is not None


def test_one_layer_called_twice(tmp_path: Path) -> None:
    module, inputs = torch_networks.made("twice", "trained")
    made = export_torch(module, tmp_path / "x.onnx")
    nodes = all_nodes(onnx.load(made.path).graph)
    norms = [each for each in nodes if each.op_type == "BatchNormalization"]
    assert [each.name for each in norms] == ["bn", "bn_1"]
    assert list(norms[0].input)[1:] == list(norms[1].input)[1:]
    same_outputs(made.path, module, *inputs)


def test_half_network(tmp_path: Path) -> None:
    module, _ = torch_networks.made("resnet", "trained")
    module = module.half()
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(2, 3, 32, 32))
    check_norms(made.path, norms_of(module), copied(module))


@pytest.mark.parametrize("make", ["script", "program"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "upwards"])
def test_networks_in_other_forms(name: str, make: str, tmp_path: Path) -> None:
    module, inputs = torch_networks.made(name, "fresh")
    free = ({0: torch.export.Dim.AUTO},)
    given = (
        torch.jit.trace(module, inputs)
        if make == "script"
        else torch.export.export(module, inputs, dynamic_shapes=free)
    )
    made = export_torch(given, tmp_path / "x.onnx", example=inputs)
    check_norms(made.path, norms_of(module), copied(module))
    assert made.manifest.verification is not None
    assert made.manifest.verification.batch_sizes == (1, 5)
    same_outputs(made.path, module, *(torch.cat([each, each[:1]]) for each in inputs))


@pytest.mark.skipif(not LONG, reason="more than 2 GB: exported with BNINSPECT_LONG=1")
def test_more_than_two_gigabytes(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Linear(64, 16384), nn.BatchNorm1d(16384), nn.Linear(16384, 36000), nn.BatchNorm1d(36000)
    )
    nn.init.uniform_(module[1].running_mean)
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(2, 64), verify=False)
    assert Path(made.path).stat().st_size < 2**20
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) == made.size
    assert made.size > 2**31
    model = onnx.load(made.path, load_external_data=False)
    norms = [each for each in model.graph.node if each.op_type == "BatchNormalization"]
    assert [each.name for each in norms] == ["1", "3"]
    x = torch.randn(2, 64)
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    (got,) = ran(made.path, x.numpy())
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_a_residual_network_reloads_its_weights(tmp_path: Path) -> None:
    trained, inputs = torch_networks.made("resnet", "trained")
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "w.ckpt")
    fresh: Any = torch_networks.resnet()[0]
    made = export_torch(fresh, tmp_path / "x.onnx", weights=tmp_path / "w.ckpt", example=inputs)
    check_norms(made.path, norms_of(trained), copied(trained))
    same_outputs(made.path, trained, *inputs)
