from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch_checks import check_norms, copied, dims, norms_of, ran, same_outputs

from inspector.errors import UnreadableError, UsageError
from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.table = nn.BatchNorm1d(4), nn.Embedding(9, 4)

    def forward(self, x: Any, ids: Any, scale: Any = None, *, shift: Any = None) -> Any:
        y = self.norm(x) + self.table(ids)
        y = y if scale is None else y * scale
        return y if shift is None else y + shift


class Many(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, first: Any, *rest: Any) -> Any:
        return self.norm(first) + sum(rest)


X = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
IDS = np.array([8, 1, 7])


def in_file(**arrays: Any) -> Callable[[Path], Any]:
    def write(folder: Path) -> Path:
        np.savez(folder / "in.npz", **arrays)
        return folder / "in.npz"

    return write


def unnamed(folder: Path) -> str:
    np.savez(folder / "in.npz", X, IDS)
    return str(folder / "in.npz")


EXAMPLES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "by name": (in_file(ids=IDS, x=X), ["x", "ids"]),
    "in order": (unnamed, ["x", "ids"]),
    "by other names": (in_file(a=X, b=IDS), ["x", "ids"]),
    "with a gap": (in_file(x=X, ids=IDS, shift=X), ["x", "ids", "shift"]),
    "arrays": (lambda _: (X, IDS), ["x", "ids"]),
    "tensors": (lambda _: (torch.from_numpy(X), torch.from_numpy(IDS)), ["x", "ids"]),
    "mapping": (lambda _: {"ids": IDS, "x": X, "scale": X}, ["x", "ids", "scale"]),
    "mapping, keywords": (lambda _: {"shift": X, "ids": IDS, "x": X}, ["x", "ids", "shift"]),
    "float64": (in_file(x=X.astype("f8"), ids=IDS), ["x", "ids"]),
}


@pytest.mark.parametrize(("give", "names"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples(give: Any, names: list[str], torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Two())
    made = export_torch(module, tmp_path / "x.onnx", example=give(tmp_path))
    model = check_norms(made.path, norms_of(module), copied(module))
    assert [each.name for each in model.graph.input] == names
    assert made.manifest.verification is not None
    assert made.manifest.verification.batch_sizes == (1, 5)
    given = {"x": X[[0, 2]], "ids": IDS[[0, 2]], "scale": X[:2], "shift": X[1:]}
    with torch.no_grad():
        expected = module.eval()(**{name: torch.from_numpy(given[name]) for name in names})
    (got,) = ran(made.path, *(given[name] for name in names))
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_float64_examples_are_converted_and_that_is_said(tmp_path: Path) -> None:
    given = tmp_path / "in.npy"
    np.save(given, X.astype("f8"))
    made = export_torch(nn.BatchNorm1d(4), tmp_path / "x.onnx", example=str(given))
    assert made.notes == ("the example's float64 was taken as the module's float32",)


def test_any_number_of_inputs(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Many())
    made = export_torch(module, tmp_path / "x.onnx", input_shape=[(3, 4)] * 3)
    x = torch.randn(2, 4)
    same_outputs(made.path, module.eval(), x, x * 2, x * 3)


def test_several_shapes(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Many())
    made = export_torch(module, tmp_path / "x.onnx", input_shape=((1, 4), (1, 4)))
    assert [dims(each) for each in onnx.load(made.path).graph.input] == [["batch", 4]] * 2
    made = export_torch(module, tmp_path / "x.onnx", input_shape=[[2, 4], [1, 1]], dynamic=())
    assert [dims(each) for each in onnx.load(made.path).graph.input] == [[2, 4], [1, 1]]


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)

    def forward(self, x: Any) -> Any:
        return self.bn(self.conv(x)).relu()


@pytest.mark.parametrize("batch", [1, 2])
def test_free_height_and_width(batch: int, torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Image()).eval()
    free = ("batch", "height", "width")
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(batch, 3, 8, 8), dynamic=free)
    model = check_norms(made.path, norms_of(module), copied(module))
    assert dims(model.graph.input[0]) == ["batch", 3, "height", "width"]
    out = dims(model.graph.output[0])
    assert out[:2] == ["batch", 4]
    assert "height" in str(out[2])
    assert "width" in str(out[3])
    for shape in [(1, 3, 8, 8), (3, 3, 17, 5), (2, 3, 64, 33), (1, 3, 2, 2)]:
        same_outputs(made.path, module, torch.randn(shape))


def test_height_alone(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Image()).eval()
    made = export_torch(module, tmp_path / "x.onnx", input_shape=(2, 3, 8, 8), dynamic=("height",))
    model = onnx.load(made.path)
    assert dims(model.graph.input[0]) == [2, 3, "height", 8]
    same_outputs(made.path, module, torch.randn(2, 3, 31, 8))
    assert made.manifest.verification is not None
    assert made.manifest.verification.batch_sizes == (2,)


def test_an_axis_by_number(torch_fill: Any, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4))
    made = export_torch(
        torch_fill(module),
        tmp_path / "x.onnx",
        example=np.array([[3, 1, 4]]),
        dynamic=("batch", "tokens=1"),
    )
    assert dims(onnx.load(made.path).graph.input[0]) == ["batch", "tokens"]
    same_outputs(made.path, module.eval(), torch.tensor([[1, 2, 3, 4, 5], [8, 8, 8, 8, 8]]))


