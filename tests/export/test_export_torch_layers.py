from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch_checks import (
    all_nodes,
    check_norms,
    copied,
    norms_of,
    same_outputs,
    stored,
)

from inspector.errors import ExportDisagreesError, RunError, UnreadableError
from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn
IMAGE = (2, 3, 8, 8)


def behind(*layers: Any) -> Callable[[], Any]:
    return lambda: nn.Sequential(*layers)


class Choice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.BatchNorm1d(4, eps=3e-4), nn.BatchNorm1d(4, momentum=0.3)

    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda y: self.yes(y) * 1, lambda y: self.no(y) * 2, (x,))


TABLE: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "conv1d": (behind(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 8)),
    "conv2d": (behind(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGE),
    "conv3d": (behind(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4)), (2, 3, 5, 5, 5)),
    "no bias": (behind(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), IMAGE),
    "depthwise": (behind(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)), IMAGE),
    "synchronised": (behind(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4)), IMAGE),
    "linear": (behind(nn.Linear(5, 4), nn.BatchNorm1d(4)), (3, 5)),
    "transposed": (behind(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGE),
    "behind relu": (behind(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), IMAGE),
    "before conv": (behind(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), IMAGE),
    "twice": (behind(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), IMAGE),
    "not affine": (behind(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), IMAGE),
    "half": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).half(), IMAGE),
    "double": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(),
                                     nn.BatchNorm1d(4, affine=False)).double(), (3, 5)),
    "momentum 0.15": (behind(nn.BatchNorm2d(3, momentum=0.15, eps=1.001e-5)), IMAGE),
    "momentum none": (behind(nn.BatchNorm2d(3, momentum=None)), IMAGE),
    "branches": (Choice, (3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("fresh", [False, True], ids=["filled", "fresh"])
@pytest.mark.parametrize(("build", "shape"), TABLE.values(), ids=TABLE.keys())
def test_every_row_keeps_its_batchnorms(
    build: Any, shape: Any, fresh: bool, torch_fill: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = build()
    module = module if fresh else torch_fill(module)
    module.train()
    state = copied(module)
    made = export_torch(module, tmp_path / "x.onnx", input_shape=shape)
    check_norms(made.path, norms_of(module), state)
    found = made.manifest.verification
    assert found is not None
    assert found.bitwise == found.of == 4 * len(norms_of(module))
    dtype = next(iter(state.values())).dtype
    same_outputs(made.path, module.eval(), torch.randn(shape).to(dtype),
                 rtol=1e-2 if dtype == torch.float16 else 2e-5)  # fmt: skip


@pytest.mark.parametrize("opset", range(18, 25))
def test_every_opset(opset: int, torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE, opset=opset)
    model = check_norms(made.path, norms_of(module), copied(module))
    assert [each.version for each in model.opset_import if not each.domain] == [opset]


def test_equal_tensors_are_not_merged(tmp_path: Path) -> None:
    layers = [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    module = nn.Sequential(*layers)
    nn.init.zeros_(module[0].bias)
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE)
    model = check_norms(made.path, norms_of(module), copied(module))
    wanted = {name for name in module.state_dict() if "num_batches" not in name}
    assert wanted == {each.name for each in model.graph.initializer}


def test_instancenorm_with_statistics_is_said(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(nn.Sequential(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE)
    assert "InstanceNorm '0'" in made.notes[0]
    assert made.manifest.batchnorms == ()


def test_no_running_statistics_are_said(torch_fill: Any, tmp_path: Path) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4)
    module = torch_fill(nn.Sequential(*layers))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(4, 3, 8, 8))
    assert "BatchNorm '1' keeps no running statistics" in made.notes[0]
    assert [each.source for each in made.manifest.batchnorms] == ["2"]


class Bags(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.bag, self.norm = nn.EmbeddingBag(10, 4, mode=mode), nn.BatchNorm1d(4)
        self.example_input_array = torch.randint(0, 10, (3, 5))

    def forward(self, x: Any) -> Any:
        return self.norm(self.bag(x))


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_a_branch_that_gives_a_constant(mode: str, torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Bags(mode))
    made = export_torch(module, tmp_path / "x.onnx")
    check_norms(made.path, norms_of(module), copied(module))
    same_outputs(made.path, module.eval(), module.example_input_array)


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel,
                                  lambda m: torch.compile(nn.DataParallel(m)),
                                  lambda m: nn.DataParallel(torch.compile(m))])  # fmt: skip
def test_wrappers(wrap: Any, torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    made = export_torch(wrap(module), tmp_path / "x.onnx", input_shape=IMAGE)
    check_norms(made.path, norms_of(module), copied(module))
    assert all("wrapper" in note for note in made.notes)


class Quantized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.bn(self.conv(x)))


def prepared() -> Any:
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Quantized().train()
        module.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        fused = quantization.fuse_modules_qat(module, [["conv", "bn", "relu"]])
        return quantization.prepare_qat(fused)


def converted() -> Any:
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.convert(prepared().eval())


class Controlled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        return self.norm(x) if x.sum() > 0 else x


class Puts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Any) -> Any:
        return self.norm.train()(x)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "qat": (prepared, "made for quantization-aware training"),
    "quantized": (converted, "is quantized"),
    "brain": (lambda: nn.BatchNorm2d(3).bfloat16(), "is bfloat16, which ONNX Runtime cannot run"),
    "control flow": (Controlled, "decides by the values of its input"),
    "training": (Puts, "puts BatchNorm 'norm' into training mode"),
}


