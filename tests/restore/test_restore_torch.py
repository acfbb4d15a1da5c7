"""Stock exports of PyTorch modules, by both of its exporters, restored."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from restored_files import (
    assert_near,
    assert_same_interface,
    assert_same_outputs,
    assert_truths,
    feeds_of,
    norms_of,
    quiet,
    run,
    torch_truths,
)

torch = pytest.importorskip("torch", reason="these exports need it")
pytest.importorskip("onnxscript", reason="these exports need it")

from inspector.export import export_torch, source  # noqa: E402  # what needs torch comes behind it
from inspector.facts.batchnorm import Form  # noqa: E402  # behind what it needs
from inspector.facts.restored import Restored  # noqa: E402  # behind what it needs
from inspector.facts.traced import Fate  # noqa: E402  # behind what it needs
from inspector.flows import inspect_file  # noqa: E402  # behind what it needs
from inspector.restore import restore  # noqa: E402  # behind what it needs

nn = torch.nn
MODELS = Path(__file__).resolve().parents[2] / "models"
EXPORTERS = ("dynamo", "TorchScript")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights that are drawn are the same in every run."""
    torch.manual_seed(0)


def filled(module: Any) -> Any:
    """As training leaves a module: no two values equal, a scale may be negative."""
    rng = np.random.default_rng(13)
    for path, values in module.state_dict().items():
        name = path.rpartition(".")[2]
        if name == "running_var":
            drawn = rng.uniform(0.4, 2.0, values.shape)
        elif name == "weight" and values.dim() == 1:
            drawn = rng.uniform(0.5, 1.5, values.shape) * (-1.0 if values.numel() % 2 else 1.0)
        elif name in ("bias", "running_mean") and "zero" not in path:
            drawn = rng.normal(0.0, 0.3, values.shape)
        else:
            continue
        values.copy_(torch.from_numpy(np.asarray(drawn)))
    for each in module.modules():
        if hasattr(each, "zeroed"):
            each.zeroed.bias.data.zero_()
    return module.eval()


def stock_export(
    module: Any, shape: tuple[int, ...], exporter: str, path: Path, **options: Any
) -> None:
    options |= {"dynamo": False} if exporter == "TorchScript" else {}
    with quiet():
        torch.onnx.export(module, (torch.zeros(shape),), path, **options)


def restored(
    module: Any, shape: tuple[int, ...], exporter: str, folder: Path, **options: Any
) -> Restored:
    """Restore a stock export, and hold the file against the module itself."""
    stock, kept, output = (folder / f"{e}.onnx" for e in ("stock", "kept", "restored"))
    export_torch(module, kept, input_shape=shape)
    stock_export(module, shape, exporter, stock, **options)
    found = restore(stock, kept, output)
    truths = torch_truths(module)
    assert [each.why_not for each in found.outcomes] == [""] * len(truths)
    assert found.complete
    assert found.bitwise == found.of == 4 * len(truths)
    assert found.with_stock.within
    assert found.with_reference.within
    assert_truths(output, truths)
    assert_same_interface(stock, output)
    assert_same_outputs(stock, output)
    feeds = feeds_of(stock, shape[0])
    with torch.no_grad():
        wanted = module(*(torch.from_numpy(each) for each in feeds.values())).numpy()
    (values,) = run(output, feeds).values()
    assert_near(wanted, values)
    seen = inspect_file(output)
    assert {each.norm.form for each in seen.norms} == {Form.NATIVE}
    assert (seen.folded, seen.affines) == ((), ())
    return found


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_questions_network(exporter: str, tmp_path: Path) -> None:
    with source.opened(
        source.parse(f"{MODELS / 'torch_cnn.py'}:small"),
        lambda each: isinstance(each, nn.Module),
        "a model",
    ) as module:
        shape = tuple(module.example_input_array.shape)
        found = restored(module, shape, exporter, tmp_path)
    assert [each.was for each in found.outcomes] == [Fate.KEPT]
    assert norms_of(tmp_path / "restored.onnx").keys() == {"bn"}


