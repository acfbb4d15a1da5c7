from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch_checks import check_norms, copied, norms_of, same_outputs

from inspector.errors import UnreadableError, UsageError
from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn
IMAGE = (2, 3, 8, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Any) -> Any:
        return self.model(self.bn(self.conv(x)).relu())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(7, 4), nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight
        self.example_input_array = torch.tensor([[1, 6, 3]])

    def forward(self, ids: Any) -> Any:
        return self.out(self.norm(self.table(ids).mean(1)))


def prefixed(state: Any, prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": each for name, each in state.items()}


SHAPES: dict[str, Callable[[Any], Any]] = {
    "state dict": lambda s: s,
    "ordered": OrderedDict,
    "module.": lambda s: prefixed(s, "module."),
    "_orig_mod.": lambda s: prefixed(s, "_orig_mod."),
    "both": lambda s: prefixed(s, "module._orig_mod."),
    "both, the other way": lambda s: prefixed(s, "_orig_mod.module."),
    "model.": lambda s: prefixed(s, "model."),
    "inside": lambda s: {n.replace("model.", "model._orig_mod."): e for n, e in s.items()},
    "lightning": lambda s: {
        "state_dict": prefixed(s, "model."),
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}],
    },
    "model": lambda s: {
        "model": s,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": torch.tensor(0.5)},
    "net": lambda s: {"net": prefixed(s, "module."), "acc": 0.5},
    "two, of which one fits": lambda s: {"generator": s, "critic": {"w.weight": torch.ones(2)}},
    "no steps": lambda s: {n: e for n, e in s.items() if "num_batches" not in n},
    "parameters": lambda s: {
        n: nn.Parameter(e) if e.is_floating_point() else e for n, e in s.items()
    },
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_weights_in_every_shape(shape: Any, torch_fill: Any, tmp_path: Path) -> None:
    source = torch_fill(Net())
    torch.save(shape(source.state_dict()), tmp_path / "w.pt")
    live = Net()
    before = copied(live)
    made = export_torch(live, tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)
    check_norms(made.path, norms_of(source), copied(source))
    same_outputs(made.path, source.eval(), torch.randn(IMAGE))
    assert all(torch.equal(each, before[name]) for name, each in live.state_dict().items())


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt", "safetensors"])
def test_weights_in_every_file(suffix: str, torch_fill: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source, path = torch_fill(Net()), tmp_path / f"w.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(source.state_dict(), path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3),"
        " nn.BatchNorm2d(4))\n"
    )
    plain = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    (save_file if suffix == "safetensors" else torch.save)(plain.state_dict(), path)
    made = export_torch(
        f"{tmp_path / 'net.py'}:build", tmp_path / "x.onnx", weights=str(path), input_shape=IMAGE
    )
    check_norms(made.path, norms_of(plain), copied(plain))


def test_what_was_taken_off_is_said(tmp_path: Path) -> None:
    torch.save({"ema": prefixed(Net().state_dict(), "module.")}, tmp_path / "w.pt")
    made = export_torch(Net(), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)
    assert made.notes == (
        "the weights are those under 'ema' of w.pt",
        "'module.' was taken off the weights' names",
    )


def test_one_name_of_tied_weights_is_enough(torch_fill: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_model

    source = torch_fill(Tied())
    save_model(source, str(tmp_path / "w.safetensors"))
    made = export_torch(Tied(), tmp_path / "x.onnx", weights=tmp_path / "w.safetensors")
    same_outputs(made.path, source.eval(), source.example_input_array)


def test_wrapped_modules_and_other_dtypes(torch_fill: Any, tmp_path: Path) -> None:
    source = torch_fill(Net()).half()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    made = export_torch(
        nn.DataParallel(Net()), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE
    )
    assert "weights of float16 were written as the module's float32" in made.notes
    check_norms(made.path, norms_of(source), copied(source.float()))


def test_lazy_layers_and_meta_modules_take_weights(torch_fill: Any, tmp_path: Path) -> None:
    source = torch_fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    torch.save(source.state_dict(), tmp_path / "w.pt")
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef lazy():\n"
        "    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())\n\n\ndef meta():\n"
        "    with torch.device('meta'):\n"
        "        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))\n"
    )
    for name in ("lazy", "meta"):
        made = export_torch(
            f"{tmp_path / 'net.py'}:{name}",
            tmp_path / "x.onnx",
            weights=tmp_path / "w.pt",
            input_shape=IMAGE,
        )
        check_norms(made.path, norms_of(source), copied(source))


def test_a_module_without_values_needs_weights(tmp_path: Path) -> None:
    module = nn.BatchNorm2d(3, device="meta")
    with pytest.raises(UsageError, match="--weights"):
        export_torch(module, tmp_path / "x.onnx", input_shape=IMAGE)


def changed(state: Any, **other: Any) -> Any:
    return {**state, **{name.replace("__", "."): each for name, each in other.items()}}


WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "missing": (
        lambda s: {n: e for n, e in s.items() if not n.startswith("bn.")},
        UnreadableError,
        "4 of the module's tensors missing (bn.weight, bn.bias, bn.running_mean, …)",
    ),
    "unexpected": (
        lambda s: changed(s, more__weight=torch.ones(3)),
        UnreadableError,
        "1 of its tensors not the module's (more.weight)",
    ),
    "shape": (
        lambda s: changed(s, conv__weight=torch.ones(8, 3, 3, 3)),
        UnreadableError,
        "1 of another shape (conv.weight is [8, 3, 3, 3] and not [4, 3, 3, 3])",
    ),
    "another": (
        lambda _: nn.Linear(3, 3).state_dict(),
        UnreadableError,
        "12 of the module's tensors missing",
    ),
    "ambiguous": (
        lambda s: {"model": s, "ema": s, "epoch": 1},
        UsageError,
        "several sets of weights that fit alike: 'model' and 'ema'",
    ),
    "empty": (lambda _: {"epoch": 3}, UnreadableError, "it holds no state dict"),
    "a list": (lambda s: list(s.values()), UnreadableError, "it holds no state dict"),
}


