"""Networks as the frameworks' own exporters write them, each of them in several ways.

    python scripts/pairs/exports.py FOLDER SEED

Files are `<network>-<way>.onnx`; all of one network are one function, by construction: one module
exported several times, or Keras' weights carried over. Runs in a process of its own, since
frameworks are large, print and leave threads behind. What is not installed is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NHWC = "nhwc"
"""Ends the name of a way that has its images channels last."""

DONE = "done.txt"


def written(folder: Path, seed: int) -> str:
    """Export into a folder, unless it was done; says in words what there is."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / DONE
    if not mark.exists() or mark.read_text() != str(seed):
        command = [sys.executable, str(Path(__file__).resolve()), str(folder), str(seed)]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        if ran.returncode == 0:
            mark.write_text(str(seed))
        else:
            return f"exports failed: {ran.stderr.strip()[-300:]}"
    found = sorted(each.stem for each in folder.glob("*.onnx"))
    missing = (folder / "missing.txt").read_text().strip() if _has_missing(folder) else ""
    return f"{len(found)} exports in {folder}" + (f"; left out: {missing}" if missing else "")


def _has_missing(folder: Path) -> bool:
    return (folder / "missing.txt").exists()


# --- PyTorch


def _modules(seed: int) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Small modules with statistics that are not a fresh layer's, and an input's shape."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    class Residual(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(y)) + x)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 4)
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
            a = torch.softmax(q @ k.transpose(-2, -1) / 8**0.5, dim=-1)
            return self.last(nn.functional.gelu(x + self.out(a @ v)).mean(dim=1))

    def relu6(into: int, out: int, **options: Any) -> list[Any]:
        conv = nn.Conv2d(into, out, 3, padding=1, bias=False, **options)
        return [conv, nn.BatchNorm2d(out), nn.ReLU6()]

    yield (
        "torch_cnn",
        nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(6, eps=1e-3),
            nn.Flatten(),
            nn.Linear(6 * 64, 10),
            nn.ReLU(),
            nn.Linear(10, 5),
            nn.Softmax(dim=1),
        ),
        (1, 8, 8),
    )
    yield (
        "torch_resnet",
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            Residual(8),
            Residual(8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        ),
        (3, 12, 12),
    )
    yield (
        "torch_mobile",
        nn.Sequential(
            *relu6(3, 8, stride=2),
            *relu6(8, 8, groups=8),
            nn.Conv2d(8, 12, 1),
            nn.BatchNorm2d(12),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(12, 5),
        ),
        (3, 12, 12),
    )
    yield (
        "torch_table",
        nn.Sequential(
            nn.Linear(10, 12),
            nn.BatchNorm1d(12),
            nn.LeakyReLU(0.1),
            nn.Linear(12, 12),
            nn.BatchNorm1d(12),
            nn.Sigmoid(),
            nn.Linear(12, 3),
        ),
        (10,),
    )
    yield (
        "torch_decoder",
        nn.Sequential(
            nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(6, 3, 3, padding=1),
            nn.Tanh(),
        ),
        (4, 4, 4),
    )
    yield "torch_attention", Attention(), (6, 8)


def _settled(module: Any) -> Any:
    import torch

    for name, values in module.state_dict().items():
        if name.endswith("running_mean"):
            values.normal_(0, 0.3)
        elif name.endswith("running_var"):
            values.uniform_(0.3, 2.0)
    for each in module.modules():
        if isinstance(each, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            each.weight.data.uniform_(0.5, 1.5)
            each.bias.data.normal_(0, 0.3)
    return module.eval()


def _torch_ways(
    module: Any, shape: tuple[int, ...]
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    import torch

    example = (torch.zeros(2, *shape),)
    batch = {0: torch.export.Dim("batch", min=1)}

    def dynamo(optimise: bool) -> Callable[[Path], None]:
        return lambda path: torch.onnx.export(
            module,
            example,
            path,
            dynamo=True,
            optimize=optimise,
            external_data=False,
            dynamic_shapes=(batch,),
            verbose=False,
        )

    def script(training: Any) -> Callable[[Path], None]:
        return lambda path: torch.onnx.export(
            module,
            example,
            path,
            dynamo=False,
            training=training,
            opset_version=17,
            dynamic_axes={"image": {0: "batch"}},
            input_names=["image"],
        )

    yield "dynamo", dynamo(True)
    yield "raw", dynamo(False)
    yield "script", script(torch.onnx.TrainingMode.EVAL)
    yield "kept", script(torch.onnx.TrainingMode.PRESERVE)


# --- Keras, and the same in PyTorch


def _keras(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "models"))
    import keras_cnn
    import numpy as np
    import torch_cnn

    model = keras_cnn.small()
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # the exporter wants it called once
    model.export(folder / f"keras_cnn-stock-{NHWC}.onnx", format="onnx", verbose=False)
    module = torch_cnn.small_matched()
    for way, export in _torch_ways(module, tuple(module.example_input_array.shape[1:])):
        export(folder / f"keras_cnn-{way}.onnx")


def main(folder: Path, seed: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    missing = []
    try:
        for name, module, shape in _modules(seed):
            for way, export in _torch_ways(_settled(module), shape):
                missing += _tried(f"{name}-{way}", lambda p, e=export: e(p), folder)  # type: ignore[misc]  # a default binds it
    except ImportError as error:
        missing.append(str(error))
    missing += _tried("keras_cnn", lambda path: _keras(folder), folder)
    (folder / "missing.txt").write_text("; ".join(missing))


def _tried(name: str, export: Callable[[Path], None], folder: Path) -> list[str]:
    path = folder / f"{name}.onnx"
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export(path)
        except Exception as error:  # noqa: BLE001  # whatever an exporter throws: it is left out
            path.unlink(missing_ok=True)
            return [f"{name} ({type(error).__name__}: {str(error)[:80]})"]
    return []


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
