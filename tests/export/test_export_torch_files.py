from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch_checks import all_nodes, check_norms, copied, dims, norms_of, ran, same_outputs

from inspector.errors import ExportDisagreesError, UnreadableError, UsageError
from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn
from torch_scripts import Ifs, Net, Tied  # noqa: E402  # only where there is torch

IMAGE = (2, 3, 8, 8)


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return torch.cond(x.sum() > 0, lambda y: self.yes(y) * 1, lambda y: self.no(y) * 2, (x,))


def scripted(module: Any, _: Any) -> Any:
    return torch.jit.script(module)


def traced(module: Any, x: Any) -> Any:
    return torch.jit.trace(module, x)


def saved(made: Any, path: Path) -> Path:
    made.save(str(path))
    return path


@pytest.mark.parametrize("from_file", [False, True], ids=["live", "file"])
@pytest.mark.parametrize("fresh", [False, True], ids=["filled", "fresh"])
@pytest.mark.parametrize("make", [scripted, traced])
def test_torchscript(
    make: Any, fresh: bool, from_file: bool, torch_fill: Any, tmp_path: Path
) -> None:
    module = (Net() if fresh else torch_fill(Net())).eval()
    x = torch.randn(IMAGE)
    given = make(module, x)
    if from_file:
        given = str(saved(given, tmp_path / "net.pt"))
    made = export_torch(given, tmp_path / "x.onnx", input_shape=IMAGE)
    model = check_norms(made.path, norms_of(module), copied(module))
    assert made.manifest.verification is not None
    assert made.manifest.verification.batch_sizes == (1, 5)
    assert made.manifest.verification.of == 12
    names = {name for name in module.state_dict() if "num_batches" not in name}
    assert names <= {each.name for each in model.graph.initializer}
    assert dims(model.graph.input[0])[0] == dims(model.graph.output[0])[0] == "batch"
    same_outputs(made.path, module, torch.randn(3, 3, 8, 8))
    totals = made.manifest.totals
    assert totals.trainable == sum(each.numel() for each in module.parameters())
    assert not any("Identity" in each.op_type for each in model.graph.node)


def test_torchscript_in_training_mode_is_put_into_eval_and_back(
    torch_fill: Any, tmp_path: Path
) -> None:
    module = torch_fill(Net())
    script = torch.jit.script(module)
    script.bn.eval()
    state = copied(script)
    flags = [each.training for each in script.modules()]
    made = export_torch(script, tmp_path / "x.onnx", input_shape=IMAGE)
    check_norms(made.path, norms_of(module), state)
    assert flags == [each.training for each in script.modules()]
    assert flags[0]
    assert False in flags
    assert all(torch.equal(each, state[name]) for name, each in script.state_dict().items())


def test_torchscript_tied(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Tied()).eval()
    script = torch.jit.script(module)
    ids = torch.tensor([[1, 6, 3], [0, 2, 2]])
    made = export_torch(script, tmp_path / "x.onnx", example=(ids,))
    import onnx

    graph = onnx.load(made.path).graph
    names = [each.name for each in graph.initializer]
    assert names.count("table.weight") == 1
    assert "out.weight" not in names
    assert [n.name for n in graph.node if n.op_type == "BatchNormalization"] == ["norm", "norm_1"]
    assert made.manifest.totals.trainable == 28 + 8
    same_outputs(made.path, module, ids)


def test_torchscript_branches(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Ifs()).eval()
    made = export_torch(torch.jit.script(module), tmp_path / "x.onnx", input_shape=(3, 4))
    check_norms(made.path, norms_of(module), copied(module))
    x = torch.rand(5, 4)
    same_outputs(made.path, module, x)
    same_outputs(made.path, module, -x)


def test_torchscript_frozen_is_said(torch_fill: Any, tmp_path: Path) -> None:
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4, eps=1e-3)
    module = torch_fill(nn.Sequential(*layers)).eval()
    frozen = torch.jit.freeze(torch.jit.script(module))
    path = saved(frozen, tmp_path / "frozen.pt")
    made = export_torch(path, tmp_path / "x.onnx", input_shape=IMAGE)
    assert "is frozen" in made.notes[0]
    import onnx

    nodes = onnx.load(made.path).graph.node
    kept = [each for each in nodes if each.op_type == "BatchNormalization"]
    assert len(kept) == len(made.manifest.batchnorms) == 1
    assert made.manifest.verification is not None
    assert made.manifest.verification.of == 4
    same_outputs(made.path, module, torch.randn(IMAGE))


def test_torchscript_traced_in_training_mode(tmp_path: Path) -> None:
    given = torch.jit.trace(Net().train(), torch.randn(IMAGE), check_trace=False)
    with pytest.raises(UnreadableError, match="traced in training mode: BatchNorm 'bn'"):
        export_torch(given, tmp_path / "x.onnx", input_shape=IMAGE)