def test_nothing_free(tmp_path: Path) -> None:
    made = export_torch(Image(), tmp_path / "x.onnx", input_shape=(2, 3, 8, 8), dynamic=())
    assert dims(onnx.load(made.path).graph.input[0]) == [2, 3, 8, 8]
    assert made.notes == ()


class Positions(nn.Module):
    """Takes sequences of up to 16."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.norm = nn.Parameter(torch.randn(16, 4)), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        if x.shape[1] > 16:
            raise ValueError("too long")
        return self.norm((x + self.where[: x.shape[1]]).mean(1))


def test_lengths_that_the_module_does_not_take_are_said(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Positions()).eval()
    made = export_torch(
        module, tmp_path / "x.onnx", input_shape=(1, 6, 4), dynamic=("batch", "length=1")
    )
    assert "verified at length 12: the module does not take every length" in made.notes[-1]
    same_outputs(made.path, module, torch.randn(3, 9, 4))


class Batched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return self.norm(x).reshape(12)


@pytest.mark.parametrize("verify", [False, True])
def test_a_batch_that_is_fixed_by_the_module(verify: bool, tmp_path: Path) -> None:
    made = export_torch(Batched(), tmp_path / "x.onnx", input_shape=(3, 4), verify=verify)
    assert made.notes == ("the batch is fixed at 3: the module does not export with another",)
    assert dims(onnx.load(made.path).graph.input[0]) == [3, 4]


def test_a_height_that_is_fixed_is_refused_without_verification_too(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="axis 'height' cannot be free"):
        export_torch(
            Flat(), tmp_path / "x.onnx", input_shape=(2, 3, 8, 8), dynamic=("height",), verify=False
        )


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(192, 4), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return self.norm(self.fc(x.flatten(1)))


def no_file(_: Path) -> Any:
    return {"example": "nothing.npz"}


def pickled(folder: Path) -> Any:
    np.save(folder / "in.npy", np.array([{}, 1], object), allow_pickle=True)
    return {"example": folder / "in.npy"}


def text(folder: Path) -> Any:
    (folder / "in.npz").write_text("no")
    return {"example": folder / "in.npz"}


IMAGE = (2, 3, 8, 8)
REFUSED: dict[str, tuple[Callable[[], Any], Callable[[Path], Any], type[Exception], str]] = {
    "fixed by a layer": (
        Flat,
        lambda _: {"input_shape": IMAGE, "dynamic": ("batch", "height")},
        UnreadableError,
        "axis 'height' cannot be free: forward() is made for 8",
    ),
    "fixed batch": (
        Batched,
        lambda _: {"input_shape": (3, 4), "dynamic": ("batch",)},
        UnreadableError,
        "axis 'batch' cannot be free: forward() is made for 3",
    ),
    "no such axis": (
        Flat,
        lambda _: {"input_shape": IMAGE, "dynamic": ("depth",)},
        UsageError,
        "no input has an axis 'depth'",
    ),
    "no such input": (
        Two,
        lambda _: {"example": {"y": X}},
        UsageError,
        "forward() takes no input 'y'",
    ),
    "too many": (
        Image,
        lambda _: {"example": (X, X)},
        UsageError,
        "takes 1 input and the example has 2",
    ),
    "no tensor": (Image, lambda _: {"example": ("x",)}, UsageError, "holds a str"),
    "no file": (Image, no_file, UnreadableError, "there is no such file"),
    "pickled": (Image, pickled, UnreadableError, "no .npz or .npy file of plain arrays"),
    "text": (Image, text, UnreadableError, "no .npz or .npy file of plain arrays"),
    "both": (
        Image,
        lambda _: {"example": X, "input_shape": (1, 3, 8, 8)},
        UsageError,
        "give one of them",
    ),
    "images for ids": (
        lambda: nn.Embedding(4, 4),
        lambda _: {"input_shape": (2, 3)},
        UnreadableError,
        "need an --example",
    ),
}


@pytest.mark.parametrize(("build", "give", "kind", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_inputs_that_cannot_be(build: Any, give: Any, kind: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(kind) as caught:
        export_torch(build(), tmp_path / "x.onnx", **give(tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.onnx").exists()


def test_torchscript_with_free_lengths_and_two_inputs(torch_fill: Any, tmp_path: Path) -> None:
    module = torch_fill(Image()).eval()
    given = torch.jit.trace(module, torch.randn(1, 3, 8, 8))
    made = export_torch(
        given, tmp_path / "x.onnx", input_shape=(1, 3, 8, 8), dynamic=("batch", "height", "width")
    )
    assert dims(onnx.load(made.path).graph.input[0]) == ["batch", 3, "height", "width"]
    same_outputs(made.path, module, torch.randn(3, 3, 21, 9))
    many = torch_fill(Many()).eval()

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.many = many

        def forward(self, a: Any, b: Any) -> Any:
            return self.many(a, b)

    given = torch.jit.trace(Pair().eval(), (torch.randn(2, 4), torch.randn(2, 4)))
    made = export_torch(given, tmp_path / "y.onnx", input_shape=((2, 4), (2, 4)))
    same_outputs(made.path, many, torch.randn(3, 4), torch.randn(3, 4))
