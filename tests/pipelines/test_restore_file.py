"""`bninspect restore` from sources, kept files and weights, as a user runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")

SOURCE = """
import torch
from torch import nn


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.fc, self.bn = nn.Embedding(20, 8), nn.Linear(8, 6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)
        nn.init.uniform_(self.bn.running_mean)
        nn.init.uniform_(self.bn.weight, 0.5, 2)

    def forward(self, ids):
        return self.head(self.bn(self.fc(self.table(ids).mean(1))))


def words():
    return Words().eval()


def without_norm():
    made = words()
    made.bn = nn.Identity()
    return made
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source, its stock export with the BatchNorm folded, and its weights."""
    (tmp_path / "nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    from inspector.export import source

    spec = source.parse("nets.py:words")
    with source.opened(spec, lambda e: isinstance(e, torch.nn.Module), "a module") as module:
        assert isinstance(module, torch.nn.Module)
        ids = torch.arange(10).reshape(2, 5)
        torch.onnx.export(module, (ids,), tmp_path / "stock.onnx", external_data=False)
        torch.save(module.state_dict(), tmp_path / "weights.pt")
        arrays = {name: each.numpy() for name, each in module.state_dict().items()}
        np.savez(tmp_path / "truth.npz", **arrays)
    nodes = onnx.load(str(tmp_path / "stock.onnx")).graph.node
    assert not [each for each in nodes if each.op_type == "BatchNormalization"]
    return tmp_path


def restored_exactly(folder: Path) -> None:
    model = onnx.load(str(folder / "out.onnx"))
    (node,) = [each for each in model.graph.node if each.op_type == "BatchNormalization"]
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    truth = np.load(folder / "truth.npz")
    parts = ("weight", "bias", "running_mean", "running_var")
    for name, part in zip(node.input[1:5], parts, strict=True):
        assert stored[name].tobytes() == truth[f"bn.{part}"].tobytes()


def test_inputs_are_those_that_the_stock_file_declares(folder: Path, run: Any) -> None:
    """The module has no example, and takes ids."""
    ran = run("restore", "stock.onnx", "--from", "nets.py:words", "-o", "out.onnx")
    assert (ran.code, ran.err) == (0, "")
    assert "1 of 1 BatchNorm restored" in ran.out
    restored_exactly(folder)


def test_from_weights_alone(folder: Path, run: Any) -> None:
    for weights in ("weights.pt", "truth.npz"):
        ran = run("restore", "stock.onnx", "--from", weights, "-o", "out.onnx")
        assert (ran.code, ran.err) == (0, "")
        restored_exactly(folder)
        (folder / "out.onnx").unlink()


def test_from_a_kept_file(folder: Path, run: Any) -> None:
    ids = ("--example", "ids.npy")
    np.save(folder / "ids.npy", np.zeros((2, 5), "i8"))
    assert run("export", "torch", "nets.py:words", "-o", "kept.onnx", *ids).code == 0
    assert run("restore", "stock.onnx", "--from", "kept.onnx", "-o", "out.onnx").code == 0
    restored_exactly(folder)


def test_another_layer_that_differs_is_a_finding(folder: Path, run: Any) -> None:
    """The BatchNorm is put back, and the head is another than the source's."""
    model = onnx.load("stock.onnx")
    for each in model.graph.initializer:
        if each.name == "head.weight":
            doubled = numpy_helper.to_array(each) * np.float32(2)
            each.CopyFrom(numpy_helper.from_array(doubled, each.name))
    onnx.save(model, "stock.onnx")
    ran = run("restore", "stock.onnx", "--from", "nets.py:words", "-o", "out.onnx")
    assert (ran.code, ran.err) == (1, "")
    assert "reference  outputs differ" in ran.out
    restored_exactly(folder)


def test_a_source_without_a_batchnorm(folder: Path, run: Any) -> None:
    ran = run("restore", "stock.onnx", "--from", "nets.py:without_norm", "-o", "out.onnx")
    assert ran.code != 0
    assert ran.err.count("\n") <= 1
    assert not (folder / "out.onnx").exists()
