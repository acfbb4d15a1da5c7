"""Write the large models that scripts/bench_read.py measures; what is there already stays.

    python scripts/bench_models.py FOLDER

All but the last are one network, 50 times Conv, BatchNormalization and Relu on 64 channels, whose
kernels grow until the weights take the size asked for: nodes and BatchNorms stay the same. Their
messages are written by hand, field by field, so that no more than one block of random weights is
ever in memory (https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper

BLOCKS = 50
CHANNELS = 64
CHUNK = 2**21
"""Weights made at once: 8 MB."""

LEN = 2
"""The wire type of a field that says its length first."""


def main(folder: Path) -> None:
    for size in (18, 100, 1000, 1900):
        _write(folder / f"embedded_{size}mb.onnx", size, external=False)
    _write(folder / "external_2400mb.onnx", 2400, external=True)
    _write_many_nodes(folder / "nodes_20000.onnx", 500, PLAIN)
    _write_many_nodes(folder / "nodes_20000_bn5000.onnx", 5000, ("Add",))


def _write(path: Path, megabytes: int, *, external: bool) -> None:
    """Write a model once; a half-written one has another name and is written again."""
    if path.exists():
        return
    print(f"writing {path.name}", flush=True)
    part = path.with_suffix(".part")
    # The kernel is kernel x 1, which lets it take any size.
    kernel = round(megabytes * 10**6 / (BLOCKS * CHANNELS * CHANNELS * 4))
    with part.open("wb") as file:
        if external:
            data = path.with_name(f"{path.name}.data")
            file.write(_external(kernel, data.name).SerializeToString())
            with data.open("wb") as weights:
                for at in range(BLOCKS):
                    _write_weights(weights, _elements(kernel), at)
        else:
            _write_embedded(file, kernel)
    part.rename(path)


# --- the network without its large weights


def _bare(kernel: int) -> onnx.ModelProto:
    """The network with the parameters of its BatchNorms and of its last layer."""
    nodes, value = [], "x"
    for at in range(BLOCKS):
        # As wide as its input, whatever the kernel.
        nodes.append(_conv(value, f"w{at}", f"c{at}", kernel))
        nodes.append(_norm(f"c{at}", at, f"n{at}"))
        nodes.append(helper.make_node("Relu", [f"n{at}"], [f"r{at}"], name=f"relu{at}"))
        value = f"r{at}"
        if at % 5 == 4:
            nodes.append(helper.make_node("Add", [value, f"r{at - 4}"], [f"a{at}"], name=f"a{at}"))
            value = f"a{at}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["y"], name="fc", transB=1))
    tensors = [each for at in range(BLOCKS) for each in _statistics(at, CHANNELS)]
    tensors += [_tensor("fc.w", (10, CHANNELS), BLOCKS), _tensor("fc.b", (10,), BLOCKS + 1)]
    return _model(nodes, tensors, [1, CHANNELS, 224, 224], [1, 10])


def _conv(value: str, weight: str, output: str, kernel: int) -> onnx.NodeProto:
    return helper.make_node(
        "Conv",
        [value, weight],
        [output],
        name=output,
        kernel_shape=[kernel, 1],
        auto_pad="SAME_UPPER",
    )


def _norm(value: str, at: int, output: str) -> onnx.NodeProto:
    parameters = [f"bn{at}.{part}" for part in ("scale", "bias", "mean", "var")]
    return helper.make_node("BatchNormalization", [value, *parameters], [output], name=f"bn{at}")


def _statistics(at: int, channels: int) -> Iterator[onnx.TensorProto]:
    for place, part in enumerate(("scale", "bias", "mean", "var")):
        yield _tensor(f"bn{at}.{part}", (channels,), 1000 + 4 * at + place)


def _tensor(name: str, dims: tuple[int, ...], seed: int) -> onnx.TensorProto:
    # Above 0, as a variance has to be.
    values = np.random.default_rng(seed).uniform(0.5, 1.5, dims).astype(np.float32)
    return onnx.numpy_helper.from_array(values, name)


def _model(
    nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto], x: list[int], y: list[int]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        initializer=tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# --- the large weights


def _external(kernel: int, data: str) -> onnx.ModelProto:
    model = _bare(kernel)
    length = _elements(kernel) * 4
    for at in range(BLOCKS):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(_head(at, kernel))
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data), ("offset", at * length), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    return model


def _write_embedded(file: BinaryIO, kernel: int) -> None:
    """The model's graph, and at the graph's end the weights, one tensor after the other."""
    model = _bare(kernel)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    length = _elements(kernel) * 4
    heads = []
    for at in range(BLOCKS):
        head = _head(at, kernel).SerializeToString()
        head += _begin(TensorProto.RAW_DATA_FIELD_NUMBER, length)
        heads.append(_begin(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(head) + length) + head)
    file.write(model.SerializeToString())
    whole = len(graph) + sum(map(len, heads)) + BLOCKS * length
    file.write(_begin(onnx.ModelProto.GRAPH_FIELD_NUMBER, whole) + graph)
    for at, head in enumerate(heads):
        file.write(head)
        _write_weights(file, _elements(kernel), at)


def _head(at: int, kernel: int) -> onnx.TensorProto:
    dims = [CHANNELS, CHANNELS, kernel, 1]
    return TensorProto(name=f"w{at}", data_type=TensorProto.FLOAT, dims=dims)


def _elements(kernel: int) -> int:
    return CHANNELS * CHANNELS * kernel


def _begin(number: int, length: int) -> bytes:
    """Tag and length of a field; its `length` bytes are to follow."""
    return _varint(number << 3 | LEN) + _varint(length)


def _varint(value: int) -> bytes:
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def _write_weights(file: BinaryIO, elements: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    for start in range(0, elements, CHUNK):
        block = dice.random(min(CHUNK, elements - start), dtype=np.float32) - np.float32(0.5)
        file.write(block.tobytes())


# --- many nodes, hardly any weights


PLAIN = ("Add", "Sigmoid", "Mul", "Tanh", "Transpose") * 7 + ("Add", "Relu")
"""What large graphs are made of between one BatchNorm and the next."""


def _write_many_nodes(path: Path, blocks: int, between: Sequence[str]) -> None:
    """`blocks` times Conv, BatchNormalization, Relu and what stands `between`, on 4 channels."""
    if path.exists():
        return
    print(f"writing {path.name}", flush=True)
    nodes, tensors, value = [], [], "x"
    for at in range(blocks):
        nodes.append(_conv(value, f"w{at}", f"c{at}", 1))
        nodes.append(_norm(f"c{at}", at, f"n{at}"))
        nodes.append(helper.make_node("Relu", [f"n{at}"], [f"r{at}"], name=f"relu{at}"))
        tensors += [_tensor(f"w{at}", (4, 4, 1, 1), at), *_statistics(at, 4)]
        before, value = value, f"r{at}"
        for place, kind in enumerate(between):
            inputs = [value]
            if kind == "Add":
                inputs.append(before)
            elif kind == "Mul":
                inputs.append(f"m{at}_{place}")
                tensors.append(_tensor(inputs[1], (1,), place))
            value = f"v{at}_{place}"
            perm = {"perm": [0, 1, 3, 2]} if kind == "Transpose" else {}
            nodes.append(helper.make_node(kind, inputs, [value], name=f"n{at}_{place}", **perm))
    nodes[-1].output[0] = "y"
    path.write_bytes(_model(nodes, tensors, [1, 4, 8, 8], [1, 4, 8, 8]).SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