def test_torchscript_opsets(tmp_path: Path) -> None:
    script = torch.jit.script(Net().eval())
    with pytest.raises(UsageError, match="choose 18 to 23"):
        export_torch(script, tmp_path / "x.onnx", input_shape=IMAGE, opset=24)
    assert export_torch(script, tmp_path / "x.onnx", input_shape=IMAGE, opset=20).opset == 20


def program(module: Any, *args: Any, batch: bool = True, **given: Any) -> Any:
    axes = ({0: torch.export.Dim("n", min=1, max=64)},) if batch else None
    return torch.export.export(module, args, dynamic_shapes=axes, **given)


@pytest.mark.parametrize("from_file", [False, True], ids=["live", "file"])
@pytest.mark.parametrize("fresh", [False, True], ids=["filled", "fresh"])
@pytest.mark.parametrize("batch", [False, True], ids=["fixed", "free"])
def test_a_program(
    batch: bool, fresh: bool, from_file: bool, torch_fill: Any, tmp_path: Path
) -> None:
    module = (Net() if fresh else torch_fill(Net())).eval()
    given = program(module, torch.randn(IMAGE), batch=batch)
    if from_file:
        torch.export.save(given, tmp_path / "net.pt2")
        given = str(tmp_path / "net.pt2")
    made = export_torch(given, tmp_path / "x.onnx")
    model = check_norms(made.path, norms_of(module), copied(module))
    assert made.manifest.verification is not None
    assert made.manifest.verification.batch_sizes == ((1, 5) if batch else (2,))
    assert made.manifest.verification.of == 12
    assert dims(model.graph.input[0])[0] == ("batch" if batch else 2)
    same_outputs(made.path, module, torch.randn(3 if batch else 2, 3, 8, 8))


def test_a_decomposed_program(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Net()).eval()
    given = program(module, torch.randn(IMAGE)).run_decompositions()
    torch.export.save(given, tmp_path / "net.pt2")
    made = export_torch(tmp_path / "net.pt2", tmp_path / "x.onnx")
    check_norms(made.path, norms_of(module), copied(module))


def test_a_program_with_branches_and_one_with_tied_weights(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Branches()).eval()
    torch.export.save(program(module, torch.randn(3, 4)), tmp_path / "a.pt2")
    made = export_torch(tmp_path / "a.pt2", tmp_path / "x.onnx")
    check_norms(made.path, norms_of(module), copied(module))

    tied = torch_fill(Tied()).eval()
    ids = torch.tensor([[1, 6, 3], [0, 2, 2]])
    torch.export.save(program(tied, ids), tmp_path / "b.pt2")
    made = export_torch(tmp_path / "b.pt2", tmp_path / "y.onnx")
    import onnx

    graph = onnx.load(made.path).graph
    assert [each.name for each in graph.initializer].count("table.weight") == 1
    assert [n.name for n in graph.node if n.op_type == "BatchNormalization"] == ["norm", "norm_1"]
    assert made.manifest.totals.trainable == 28 + 8
    same_outputs(made.path, tied, ids)


def test_a_program_of_training_mode(tmp_path: Path) -> None:
    given = torch.export.export(Net().train(), (torch.randn(IMAGE),))
    with pytest.raises(UnreadableError, match="exported in training mode: BatchNorm 'bn'"):
        export_torch(given, tmp_path / "x.onnx")


def test_a_programs_axes_are_its_own(tmp_path: Path) -> None:
    given = program(Net().eval(), torch.randn(IMAGE))
    with pytest.raises(UsageError, match="were decided when it was exported"):
        export_torch(given, tmp_path / "x.onnx", dynamic=("batch",))


