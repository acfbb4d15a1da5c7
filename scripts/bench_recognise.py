"""How long it takes to find 5,000 BatchNorms, against opening the file that holds them.

    python scripts/bench_recognise.py [--layers 5000] [--times 5]

Each form is opened and searched in turn; ratios are of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from inspector.read.open import open_model
from inspector.recognise import find_batchnorms

CHANNELS = 16
Maker = Callable[[int, str], tuple[list[NodeProto], str]]


def node(op_type: str, inputs: list[str], output: str, name: str = "", **attributes) -> NodeProto:
    return helper.make_node(op_type, inputs, [output], name=name, **attributes)


def parameters(at: int) -> list[str]:
    return [f"{which}{at}" for which in ("scale", "bias", "mean", "var")]


def native(at: int, x: str) -> tuple[list[NodeProto], str]:
    return [node("BatchNormalization", [x, *parameters(at)], f"y{at}", f"bn{at}")], f"y{at}"


def behind_conv(at: int, x: str) -> tuple[list[NodeProto], str]:
    conv = node("Conv", [x, f"weight{at}"], f"c{at}", f"conv{at}", group=CHANNELS)
    norm = node("BatchNormalization", [f"c{at}", *parameters(at)], f"n{at}", f"bn{at}")
    return [conv, norm, node("Relu", [f"n{at}"], f"y{at}")], f"y{at}"


def chained(at: int, x: str) -> tuple[list[NodeProto], str]:
    """Parameters that are stored as float16 and cast, which has to be computed."""
    nodes = []
    for each in parameters(at):
        nodes.append(node("Cast", [f"{each}_half"], f"{each}_cast", to=TensorProto.FLOAT))
    behind = [f"{each}_cast" for each in parameters(at)]
    return [*nodes, node("BatchNormalization", [x, *behind], f"y{at}", f"bn{at}")], f"y{at}"


def decomposed(at: int, x: str) -> tuple[list[NodeProto], str]:
    """As TensorFlow writes it: x · inv + (bias − mean · inv)."""
    scale, bias, mean, var = parameters(at)
    return [
        node("Add", [var, "epsilon"], f"a{at}"),
        node("Sqrt", [f"a{at}"], f"r{at}"),
        node("Reciprocal", [f"r{at}"], f"q{at}"),
        node("Mul", [f"q{at}", scale], f"i{at}"),
        node("Mul", [mean, f"i{at}"], f"m{at}"),
        node("Sub", [bias, f"m{at}"], f"s{at}"),
        node("Mul", [x, f"i{at}"], f"p{at}"),
        node("Add", [f"p{at}", f"s{at}"], f"n{at}"),
        node("Relu", [f"n{at}"], f"y{at}"),
    ], f"y{at}"


def affine(at: int, x: str) -> tuple[list[NodeProto], str]:
    return [
        node("Mul", [x, f"scale{at}"], f"p{at}", f"layer{at}/batchnorm/mul_1"),
        node("Add", [f"p{at}", f"bias{at}"], f"n{at}", f"layer{at}/batchnorm/add_1"),
        node("Relu", [f"n{at}"], f"y{at}"),
    ], f"y{at}"


FORMS: dict[str, tuple[Maker, bool]] = {
    "native": (native, False),
    "native, behind a Conv": (behind_conv, False),
    "native, parameters computed": (chained, False),
    "decomposed": (decomposed, True),
    "affine": (affine, True),
}


def build(make: Maker, layers: int, path: Path, *, channels_last: bool) -> None:
    random = np.random.default_rng(0)
    stored = [numpy_helper.from_array(np.float32(1e-3), "epsilon")]
    nodes, value = [], "x"
    for at in range(layers):
        made, value = make(at, value)
        nodes += made
        for name in parameters(at):
            values = random.uniform(0.5, 1.5, CHANNELS).astype(np.float32)
            stored.append(numpy_helper.from_array(values, name))
            stored.append(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        weight = random.uniform(-1, 1, (CHANNELS, 1, 1, 1)).astype(np.float32)
        stored.append(numpy_helper.from_array(weight, f"weight{at}"))
    used = {name for each in nodes for name in each.input}
    dims = ["N", "H", "W", CHANNELS] if channels_last else ["N", CHANNELS, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, dims)],
        [each for each in stored if each.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=5000)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    print(f"{'form':<30}{'layers':>8}{'open':>9}{'find':>9}{'find / open':>13}")
    with TemporaryDirectory() as folder:
        for form, (make, channels_last) in FORMS.items():
            path = Path(folder) / "model.onnx"
            build(make, options.layers, path, channels_last=channels_last)
            opened, searched, found = [], [], 0
            for _ in range(options.times):
                begin = time.perf_counter()
                model = open_model(path)
                middle = time.perf_counter()
                found = len(find_batchnorms(model).batchnorms)
                searched.append(time.perf_counter() - middle)
                opened.append(middle - begin)
            first, second = statistics.median(opened), statistics.median(searched)
            print(
                f"{form:<30}{found:>8,}{first:>8.2f}s{second:>8.2f}s{second / first:>13.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