@pytest.mark.parametrize(("build", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_kept_is_said(build: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError) as caught:
        export_torch(build(), tmp_path / "x.onnx", input_shape=IMAGE)
    assert said in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_without_verification(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).bfloat16())
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE, verify=False)
    assert made.manifest.verification is None
    import onnx

    tensors = stored(onnx.load(made.path).graph)
    bits = module[1].running_mean.view(torch.int16).numpy()
    assert tensors["1.running_mean"].tobytes() == bits.tobytes()


def test_without_verification_nothing_is_run_and_norms_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be run")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE, verify=False)
    check_norms(made.path, norms_of(module), copied(module))
    plain = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: plain(*a, **{**k, "optimize": True}))
    with pytest.raises(ExportDisagreesError, match="did not stay a BatchNormalization"):
        export_torch(module, tmp_path / "y.onnx", input_shape=IMAGE, verify=False)


def test_float64_convolutions_are_for_no_runtime(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    with pytest.raises(RunError, match=r"export module\.float\(\)"):
        export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE)
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE, verify=False)
    check_norms(made.path, norms_of(module), copied(module))


def test_float64_has_its_epsilon_rounded_and_that_is_said(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, eps=1e-3)).double()
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(3, 5))
    assert "epsilon as float32" in made.notes[0]
    assert module[1].eps == 1e-3


class Everything(nn.Module):
    """Changes what a forward pass can change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.fc = nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1), persistent=False)
        self.merged = False

    def train(self, mode: bool = True) -> Any:
        with torch.no_grad():
            self.fc.weight.mul_(1.0 if mode == self.training else 2.0 if self.training else 0.5)
        return super().train(mode)

    def forward(self, x: Any) -> Any:
        torch.rand(1)
        self.calls += 1
        return self.drop(self.fc(self.norm(x)))


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_left_exactly_as_it_was_found(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Everything()
    module.fc.bias.requires_grad_(False)
    module.fc.weight.grad = torch.ones(4, 4)
    module.norm.eval()
    called: list[int] = []
    hook = module.fc.register_forward_hook(lambda *_: called.append(1))
    state = copied(module)
    objects = {n: id(e) for n, e in module.state_dict(keep_vars=True).items()}
    flags = [each.training for each in module.modules()]
    attributes = [set(vars(each)) for each in module.modules()]
    random = torch.get_rng_state()
    if fails:
        monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    with pytest.raises(UnreadableError, match="ZeroDivision") if fails else nullcontext():
        export_torch(module, tmp_path / "x.onnx", input_shape=(3, 4))
    assert all(torch.equal(each, state[name]) for name, each in module.state_dict().items())
    assert objects == {n: id(e) for n, e in module.state_dict(keep_vars=True).items()}
    assert flags == [each.training for each in module.modules()] == [True, False, True, True]
    assert attributes == [set(vars(each)) for each in module.modules()]
    assert torch.equal(torch.get_rng_state(), random)
    assert [each.requires_grad for each in module.fc.parameters()] == [True, False]
    assert torch.equal(module.fc.weight.grad, torch.ones(4, 4))
    assert list(module.fc._forward_hooks) == [hook.id]
    assert not module.norm._forward_pre_hooks
    assert torch.is_grad_enabled()


def test_lazy_layers_stay_lazy(tmp_path: Path) -> None:
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    made = export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE)
    assert made.manifest.verification is not None
    assert made.manifest.verification.of == 4
    assert "lazy layers" in made.notes[0]
    assert type(module[0]) is nn.LazyConv2d
    assert type(module[1]) is nn.LazyBatchNorm2d
    assert module[0].has_uninitialized_params()
    assert module(torch.randn(2, 7, 5, 5)).shape == (2, 4, 3, 3)
    assert module[0].weight.shape == (4, 7, 3, 3)


class Weights(nn.Module):
    """One weight under two names, one layer called twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(7, 4), nn.BatchNorm1d(4)
        self.out, self.idle = nn.Linear(4, 7, bias=False), nn.BatchNorm1d(4)
        self.out.weight = self.table.weight
        self.example_input_array = torch.tensor([[1, 6, 3], [0, 2, 2]])

    def forward(self, x: Any) -> Any:
        return self.out(self.norm(self.norm(self.table(x).mean(1)).relu()))


def test_tied_weights_are_stored_once_under_the_first_name(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Weights())
    made = export_torch(module, tmp_path / "x.onnx")
    import onnx

    model = onnx.load(made.path)
    names = [each.name for each in model.graph.initializer]
    assert names.count("table.weight") == 1
    assert "out.weight" not in names
    first, second = [n for n in all_nodes(model.graph) if n.op_type == "BatchNormalization"]
    assert (
        list(first.input)[1:]
        == list(second.input)[1:]
        == [f"norm.{each}" for each in ("weight", "bias", "running_mean", "running_var")]
    )
    assert made.notes == ("BatchNorm 'idle' is not used by the forward pass",)