def rewritten(path: Path, change: Callable[[str, bytes], bytes], **added: bytes) -> Path:
    """The archive with its members changed."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
        for name, content in added.items():
            new.writestr(f"net/{name.replace('__', '/')}", content)
    return out


class Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["HARM"],)


def harmful() -> bytes:
    written = io.BytesIO()
    torch.save((Harm(),), written)
    return written.getvalue()


def in_graph(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        text = content.decode()
        assert old in text, text[:3000]
        return text.replace(old, new).encode()

    return change


def in_samples(name: str, content: bytes) -> bytes:
    return harmful() if name.endswith("sample_inputs/model.pt") else content


def in_weights(name: str, content: bytes) -> bytes:
    if name.endswith("model_weights_config.json"):
        config = json.loads(content)
        next(iter(config["config"].values()))["use_pickle"] = True
        return json.dumps(config).encode()
    return harmful() if name.endswith("weights/weight_0") else content


def in_old_pickle(name: str, content: bytes) -> bytes:
    """Protocol 0 begins like no archive and like no newer pickle."""
    if name.endswith("weights/weight_0"):
        return f"cos\nmkdir\n(V{os.environ['HARM']}\ntR.".encode()
    return in_weights(name, content)


def mkdir() -> str:
    return f"__import__('os').mkdir('{os.environ['HARM']}')"


HARMFUL: dict[str, Callable[[], Callable[[str, bytes], bytes]]] = {
    "sample inputs": lambda: in_samples,
    "weights": lambda: in_weights,
    "old pickle": lambda: in_old_pickle,
    "operator": lambda: in_graph('"torch.ops.aten.relu.default"', '"torch.os.mkdir"'),
    "namespace": lambda: in_graph('"torch.ops.aten.relu.default"', '"torch.ops.load_library"'),
    "dunder": lambda: in_graph('"torch.ops.aten.relu.default"', '"torch.ops.__class__.mro"'),
    "size": lambda: in_graph("Symbol('s", f"{mkdir()} + Symbol('s"),
    "name": lambda: in_graph('"relu"', json.dumps(f"a=({mkdir()})")),
    "container": lambda: in_graph(
        r"\"type\": \"builtins.dict\", \"context\": \"[]\"",
        r"\"type\": \"collections.defaultdict\", \"context\": \"{\\\"default_factory_module\\\": "
        r"\\\"os\\\"}\"",
    ),
}


@pytest.mark.parametrize("how", HARMFUL.values(), ids=HARMFUL.keys())
def test_a_program_that_would_run_code_is_refused(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.export.save(program(Net().eval(), torch.randn(IMAGE)), tmp_path / "net.pt2")
    path = rewritten(tmp_path / "net.pt2", how())
    with pytest.raises(UsageError) as caught:
        export_torch(path, tmp_path / "x.onnx", input_shape=IMAGE)
    assert "--unsafe" in str(caught.value)
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "x.onnx").exists()


def test_a_second_graph_of_the_same_name_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    path = tmp_path / "net.pt2"
    torch.export.save(program(Net().eval(), torch.randn(IMAGE)), path)
    name = "net/models/model.json"
    with zipfile.ZipFile(path) as archive:
        kept = {each: archive.read(each) for each in archive.namelist()}
    bad = in_graph("Symbol('s", f"{mkdir()} + Symbol('s")(name, kept[name])
    for other in (name, "net/MODELS/model.json", "net/models/model.jsox"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(other, bad)
            for each, content in kept.items():
                archive.writestr(each, content)
        with pytest.raises(UsageError, match="--unsafe"):
            export_torch(path, tmp_path / "x.onnx", input_shape=IMAGE)
    assert not (tmp_path / "harm").exists()


def test_the_harm_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.export.save(program(Net().eval(), torch.randn(IMAGE)), tmp_path / "net.pt2")
    path = rewritten(tmp_path / "net.pt2", in_samples)
    with pytest.raises(UnreadableError):
        export_torch(path, tmp_path / "x.onnx", input_shape=IMAGE, unsafe=True)
    assert (tmp_path / "harm").is_dir()


def test_guards_of_a_file_are_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.export.save(program(Net().eval(), torch.randn(IMAGE)), tmp_path / "net.pt2")
    guard = json.dumps([f"{mkdir()} is None"])
    path = rewritten(tmp_path / "net.pt2", in_graph('"guards_code": []', f'"guards_code": {guard}'))
    export_torch(path, tmp_path / "x.onnx")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("code", ["data/aotinductor/model/x.so", "data/constants/custom_obj_0"])
def test_compiled_code_is_refused(code: str, tmp_path: Path) -> None:
    torch.export.save(program(Net().eval(), torch.randn(IMAGE)), tmp_path / "net.pt2")
    path = rewritten(tmp_path / "net.pt2", lambda _, e: e, **{code.replace("/", "__"): b"x"})
    with pytest.raises(UsageError, match="--unsafe"):
        export_torch(path, tmp_path / "x.onnx")


def test_a_pickled_module_needs_unsafe(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    torch.save(module, tmp_path / "module.pt")
    with pytest.raises(UsageError, match="it can run any code"):
        export_torch(tmp_path / "module.pt", tmp_path / "x.onnx", input_shape=IMAGE)
    made = export_torch(str(tmp_path / "module.pt"), tmp_path / "x.onnx", input_shape=IMAGE,
                        unsafe=True)  # fmt: skip
    check_norms(made.path, norms_of(module), copied(module))


def written(kind: str, path: Path) -> None:
    if kind == "state dict":
        torch.save(Net().state_dict(), path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/y", b"")
    elif kind == "cut":
        torch.jit.script(Net()).save(str(path))
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "cut script":
        torch.jit.script(Net()).save(str(path))
        with zipfile.ZipFile(path) as archive:
            kept = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in kept.items():
                archive.writestr(name, content[: len(content) // 2])
    elif kind != "nothing":
        path.write_bytes(b"\x00nothing" * 9)


WRONG = {
    "state dict": ("x.pt", UsageError, "give the module as the source"),
    "zip": ("x.pt", UnreadableError, "PyTorch does not read it"),
    "zip program": ("x.pt2", UnreadableError, "torch.export.save"),
    "cut": ("x.pt", UnreadableError, "PyTorch does not read it"),
    "cut script": ("x.pt", UnreadableError, "PyTorch does not read this TorchScript"),
    "bytes": ("x.pt", UnreadableError, "PyTorch does not read it"),
    "nothing": ("x.pt", UnreadableError, "there is no such file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_are_no_source(kind: str, tmp_path: Path) -> None:
    name, expected, said = WRONG[kind]
    written(kind.removesuffix(" program"), tmp_path / name)
    with pytest.raises(expected) as caught:
        export_torch(str(tmp_path / name), tmp_path / "x.onnx", input_shape=IMAGE)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_go_to_no_file_that_has_them(tmp_path: Path) -> None:
    script = torch.jit.script(Net().eval())
    torch.save(Net().state_dict(), tmp_path / "w.pt")
    with pytest.raises(UsageError, match="has its weights already"):
        export_torch(script, tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)


def test_two_outputs_and_two_inputs_of_a_program(torch_fill: Any, tmp_path: Path) -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, a: Any, *, b: Any) -> Any:
            return {"x": self.norm(a) + b, "y": [self.norm(b)]}

    module = torch_fill(Several()).eval()
    dim = torch.export.Dim("n")
    args = (torch.randn(3, 4),), {"b": torch.randn(3, 4)}
    given = torch.export.export(module, *args, dynamic_shapes={"a": {0: dim}, "b": {0: dim}})
    torch.export.save(given, tmp_path / "net.pt2")
    made = export_torch(tmp_path / "net.pt2", tmp_path / "x.onnx")
    import onnx

    nodes = [n for n in all_nodes(onnx.load(made.path).graph) if n.op_type == "BatchNormalization"]
    assert len(nodes) == 2
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    got = ran(made.path, a.numpy(), b.numpy())
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got[1]), module.norm(b))


class Instance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, track_running_stats=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


@pytest.mark.parametrize("make", [traced, lambda m, x: torch.export.export(m, (x,))],
                         ids=["script", "program"])  # fmt: skip
def test_instancenorms_in_other_forms(make: Any, torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Instance()).eval()
    given = make(module, torch.randn(IMAGE))
    made = export_torch(given, tmp_path / "x.onnx", input_shape=IMAGE, dynamic=None)
    assert any("InstanceNorm 'norm'" in note for note in made.notes)
    assert made.manifest.batchnorms == ()


def test_no_statistics_in_other_forms(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval()
    for given in (torch.jit.script(module), program(module, torch.randn(IMAGE))):
        made = export_torch(given, tmp_path / "x.onnx", input_shape=IMAGE)
        assert any("track_running_stats=False" in note for note in made.notes)
        assert made.manifest.batchnorms == ()
    assert tuple(capfd.readouterr()) == ("", "")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_in_other_forms(dtype: Any, torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))).to(dtype).eval()
    x = torch.randn(3, 5).to(dtype)
    made = export_torch(program(module, x), tmp_path / "x.onnx")
    check_norms(made.path, norms_of(module), copied(module))
    if dtype == torch.float16:
        made = export_torch(torch.jit.script(module), tmp_path / "x.onnx", input_shape=(3, 5))
        check_norms(made.path, norms_of(module), copied(module))
    else:
        with pytest.raises(ExportDisagreesError, match="ONNX has epsilon as float32"):
            export_torch(torch.jit.script(module), tmp_path / "x.onnx", input_shape=(3, 5))


def test_a_layer_that_is_torchscript(tmp_path: Path) -> None:
    module = nn.Sequential(torch.jit.script(nn.BatchNorm2d(3).eval()), nn.ReLU())
    with pytest.raises(UnreadableError, match="layer '0' is TorchScript"):
        export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE)


def test_a_callable_that_gives_a_program(torch_fill: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n"
        "    return torch.export.export(nn.BatchNorm2d(3).eval(), (torch.ones(2, 3, 4, 4),))\n"
    )
    made = export_torch(f"{tmp_path / 'net.py'}:build", tmp_path / "x.onnx")
    assert made.manifest.verification is not None
    assert made.manifest.verification.of == 4
    assert [each.source for each in made.manifest.batchnorms] == ["BatchNorm"]
