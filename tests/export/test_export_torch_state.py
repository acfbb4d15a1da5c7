from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch_checks import check_norms, copied, norms_of, ran, same_outputs, stored

from inspector.errors import RunError, UnreadableError
from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)
        self.register_buffer("ema", torch.full((4,), 0.5))
        self.hidden: Any = None


class InPlace(Keeps):
    def forward(self, x: Any) -> Any:
        self.ema.mul_(0.5).add_(x.mean(0))
        return self.bn(x) - self.ema


class Replaced(Keeps):
    def forward(self, x: Any) -> Any:
        self.ema = self.ema + 1
        return self.bn(x) * self.ema


class After(Keeps):
    def forward(self, x: Any) -> Any:
        y = self.bn(x) - self.ema
        self.ema.copy_(x.mean(0))
        return y


class Attribute(Keeps):
    def forward(self, x: Any) -> Any:
        y = self.bn(x) - self.ema
        y = y if self.hidden is None else y + self.hidden.mean()
        self.hidden = y
        return y


class Cache(Keeps):
    def forward(self, x: Any) -> Any:
        if self.hidden is None:
            self.hidden = torch.ones(4)
        return self.bn(x) - self.ema * self.hidden


NOTED = {InPlace: "'ema'", Replaced: "'ema'", After: "'ema'", Attribute: "'hidden'", Cache: ""}


@pytest.mark.parametrize(("kind", "name"), NOTED.items(), ids=lambda e: getattr(e, "__name__", ""))
def test_the_file_has_the_state_as_it_was_found(
    kind: Any, name: str, torch_fill: Any, tmp_path: Path
) -> None:
    import onnx

    module = torch_fill(kind()).eval()
    state, path = copied(module), tmp_path / "m.onnx"
    export = export_torch(module, path, input_shape=(3, 4))
    notes = [each for each in export.notes if each.startswith("forward() changes")]
    assert [name in each for each in notes] == ([True] if name else [])
    model = check_norms(path, norms_of(module), state)
    assert isinstance(model, onnx.ModelProto)
    assert stored(model.graph)["ema"].tobytes() == state["ema"].numpy().tobytes()
    assert all(torch.equal(each, state[name]) for name, each in module.state_dict().items())
    same_outputs(path, module, torch.rand(3, 4))


def test_the_state_of_torchscript(torch_fill: Any, tmp_path: Path) -> None:
    module, path = torch_fill(InPlace()).eval(), tmp_path / "m.onnx"
    script = torch.jit.trace(module, torch.rand(3, 4), check_trace=False)
    before = script.ema.clone()
    export = export_torch(script, path, input_shape=(3, 4))
    assert any(each.startswith("forward() changes 'ema'") for each in export.notes)
    assert torch.equal(script.ema, before)
    same_outputs(path, script, torch.rand(3, 4))


def test_the_state_of_a_program(torch_fill: Any, tmp_path: Path) -> None:
    program = torch.export.export(torch_fill(InPlace()).eval(), (torch.rand(3, 4),))
    before = program.state_dict["ema"].clone()
    export_torch(program, tmp_path / "m.onnx")
    assert torch.equal(program.state_dict["ema"], before)
    same_outputs(tmp_path / "m.onnx", program.module(), torch.rand(3, 4))


class ChangesInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        x.add_(1.0)
        return self.bn(x), x


def test_a_forward_pass_that_changes_its_input(torch_fill: Any, tmp_path: Path) -> None:
    module, given = torch_fill(ChangesInput()).eval(), torch.zeros(3, 4)
    export = export_torch(module, tmp_path / "m.onnx", example=(given,))
    assert export.notes == ()
    assert torch.equal(given, torch.zeros(3, 4))
    x = torch.rand(3, 4)
    y, moved = ran(tmp_path / "m.onnx", x.numpy())
    torch.testing.assert_close(torch.from_numpy(moved), x + 1)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(y), module.bn(x + 1))


class Functional(nn.Module):
    def __init__(self, training: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.bn, self.batch, self.eps = nn.BatchNorm1d(4), training, eps

    def forward(self, x: Any) -> Any:
        own = self.bn
        return nn.functional.batch_norm(
            x, own.running_mean, own.running_var, own.weight, own.bias, self.batch, 0.1, self.eps
        )


def test_a_layer_s_tensors_with_an_epsilon_of_the_code_s(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Functional(training=False, eps=1e-2)).eval()
    export = export_torch(module, tmp_path / "m.onnx", input_shape=(3, 4))
    assert export.manifest.batchnorms[0].epsilon == pytest.approx(1e-2)
    check_norms(tmp_path / "m.onnx", {"bn": (1e-2, 0.1)}, copied(module))


def computed() -> Any:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    nn.utils.parametrize.register_parametrization(module[1], "weight", nn.Softplus())
    return module


def pruned() -> Any:
    from torch.nn.utils import prune

    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    prune.random_unstructured(module[1], "bias", 0.5)
    return module


def of_a_program() -> Any:
    return torch.export.export(nn.BatchNorm1d(4).eval(), (torch.rand(3, 4),)).module()


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.bn(self.fc(x))


REFUSED = {
    "training=True": (lambda: Functional(training=True).eval(), r"BatchNorm 'bn' .*training=True"),
    "parametrization": (computed, r"weight of BatchNorm '1' is computed.*remove_parametrizations"),
    "pruning": (pruned, r"bias of BatchNorm '1' is computed.*prune\.remove\(layer, 'bias'\)"),
    "a program's module": (of_a_program, r"module of a saved program.*\.pt2"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_batchnorms_that_have_no_tensors_to_keep(build: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=message):
        export_torch(build(), tmp_path / "m.onnx", input_shape=(3, 4))
    assert not list(tmp_path.iterdir())


def test_autocast_to_what_onnx_runtime_has_not(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="autocast"):
        export_torch(Autocast().eval(), tmp_path / "m.onnx", input_shape=(3, 4))


class AnyName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, **given: Any) -> Any:
        return self.bn(given["left"]) - 2 * given["right"]


def test_inputs_under_any_name(torch_fill: Any, tmp_path: Path) -> None:
    module, path = torch_fill(AnyName()).eval(), tmp_path / "m.onnx"
    given = {"right": torch.rand(3, 4), "left": torch.rand(3, 4)}
    export_torch(module, path, example=given)
    with torch.no_grad():
        expected = module(**given)
    right, left = (each.numpy() for each in given.values())
    torch.testing.assert_close(torch.from_numpy(ran(path, right, left)[0]), expected)
    with pytest.raises(UnreadableError, match=r"\*\*kwargs cannot have free axes"):
        export_torch(module, path, example=given, dynamic=["batch"])