@pytest.mark.parametrize(("change", "kind", "said"), WRONG.values(), ids=WRONG.keys())
def test_weights_that_do_not_fit(change: Any, kind: Any, said: str, tmp_path: Path) -> None:
    torch.save(change(Net().state_dict()), tmp_path / "w.pt")
    with pytest.raises(kind) as caught:
        export_torch(Net(), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)
    assert said in str(caught.value)
    assert str(tmp_path / "w.pt") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.onnx").exists()


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_code_in_weights_is_not_run(tmp_path: Path) -> None:
    content = {"state_dict": Net().state_dict(), "harm": Harm(tmp_path / "harm")}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="it can run any code"):
        export_torch(Net(), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)
    assert not (tmp_path / "harm").exists()
    export_torch(
        Net(), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE, unsafe=True
    )
    assert (tmp_path / "harm").exists()


def test_a_pickled_module_as_weights(torch_fill: Any, tmp_path: Path) -> None:
    source = torch_fill(Net())
    torch.save({"model": source}, tmp_path / "w.pt")
    with pytest.raises(UsageError, match="--unsafe"):
        export_torch(Net(), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)
    made = export_torch(
        Net(), tmp_path / "x.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE, unsafe=True
    )
    check_norms(made.path, norms_of(source), copied(source))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.ckpt"])
@pytest.mark.parametrize("content", [b"", b"nothing at all", b"\x80\x02}q\x00."])
def test_broken_files(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        export_torch(Net(), tmp_path / "x.onnx", weights=tmp_path / name, input_shape=IMAGE)
    assert "\n" not in str(caught.value)
    with pytest.raises(UnreadableError, match="there is no such file"):
        export_torch(Net(), tmp_path / "x.onnx", weights=tmp_path / "no.pt", input_shape=IMAGE)


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64], ids=str)
def test_weights_that_are_no_real_numbers(dtype: Any, tmp_path: Path) -> None:
    state = Net().state_dict()
    torch.save({**state, "conv.weight": state["conv.weight"].to(dtype)}, tmp_path / "w.pt")
    with pytest.raises(UnreadableError, match=r"conv\.weight is \w+ and not float32"):
        export_torch(Net(), tmp_path / "m.onnx", weights=tmp_path / "w.pt", input_shape=IMAGE)
