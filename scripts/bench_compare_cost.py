"""What comparing two networks of ResNet-50's size costs, in bare sessions of ONNX Runtime.

    python scripts/bench_compare_cost.py [--runs 3] [--polygraphy COMMAND]

The floor is a process that loads the two models once each and runs them as often as `compare` runs
them, on the same inputs: reading, pairing, comparing graphs and weights, measuring rounding with
graph optimisation off as well, and starting another process come on top in ours. Commands take
turns, and medians are compared.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LIMIT = 1.3
"""Times the floor that comparing may take."""

MEMORY = 1_000_000_000
"""Bytes that localising may take."""

BLOCKS = (3, 4, 6, 3)
SIZE = 224

BARE = f"""
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
rng = np.random.default_rng(0)
for rows, path in (sys.argv[1:3], sys.argv[3:5]):
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for count in rows.split(","):
        image = rng.standard_normal((int(count), 3, {SIZE}, {SIZE})).astype(np.float32)
        session.run(None, {{session.get_inputs()[0].name: image}})
"""


class _Net:
    """ResNet-50 (https://arxiv.org/abs/1512.03385) with random weights that keep its scale."""

    def __init__(self, *, folded: bool, prefix: str) -> None:
        self._rng = np.random.default_rng(0)
        self._folded = folded
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        x = self._add("Relu", self._conv("x", 3, 64, 7, 2))
        x = self._add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        channels = 64
        for stage, blocks in enumerate(BLOCKS):
            width = 64 * 2**stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                y = self._add("Relu", self._conv(x, channels, width, 1, 1))
                y = self._add("Relu", self._conv(y, width, width, 3, stride))
                y = self._conv(y, width, 4 * width, 1, 1, gain=0.3)
                if not block:
                    x = self._conv(x, channels, 4 * width, 1, stride)
                channels = 4 * width
                x = self._add("Relu", self._add("Add", y, x))
        x = self._add("Flatten", self._add("GlobalAveragePool", x))
        kernel = self._store((1000, channels), channels**-0.5)
        self._nodes.append(
            helper.make_node("Gemm", [x, kernel, self._store((1000,), 0.1)], ["y"], transB=1)
        )
        shapes = [("x", ["N", 3, SIZE, SIZE]), ("y", ["N", 1000])]
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes]
        graph = helper.make_graph(self._nodes, "net", ends[:1], ends[1:], self._tensors)
        opsets = [helper.make_opsetid("", 17)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def _conv(
        self, x: str, inputs: int, outputs: int, size: int, stride: int, gain: float = 1.0
    ) -> str:
        rng = self._rng
        kernel = rng.standard_normal((outputs, inputs, size, size), np.float32)
        kernel *= (2 / (inputs * size * size)) ** 0.5
        scale = (gain * rng.uniform(0.8, 1.2, outputs)).astype(np.float32)
        bias, mean = (0.1 * rng.standard_normal(outputs, np.float32) for _ in range(2))
        var = rng.uniform(0.8, 1.2, outputs).astype(np.float32)
        pads = [size // 2] * 4
        if self._folded:
            slope = scale / np.sqrt(var + np.float32(1e-5))
            stored = [
                self._put(kernel * slope[:, None, None, None]),
                self._put(bias - mean * slope),
            ]
            return self._add("Conv", x, *stored, strides=[stride] * 2, pads=pads)
        y = self._add("Conv", x, self._put(kernel), strides=[stride] * 2, pads=pads)
        stored = [self._put(each) for each in (scale, bias, mean, var)]
        return self._add("BatchNormalization", y, *stored, epsilon=1e-5)

    def _add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{self._prefix}{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _store(self, shape: tuple[int, ...], scale: float) -> str:
        return self._put(scale * self._rng.standard_normal(shape, np.float32))

    def _put(self, values: np.ndarray) -> str:
        name = f"{self._prefix}w{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--polygraphy", help="how to start it; left out where not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench(Path(folder), options)


def bench(folder: Path, options: argparse.Namespace) -> None:
    paths = {name: folder / f"{name}.onnx" for name in ("kept", "renamed", "folded", "wrong")}
    for name, path in paths.items():
        model = _Net(folded=name == "folded", prefix="r" if name == "renamed" else "v").model()
        if name == "wrong":
            wrong = next(n for n in model.graph.node[60:] if n.op_type == "BatchNormalization")
            wrong.attribute[0].f = 1e-2
        onnx.save(model, path)
    ours = [sys.executable, "-m", "inspector", "compare", str(paths["kept"])]
    # Rows of each run of the left and of the right model: a batch of one and one of two, and where
    # the graphs are not the same, the first one moved by an ulp.
    cases = {"renamed": ("1,2", "1,2"), "folded": ("1,2,1", "1,2,1")}
    for name, rows in cases.items():
        commands = {
            "compare": [*ours, str(paths[name])],
            "bare": [
                *(sys.executable, "-c", BARE),
                *(rows[0], str(paths["kept"]), rows[1], str(paths[name])),
            ],
        }
        if options.polygraphy:
            polygraphy = shlex.split(options.polygraphy)
            for side, path in (("left", paths["kept"]), ("right", paths[name])):
                commands[side] = [*polygraphy, "run", str(path), "--onnxrt"]
        seconds = _turns(commands, options.runs)
        mine, bare = seconds.pop("compare"), seconds.pop("bare")
        said = "holds" if mine <= LIMIT * bare else f"over {LIMIT}"
        print(f"{name:10} compare {mine:.2f} s")
        print(f"{'':10} bare sessions {bare:.2f} s: {mine / bare:.2f} x  {said}")
        if seconds:
            theirs = sum(seconds.values())
            said = "holds" if mine < theirs else "more"
            print(f"{'':10} polygraphy run of both {theirs:.2f} s: {mine / theirs:.2f} x  {said}")
    begin = time.perf_counter()
    run([*ours, str(paths["wrong"])], code=1)
    took = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    said = "holds" if peak <= MEMORY else "over 1 GB"
    largest = f"largest process {peak / 1e6:.0f} MB  {said}"
    print(f"{'wrong':10} localised and proved in {took:.2f} s, {largest}")


def _turns(commands: dict[str, list[str]], runs: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            begin = time.perf_counter()
            run(command)
            seconds[name].append(time.perf_counter() - begin)
    return {name: median(each) for name, each in seconds.items()}


def run(command: list[str], code: int = 0) -> None:
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != code:
        raise SystemExit(
            f"{shlex.join(command[:4])} …: {found.returncode}\n{found.stderr}{found.stdout[:2000]}"
        )


if __name__ == "__main__":
    main()