def stack() -> Any:
    def normed(name: str, layer: Any, norm: Any) -> list[tuple[str, Any]]:
        return [(name, layer), (f"{name}_bn", norm), (f"{name}_relu", nn.ReLU())]

    wide = nn.BatchNorm2d(4, eps=1e-3, momentum=0.15)
    return nn.Sequential(
        OrderedDict(
            [
                ("image_bn", nn.BatchNorm2d(3)),
                *normed("bare", nn.Conv2d(3, 4, 3, padding=1, bias=False), wide),
                *normed("biased", nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6)),
                *normed("zeroed", nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4)),
                *normed("up", nn.ConvTranspose2d(4, 5, 3), nn.BatchNorm2d(5)),
                *normed("up_bare", nn.ConvTranspose2d(5, 4, 2, 2, bias=False), nn.BatchNorm2d(4)),
                *normed("up_groups", nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
                *normed("depth", nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6)),
                *normed("groups", nn.Conv2d(6, 4, 3, groups=2), nn.BatchNorm2d(4)),
                ("before", nn.BatchNorm2d(4)),
                ("behind", nn.Conv2d(4, 4, 1)),
                ("one_bn", nn.BatchNorm2d(4)),
                ("two_bn", nn.BatchNorm2d(4, eps=1e-2)),
                ("pool", nn.AdaptiveAvgPool2d(1)),
                ("flat", nn.Flatten()),
                *normed("hidden", nn.Linear(4, 6), nn.BatchNorm1d(6)),
                *normed("hidden_bare", nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)),
                ("out", nn.Linear(5, 3)),
            ]
        )
    )


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "fresh"])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_what_stands_before_a_batchnorm(exporter: str, trained: bool, tmp_path: Path) -> None:
    module = stack().eval()
    found = restored(filled(module) if trained else module, (2, 3, 8, 8), exporter, tmp_path)
    assert {each.was for each in found.outcomes} == {Fate.KEPT, Fate.FOLDED}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_stack_that_no_input_moves(exporter: str, tmp_path: Path) -> None:
    """A ReLU in the middle is dead: what rounding does to the outputs, weights alone show."""
    torch.manual_seed(30)
    module = filled(stack())
    with torch.no_grad():
        one, other = (module(torch.full((1, 3, 8, 8), each)) for each in (-1.0, 1.0))
    assert torch.equal(one, other)
    restored(module, (2, 3, 8, 8), exporter, tmp_path)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_sequences_and_volumes(exporter: str, tmp_path: Path) -> None:
    line = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 2, 1))
    (tmp_path / "line").mkdir()
    restored(filled(line), (2, 3, 9), exporter, tmp_path / "line")
    volume = nn.Sequential(nn.Conv3d(2, 4, 3, bias=False), nn.BatchNorm3d(4), nn.ReLU())
    (tmp_path / "volume").mkdir()
    restored(filled(volume), (2, 2, 5, 5, 5), exporter, tmp_path / "volume")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_any_batch_size_stays_possible(exporter: str, tmp_path: Path) -> None:
    module = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    free: dict[str, Any] = {"dynamic_shapes": ({0: "batch"},)}
    if exporter == "TorchScript":
        free = {"input_names": ["input"], "dynamic_axes": {"input": {0: "batch"}}}
    found = restored(module, (2, 3, 8, 8), exporter, tmp_path, **free)
    assert len(found.with_stock.batch_sizes) > 1


class Residual(nn.Module):
    """The un-normalised value is read by another layer, too, and a layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.again, self.after = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        raw = self.first(x)
        y = torch.relu(self.bn(raw)) + raw
        y = torch.relu(self.after(self.again(y)))
        return y + self.again(y)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_value_before_a_batchnorm_has_other_readers(exporter: str, tmp_path: Path) -> None:
    restored(filled(Residual()), (1, 3, 6, 6), exporter, tmp_path)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_data_files_beside_the_stock_export(exporter: str, tmp_path: Path) -> None:
    module = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    stock = tmp_path / "stock.onnx"
    export_torch(module, tmp_path / "kept.onnx", input_shape=(1, 3, 8, 8))
    stock_export(module, (1, 3, 8, 8), exporter, stock)
    onnx.save(onnx.load(str(stock)), str(stock), save_as_external_data=True, size_threshold=0)
    output = tmp_path / "alone" / "restored.onnx"
    output.parent.mkdir()
    assert restore(stock, tmp_path / "kept.onnx", output).complete
    assert [each.name for each in output.parent.iterdir()] == ["restored.onnx"]
    assert_truths(output, torch_truths(module))
    assert_same_outputs(stock, output)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED"])
def test_onnx_runtimes_optimised_file(level: str, tmp_path: Path) -> None:
    import onnxruntime

    module = filled(stack())
    kept, stock, output = (tmp_path / f"{e}.onnx" for e in ("kept", "stock", "restored"))
    export_torch(module, kept, input_shape=(2, 3, 8, 8))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(stock)
    onnxruntime.InferenceSession(str(kept), options, providers=["CPUExecutionProvider"])
    found = restore(stock, kept, output)
    assert [each.why_not for each in found.outcomes] == [""] * len(found.outcomes)
    assert found.with_stock.within
    assert found.with_reference.within
    assert_truths(output, torch_truths(module))
    assert_same_outputs(stock, output)
    kinds = {each.op_type for each in onnx.load(str(stock)).graph.node}
    assert ("FusedConv" in kinds) == (level == "EXTENDED")


def normed_weights() -> Any:
    """Weights that are computed from others each time: the old way, the new, the spectral."""
    parametrised = nn.utils.parametrizations
    with quiet():
        layers = [
            nn.utils.weight_norm(nn.Conv2d(3, 6, 3)),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            parametrised.weight_norm(nn.ConvTranspose2d(6, 4, 3)),
            nn.BatchNorm2d(4),
            parametrised.spectral_norm(nn.Conv2d(4, 4, 3)),
            nn.BatchNorm2d(4),
        ]
    return filled(nn.Sequential(*layers))


def test_weights_that_are_computed_from_others(tmp_path: Path) -> None:
    module, shape = normed_weights(), (2, 3, 10, 10)
    stock, kept, output = (tmp_path / f"{name}.onnx" for name in ("stock", "kept", "restored"))
    export_torch(module, kept, input_shape=[shape])
    with quiet():
        torch.onnx.export(module, (torch.randn(shape),), str(stock), dynamo=True)
    found = restore(stock, kept, output)
    assert [each.why_not for each in found.outcomes] == ["", "", ""]
    assert Fate.FOLDED in {each.was for each in found.outcomes}
    assert any("computes" in note for note in found.notes)
    assert_truths(output, torch_truths(module))
    feeds = feeds_of(stock, 2)
    (values,) = run(output, feeds).values()
    (wanted,) = run(stock, feeds).values()
    assert_near(wanted, values)
    with torch.no_grad():
        assert_near(module(*map(torch.from_numpy, feeds.values())).numpy(), values)
