"""How tensors that the exporter renamed or copied are tied back to Keras' variables."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from inspector.export import keras_names as naming
from inspector.export import protos

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 2] x) => (float[2, 2] y)
<float[2, 2] k__9 = {1, 3, 2, 4}, float[2, 2] k__7 = {1, 3, 2, 4},
 float[2] "net/b/Squeeze__4" = {0, 0}, float[2] "net/a/Squeeze__5" = {0, 0}>
{
  [MatMul__30] m__30 = MatMul (x, k__7)
  [Add__22] s__22 = Add (m__30, "net/b/Squeeze__4")
  [MatMul__31] n__31 = MatMul (s__22, k__9)
  [Add__21] y = Add (n__31, "net/a/Squeeze__5")
}
"""


class Variable:
    def __init__(self, path: str, values: Any) -> None:
        self.path, self.name = path, path
        self._values = np.asarray(values, np.float32)

    def numpy(self) -> Any:
        return self._values


def captured() -> dict[str, Any]:
    return {
        "net/a/Reshape/Read": Variable("a/bias", [0, 0]),
        "net/b/Reshape/Read": Variable("b/bias", [0, 0]),
        "net/k/Read": Variable("k/kernel", [[1, 2], [3, 4]]),
        "net/c/Read": Variable("c/unused", [5, 6]),
    }


def model() -> Any:
    return onnx.parser.parse_model(TEXT)


def test_equal_values_go_to_the_nearest_scope() -> None:
    tied = naming.tie(model(), captured(), Variable.numpy)
    assert {name: each.path for name, each in tied.items()} == {
        "net/a/Squeeze__5": "a/bias",
        "net/b/Squeeze__4": "b/bias",
        "k__9": "k/kernel",
        "k__7": "k/kernel",
    }


def test_a_variable_stored_twice_is_stored_once_and_equal_variables_stay_two() -> None:
    proto = model()
    tied = naming.tie(proto, captured(), Variable.numpy)
    naming.merge_copies(proto, tied)
    assert len(protos.initializers(proto)) == 3
    assert len(tied) == 3
    kernels = {node.input[1] for node in proto.graph.node if node.op_type == "MatMul"}
    assert kernels < set(protos.initializers(proto))
    onnx.checker.check_model(proto)


def test_two_layouts_of_one_variable_stay_two() -> None:
    proto = onnx.parser.parse_model(TEXT.replace("k__7 = {1, 3, 2, 4}", "k__7 = {1, 2, 3, 4}"))
    tied = naming.tie(proto, captured(), Variable.numpy)
    naming.merge_copies(proto, tied)
    assert len(protos.initializers(proto)) == 4
    naming.rename(proto, {old: each.path for old, each in tied.items()})
    assert {"k/kernel", "k/kernel_1"} <= set(protos.initializers(proto))


def test_invented_names_do_not_depend_on_the_exporters_numbers() -> None:
    texts = (TEXT, TEXT.replace("__30", "__77").replace("__22", "__3").replace("__7 ", "__70 "))
    texts = (texts[0], texts[1].replace("k__7)", "k__70)"))
    made = []
    for text in texts:
        proto = onnx.parser.parse_model(text)
        naming.renumber(proto, captured())
        onnx.checker.check_model(proto)
        made.append(proto.SerializeToString(deterministic=True))
    assert texts[0] != texts[1]
    assert made[0] == made[1]
    names = [each.name for each in onnx.ModelProto.FromString(made[0]).graph.initializer]
    uses = [name for node in onnx.ModelProto.FromString(made[0]).graph.node for name in node.input]
    assert names == [name for name in uses if name in names]


def test_marks_are_taken_out_of_names() -> None:
    assert naming.unmarked("net/norm/bninspect_bn_12/Fused:0") == "net/norm/Fused:0"
