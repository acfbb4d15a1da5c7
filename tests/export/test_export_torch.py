from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.errors import ExportDisagreesError, RunError, UnreadableError, UsageError
from inspector.export import export_torch
from inspector.facts.count import Role
from inspector.facts.manifest import KEY, Manifest

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn
Image = (1, 3, 8, 8)


class Shared(nn.Module):
    """One layer under two names, called twice; one layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)
        self.again, self.unused = self.norm, nn.BatchNorm1d(2)

    def forward(self, x: Any) -> Any:
        return self.again(self.conv(self.norm(x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(7, 4), nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight
        self.example_input_array = torch.tensor([[1, 6, 3]])

    def forward(self, ids: Any) -> Any:
        return self.out(self.norm(self.embedding(ids).mean(1)))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.example_input_array = (torch.zeros(1, 4), torch.zeros(1, 4))

    def forward(self, a: Any, b: Any) -> Any:
        return {"x": self.norm(a) + b, "y": [self.norm(b)]}


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda y: self.yes(y) * 1, lambda y: self.no(y) * 2, (x,))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.norm = nn.LSTM(4, 3, batch_first=True), nn.BatchNorm1d(3)

    def forward(self, x: Any) -> Any:
        return self.norm(self.lstm(x)[0][:, -1])


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...] | None, int]] = {
    "1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (1, 3, 8), 1),
    "2d": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        ),
        Image,
        2,
    ),
    "3d": (lambda: nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4)), (1, 3, 5, 5, 5), 1),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)), Image, 1),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)),
        Image,
        1,
    ),
    "linear": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (2, 5), 1),
    "before": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
        Image,
        2,
    ),
    "synchronised": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4)), Image, 1),
    "half": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).half(), Image, 1),
    "bare": (lambda: nn.BatchNorm2d(3), Image, 1),
    "tied": (Tied, None, 1),
    "several": (Several, None, 2),
}


@pytest.mark.parametrize(("build", "shape", "count"), LAYERS.values(), ids=LAYERS.keys())
def test_every_layer_keeps_its_batchnorm(
    build: Any, shape: Any, count: int, torch_fill: Any, read: Any, tmp_path: Path
) -> None:
    module = torch_fill(build())
    state = {name: each.clone() for name, each in module.state_dict().items()}
    made = export_torch(module, tmp_path / "x.onnx", input_shape=shape)
    seen = read(made.path)

    assert [each.name for each in tmp_path.iterdir()] == ["x.onnx"]
    assert len(seen.norms) == count
    assert (made.manifest.verification.bitwise, made.manifest.verification.of) == (4 * count,) * 2
    assert made.manifest.verification.batch_sizes == (1, 5)
    assert len(made.manifest.batchnorms) == count
    for each in made.manifest.batchnorms:
        scope = "" if each.source == "BatchNorm2d" else f"{each.source}."
        names = ("weight", "bias", "running_mean", "running_var")
        assert list(seen.norms[each.node].input[1:]) == [f"{scope}{name}" for name in names]
        for name, stored in zip(names, seen.tensors[each.node], strict=True):
            assert state[f"{scope}{name}"].numpy().tobytes() == stored.tobytes()
        assert np.float32(seen.momentum[each.node]) == np.float32(0.9)
        assert each.momentum == 0.1

    parameters = {name for name, _ in module.named_parameters()}
    roles = {each.source: each.role for each in made.manifest.tensors}
    assert {name for name, role in roles.items() if role is Role.LEARNED} == parameters
    assert {name for name, role in roles.items() if role is Role.STATISTIC} == {
        name for name, each in module.named_buffers() if each.is_floating_point()
    }
    totals = made.manifest.totals
    assert totals.trainable == sum(each.numel() for each in module.parameters())
    assert seen.float_elements == totals.trainable + totals.other
    assert {each.source.rpartition(".")[2] for each in made.manifest.not_exported} == {
        "num_batches_tracked"
    }


def test_shared_and_unused_layers(torch_fill: Any, read: Any, tmp_path: Path) -> None:
    made = export_torch(torch_fill(Shared()), tmp_path / "x.onnx", input_shape=(2, 3, 4, 4))
    seen = read(made.path)
    assert [each.node for each in made.manifest.batchnorms] == ["norm", "norm_1"]
    assert list(seen.norms["norm"].input[1:]) == list(seen.norms["norm_1"].input[1:])
    assert seen.norms["norm"].input[1] == "norm.weight"
    assert made.notes == ("BatchNorm 'unused' is not used by the forward pass",)
    left = {each.source: each.why for each in made.manifest.not_exported}
    assert left["unused.weight"] == "inference does not use it"
    assert "again.num_batches_tracked" not in left


def test_no_tensor_is_merged_where_all_values_are_equal(read: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    with torch.no_grad():
        module[0].bias.zero_()
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    seen = read(made.path)
    assert seen.float_elements == 12 + 2 * 12
    for path in ("1", "2"):
        assert list(seen.norms[path].input[1:]) == [
            f"{path}.{each}" for each in ("weight", "bias", "running_mean", "running_var")
        ]
    (conv,) = [node for node in seen.model.graph.node if node.op_type == "Conv"]
    assert list(conv.input[1:]) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(
    ("momentum", "written"), [(0.1, 0.9), (0.85, 0.15), (None, 1.0), (0.0, 1.0), (1.0, 0.0)]
)
def test_momentum_is_one_minus_torchs(
    momentum: float | None, written: float, read: Any, tmp_path: Path
) -> None:
    module = nn.BatchNorm2d(3, momentum=momentum, eps=1.25e-4)
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    seen = read(made.path)
    assert np.float32(seen.momentum["BatchNorm2d"]) == np.float32(written)
    assert np.float32(seen.epsilon["BatchNorm2d"]) == np.float32(1.25e-4)
    assert made.manifest.batchnorms[0].momentum == momentum


def test_absent_scale_and_bias_are_marked_synthetic(
    torch_fill: Any, read: Any, tmp_path: Path
) -> None:
    module = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    invented = [each for each in made.manifest.tensors if each.synthetic]
    (stored,) = read(made.path).tensors.values()
    assert len(invented) == 2
    assert (stored[0] == 1).all()
    assert (stored[1] == 0).all()


def test_what_normalises_by_the_batch_is_said(torch_fill: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    made = export_torch(torch_fill(module), tmp_path / "x.onnx", input_shape=Image)
    assert "track_running_stats=False" in made.notes[0]
    assert made.manifest.verification.of == 0


def test_an_instancenorm_is_no_batchnorm(torch_fill: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True))
    made = export_torch(torch_fill(module), tmp_path / "x.onnx", input_shape=Image)
    assert "that is no BatchNorm" in made.notes[0]
    assert made.manifest.batchnorms == ()


def test_batchnorms_in_branches(torch_fill: Any, tmp_path: Path) -> None:
    made = export_torch(torch_fill(Branches()), tmp_path / "x.onnx", input_shape=(3, 4))
    assert {each.source for each in made.manifest.batchnorms} == {"yes", "no"}
    assert (made.manifest.verification.bitwise, made.manifest.verification.of) == (8, 8)


def test_a_functional_batchnorm_has_statistics(tmp_path: Path) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("m", torch.full((4,), 0.5))
            self.register_buffer("v", torch.full((4,), 2.0))

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.batch_norm(x, self.m, self.v)

    made = export_torch(Functional(), tmp_path / "x.onnx", input_shape=(2, 4))
    roles = {each.name: each.role for each in made.manifest.tensors}
    assert roles["m"] == roles["v"] == Role.STATISTIC


def test_lazy_layers(tmp_path: Path) -> None:
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    assert made.manifest.verification.bitwise == 4


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrappers_are_taken_off(wrap: Any, tmp_path: Path) -> None:
    module = wrap(nn.Sequential(nn.BatchNorm2d(3)))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    assert [each.source for each in made.manifest.batchnorms] == ["0"]
    assert "wrapper" in made.notes[0]


class OwnBatch(nn.Module):
    def __init__(self, batch: int) -> None:
        super().__init__()
        self.norm, self.batch = nn.BatchNorm1d(4), batch

    def forward(self, x: Any) -> Any:
        return self.norm(x).reshape(self.batch * 4)


class CountedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        y = self.norm(x)
        return torch.stack([y[i] * i for i in range(int(x.shape[0]))])


@pytest.mark.parametrize(
    ("module", "batch"), [(OwnBatch(1), 1), (OwnBatch(2), 2), (CountedBatch(), 3)]
)
def test_a_batch_that_cannot_be_free_is_fixed(
    module: Any, batch: int, read: Any, tmp_path: Path
) -> None:
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(batch, 4))
    assert made.manifest.verification.batch_sizes == (batch,)
    assert f"the batch is fixed at {batch}" in made.notes[0]
    (given,) = read(made.path).model.graph.input
    assert given.type.tensor_type.shape.dim[0].dim_value == batch


def test_the_batch_is_free_where_it_can_be(run: Any, read: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.BatchNorm1d(3))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    (given,) = read(made.path).model.graph.input
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert run(made.path, {given.name: np.zeros((7, 3, 8, 8), "f4")})[0].shape == (7, 3)


class Changing(nn.Module):
    """Changes a buffer, uses the random generator, and is half in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.calls += 1
        torch.rand(1)
        return self.drop(self.norm(x))


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_left_as_it_was_found(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Changing()
    module.train()
    module.norm.eval()
    if fails:
        monkeypatch.setattr(
            torch.onnx, "export", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no"))
        )
    state = {name: each.clone() for name, each in module.state_dict().items()}
    flags, random = [each.training for each in module.modules()], torch.get_rng_state().clone()
    try:
        export_torch(module, tmp_path / "x.onnx", input_shape=(3, 4))
        assert not fails
    except UnreadableError:
        assert fails
    assert [each.training for each in module.modules()] == flags == [True, False, True]
    assert all(torch.equal(each, state[name]) for name, each in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert not module.norm._forward_pre_hooks


@pytest.mark.parametrize("opset", [18, 20, 22, None])
def test_the_opset_asked_for(opset: int | None, read: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    made = export_torch(module, tmp_path / "x.onnx", input_shape=Image, opset=opset)
    (version,) = [each.version for each in read(made.path).model.opset_import if not each.domain]
    assert version == made.opset == (opset or 18)


@pytest.mark.parametrize("opset", [17, 25])
def test_an_opset_out_of_range(opset: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose 18 to 24"):
        export_torch("x.py:f", tmp_path / "x.onnx", opset=opset)


class Failing(nn.Module):
    def forward(self, x: Any) -> Any:
        raise ValueError("no\nway")


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return torch.linalg.eigvals(self.norm(x)).real


class Training(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        self.norm.train()
        return self.norm(x)


def double() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()


def brain() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).bfloat16()


REFUSED: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "forward fails": (Failing, (3, 4), UnreadableError, "on its example input: ValueError: no"),
    "no operator": (Unsupported, (3, 4, 4), UnreadableError, "no ONNX form of the operator"),
    "training": (Training, (3, 4), UnreadableError, "puts BatchNorm 'norm' into training mode"),
    "double": (double, Image, RunError, "ONNX Runtime has no float64 form of some operators"),
    "bfloat16": (brain, Image, UnreadableError, "is bfloat16"),
    "wrong shape": (lambda: nn.BatchNorm2d(3), (1, 3), UnreadableError, "expected 4D input"),
    "no shape": (lambda: nn.BatchNorm2d(3), None, UsageError, "give --input-shape"),
    "empty shape": (lambda: nn.BatchNorm2d(3), (), UsageError, "the batch first"),
    "zero": (lambda: nn.BatchNorm2d(3), (0, 3, 4, 4), UsageError, "has an axis without elements"),
}


@pytest.mark.parametrize(("build", "shape", "kind", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_exported_is_said(
    build: Any, shape: Any, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        export_torch(build(), tmp_path / "x.onnx", input_shape=shape)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_example_that_is_no_tensor(tmp_path: Path) -> None:
    module = nn.BatchNorm2d(3)
    module.example_input_array = {"x": torch.zeros(1, 3, 4, 4)}
    with pytest.raises(UsageError, match="an example_input_array that is no tensor"):
        export_torch(module, tmp_path / "x.onnx")


def test_something_else_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a torch\.nn\.Module"):
        export_torch(object(), tmp_path / "x.onnx")  # type: ignore[arg-type]  # the point


def test_a_folded_batchnorm_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The exporter's own optimizer folds a BatchNorm into the convolution before it.
    plain = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda *args, **kw: plain(*args, **{**kw, "optimize": True})
    )
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    (tmp_path / "x.onnx").write_bytes(b"old")
    with pytest.raises(ExportDisagreesError, match="did not stay a BatchNormalization node"):
        export_torch(module, tmp_path / "x.onnx", input_shape=Image)
    assert (tmp_path / "x.onnx").read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["x.onnx"]


def test_nothing_of_the_machine_gets_into_the_file(tmp_path: Path, read: Any) -> None:
    made = export_torch(nn.Sequential(nn.BatchNorm2d(3)), tmp_path / "x.onnx", input_shape=Image)
    data = Path(made.path).read_bytes()
    assert b".py" not in data
    assert b"site-packages" not in data
    stored = {each.key: each.value for each in read(made.path).model.metadata_props}
    assert Manifest.from_json(stored[KEY]) == made.manifest


def test_recurrent_layers_keep_their_weights(torch_fill: Any, read: Any, tmp_path: Path) -> None:
    made = export_torch(torch_fill(Recurrent()), tmp_path / "x.onnx", input_shape=(1, 5, 4))
    assert {"lstm.weight_ih_l0", "lstm.bias_hh_l0"} <= set(read(made.path).arrays)


def test_progress_is_told_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    export_torch(nn.BatchNorm2d(3), tmp_path / "x.onnx", input_shape=Image, progress=told.append)
    assert told == [
        "loading PyTorch and the module",
        "running the module in PyTorch",
        "converting to ONNX",
        "verifying with ONNX Runtime",
    ]
    assert tuple(capfd.readouterr()) == ("", "")


class Dead(nn.Module):
    """A BatchNorm of which nothing reaches the output, and one of which one call of two does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.kept = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.dead, self.twice = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        self.dead(y)
        self.twice(y.relu())
        return self.twice(self.kept(y))


def test_what_reaches_no_output_is_left_out_and_said(tmp_path: Path) -> None:
    module = Dead()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.running_mean)
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(1, 3, 8, 8))
    assert sorted(each.source for each in made.manifest.batchnorms) == ["kept", "twice"]
    assert any("'dead' is computed and reaches no output" in each for each in made.notes)
    assert any("'twice' is called more often" in each for each in made.notes)


def test_a_folded_layer_is_not_taken_for_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an exporter would leave it that folds: the layer's tensors gone, the Conv's changed."""
    from inspector.export import torch_trace

    convert = torch_trace.convert_module

    def folding(*given: Any) -> Any:
        proto = convert(*given)
        (node,) = [each for each in proto.graph.node if each.op_type == "BatchNormalization"]
        for each in proto.graph.node:
            for position, name in enumerate(each.input):
                if name == node.output[0]:
                    each.input[position] = node.input[0]
        for each in proto.graph.output:
            if each.name == node.output[0]:
                each.name = node.input[0]
        proto.graph.node.remove(node)
        for each in proto.graph.initializer:
            if each.name == "0.weight":
                values = numpy_helper.to_array(each) * np.float32(1.5)
                each.CopyFrom(numpy_helper.from_array(values, each.name))
        return proto

    monkeypatch.setattr(torch_trace, "convert_module", folding)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ExportDisagreesError, match="did not stay a BatchNormalization node"):
        export_torch(module, tmp_path / "x.onnx", input_shape=(1, 3, 8, 8))


class Twice(nn.Module):
    """One tensor under several names, as heads for a loss and for users have it."""

    def forward(self, x: Any) -> Any:
        y = x.relu()
        return {"out": y, "logits": y, "more": y.contiguous()}


def test_an_output_that_is_given_out_again(tmp_path: Path, run: Any) -> None:
    made = export_torch(Twice(), tmp_path / "x.onnx", input_shape=(1, 3))
    x = np.float32([[1, -2, 3]])
    name = onnx.load(made.path).graph.input[0].name
    outputs = run(made.path, {name: x})
    assert len(outputs) == 3
    for each in outputs:
        np.testing.assert_array_equal(each, np.maximum(x, 0))


class Sized(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.relu(), x.shape[-1]


def test_an_output_that_is_no_tensor(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="gives an int among its outputs"):
        export_torch(Sized(), tmp_path / "x.onnx", input_shape=(1, 3))
