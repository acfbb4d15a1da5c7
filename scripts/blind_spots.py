"""Seven faults in one exported network: what each tool says of them.

    python scripts/blind_spots.py [--onnx-doctor COMMAND] [--keep FOLDER]

A network of two Conv-BatchNorm-ReLU blocks is exported with its BatchNorms kept (it needs torch),
and each fault is put into a copy of it. Whatever `bninspect check` finds in the sound network as
well is left out. Exits with 1 where it misses a fault.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

SIZE = 16
SHOWN = 66


def sound(folder: Path) -> ModelProto:
    """The network as bninspect exports it, with statistics as training leaves them."""
    from inspector import export_torch

    path = folder / "sound.onnx"
    export_torch(_network(), path, example=_example())
    model = onnx.load(path)
    _integers_as_nodes(model)
    onnx.save(model, path)
    return model


def _integers_as_nodes(model: ModelProto) -> None:
    """Axes and shapes as Constant nodes, as some exporters write them: no initializers."""
    graph = model.graph
    whole = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT64]
    for tensor in whole:
        graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    kept = [each for each in graph.initializer if each not in whole]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _network() -> object:
    import torch
    from torch import nn

    class Pooled(nn.Module):
        """Axes of a reduction are what ONNX stores as integers."""

        def __init__(self) -> None:
            super().__init__()
            blocks = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()]
            blocks += [nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
            self.body = nn.Sequential(*blocks)
            self.head = nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(x).amax(dim=(2, 3)))

    torch.manual_seed(0)
    net = Pooled()
    for each in net.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.bias, std=0.2)
            nn.init.normal_(each.running_mean, std=0.2)
            nn.init.uniform_(each.running_var, 0.5, 1.5)
    return net.eval()


def _example() -> object:
    import torch

    return (torch.zeros(1, 3, SIZE, SIZE),)


def _norm(model: ModelProto) -> NodeProto:
    return next(each for each in model.graph.node if each.op_type == "BatchNormalization")


def _change(model: ModelProto, position: int, change: Callable[[np.ndarray], object]) -> None:
    """Change the values of one of a BatchNorm's parameters."""
    name = _norm(model).input[position]
    tensor = next(each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def training_mode(model: ModelProto, folder: Path) -> None:
    node = _norm(model)
    kept = [each for each in node.attribute if each.name != "training_mode"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("training_mode", 1)])
    # ONNX Runtime takes it with all of its outputs alone.
    node.output.extend([f"{node.output[0]}_mean", f"{node.output[0]}_var"])


def not_a_number(model: ModelProto, folder: Path) -> None:
    _change(model, 3, lambda mean: mean.put(2, np.nan))


def negative_variance(model: ModelProto, folder: Path) -> None:
    _change(model, 4, lambda var: var.put(2, -0.5))


def untouched_statistics(model: ModelProto, folder: Path) -> None:
    _change(model, 3, lambda mean: mean.fill(0))
    _change(model, 4, lambda var: var.fill(1))


def folded(model: ModelProto, folder: Path) -> None:
    """The same network as torch's own exporter writes it."""
    import torch

    path = folder / "stock.onnx"
    torch.onnx.export(_network(), _example(), path, dynamo=False, verbose=False)
    model.CopyFrom(onnx.load(path))


def integer_axes(model: ModelProto, folder: Path) -> None:
    """Axes as the operators of opset 18 take them: stored beside the weights."""
    graph = model.graph
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].t.data_type == onnx.TensorProto.INT64:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    made = {each.name for each in graph.initializer}
    kept = [each for each in graph.node if each.op_type != "Constant" or each.output[0] not in made]
    del graph.node[:]
    graph.node.extend(kept)


def shared_statistics(model: ModelProto, folder: Path) -> None:
    """Mean and variance are one tensor, as a wrong deduplication leaves them."""
    node = _norm(model)
    node.input[3] = node.input[4]


FAULTS = {
    "training mode": (training_mode, "BN001"),
    "NaN in the mean": (not_a_number, "BN010"),
    "negative variance": (negative_variance, "BN011"),
    "untouched statistics": (untouched_statistics, "BN015"),
    "folded": (folded, "BN031"),
    "int64 axes": (integer_axes, "BN060"),
    "mean and var are one": (shared_statistics, "BN019"),
}


def checked(path: Path) -> list[tuple[str, str, str]]:
    """Code, severity and message of what `bninspect check` finds."""
    command = [sys.executable, "-m", "inspector", "check", str(path), "--format", "json"]
    done = subprocess.run([*command, "--isolated"], capture_output=True, text=True, check=False)
    files = json.loads(done.stdout)["files"]
    return [(e["rule"], e["severity"], e["message"]) for f in files for e in f["findings"]]


def says_checker(path: Path) -> str:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # noqa: BLE001  # whatever it says is printed
        return str(error).splitlines()[0]
    return "passes"


def says_runtime(path: Path) -> str:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        x = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE), np.float32)
        out = session.run(None, {name: x})[0]
    except Exception as error:  # noqa: BLE001  # whatever it says is printed
        return str(error).splitlines()[0]
    return f"runs; {np.isnan(out).sum()} of {out.size} outputs are NaN, and no word of it"


def says_doctor(path: Path, command: str) -> str:
    done = subprocess.run(
        [*shlex.split(command), "check", str(path)], capture_output=True, text=True, check=False
    )
    lines = [each.strip() for each in (done.stdout + done.stderr).splitlines() if each.strip()]
    return f"exit {done.returncode}: {lines[-1] if lines else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--onnx-doctor", help="how to start it; left out where not given")
    parser.add_argument("--keep", type=Path, help="a folder for the models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return report(folder, options.onnx_doctor)


def report(folder: Path, doctor: str | None) -> int:
    base = sound(folder)
    ordinary = {(rule, message) for rule, _, message in checked(folder / "sound.onnx")}
    missed = 0
    for name, (put, wanted) in FAULTS.items():
        model = ModelProto.FromString(base.SerializeToString())
        put(model, folder)
        path = folder / f"{name.replace(' ', '_')}.onnx"
        onnx.save(model, path)
        found = [each for each in checked(path) if (each[0], each[2]) not in ordinary]
        hit = any(rule == wanted for rule, _, _ in found)
        missed += not hit
        print(f"\n{name}")
        for rule, severity, message in found:
            _say(f"bninspect {rule} {severity}", message)
        if not hit:
            _say("bninspect", f"MISSED: {wanted} is not found")
        _say("onnx.checker", says_checker(path))
        _say("ONNX Runtime", says_runtime(path))
        if doctor:
            _say("onnx-doctor", says_doctor(path, doctor))
    print(f"\n{len(FAULTS) - missed} of {len(FAULTS)} found")
    return int(missed > 0)


def _say(who: str, words: str) -> None:
    print(f"  {who:24} {words if len(words) <= SHOWN else words[: SHOWN - 1] + '…'}")


if __name__ == "__main__":
    sys.exit(main())
