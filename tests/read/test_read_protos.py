"""The messages without the onnx package are the messages of the onnx package."""

from __future__ import annotations

import subprocess
import sys

import pytest

NAMES = "ModelProto GraphProto NodeProto AttributeProto TensorProto FunctionProto".split()
ORDERS = {
    "ours first": "from inspector.read import protos; early = set(sys.modules); import onnx",
    "onnx first": "import onnx; early = set(sys.modules); from inspector.read import protos",
}


@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("imports", ORDERS.values(), ids=ORDERS)
def test_one_class_a_message_whichever_comes_first(imports, implementation):
    code = f"""
import sys
{imports}
for name in {NAMES!r}:
    assert getattr(protos, name) is getattr(onnx, name), name
made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
assert isinstance(made, protos.ModelProto)
read = protos.ModelProto.FromString(made.SerializeToString())
onnx.checker.check_model(read)
assert read == made
print("onnx" in early)
"""
    ran = subprocess.run(  # noqa: S603  # the code is this test's own
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(imports.startswith("import onnx"))
