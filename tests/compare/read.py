"""Models from ONNX's text form, read as the flow reads them, for tests of single stages."""

from __future__ import annotations

from pathlib import Path

import onnx

from inspector.compare.graphs.order import in_order
from inspector.compare.graphs.structure import Network, build
from inspector.compare.pairing.layout import find_layouts
from inspector.facts.model import Model
from inspector.read.convert import Converter, opsets
from inspector.read.data import TensorData
from inspector.read.evaluate import ReferenceEvaluation
from inspector.read.external import Folders
from inspector.read.schema import with_default_attributes
from inspector.read.shapes import with_inferred_shapes
from inspector.read.weights import ProtoWeights

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model_of(source: str | onnx.ModelProto) -> Model:
    """A model prepared for comparing; text is ``(inputs) => (outputs) <stored> { nodes }``."""
    if isinstance(source, str):
        text = source if source.startswith("<ir") else f"{HEAD} g {source}"
        source = onnx.parser.parse_model(text)
    weights = ProtoWeights(source, TensorData("m.onnx", Folders.of(Path("m.onnx"))))
    model = Model(
        path="m.onnx",
        size=0,
        ir_version=source.ir_version,
        producer="",
        opsets=opsets(source.opset_import),
        graph=Converter(weights, "m.onnx").graph(source.graph),
        functions={},
        metadata={},
        missing_data={},
        weights=weights,
        evaluator=ReferenceEvaluation(weights),
    )
    return in_order(with_default_attributes(with_inferred_shapes(model)))


def network_of(source: str | onnx.ModelProto) -> Network:
    """The layers of a model."""
    model = model_of(source)
    fed = [v.name for v in model.graph.inputs if v.name not in model.graph.initializers]
    return build(
        model,
        find_layouts(model),
        inputs=fed,
        outputs=[v.name for v in model.graph.outputs],
    )
