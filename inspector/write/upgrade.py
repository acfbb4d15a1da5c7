"""Another form of a model that ONNX Runtime does not take as it is, and what was done to get it.

Tried in the order of how little they change: functions written out, an old opset or a draft
rewritten, bfloat16 computed in float32, and onnx's reference evaluator in place of the runtime
(docs/decisions/0011-precision.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from inspector.facts.model import Model
from inspector.facts.patch import Patch, Runnable
from inspector.read.convert import Converter, opsets
from inspector.read.data import is_outside
from inspector.read.evaluate import ReferenceEvaluation
from inspector.read.shapes import with_inferred_shapes
from inspector.read.tensors import tensors_of
from inspector.read.weights import ProtoWeights
from inspector.write.inline import inlined
from inspector.write.modern import CannotRewriteError, is_old, modern
from inspector.write.patch import patch_graph, patched

MOST_WORK = 2e8
"""Multiplications of one row that onnx's reference evaluator is asked for: a second or two."""

_MATMULS = frozenset({"MatMul", "Gemm"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A model in a form that runs.

    `source` is what is run for it, by onnx's reference evaluator where `evaluated` is set. `note`
    says what was done, as a clause about the model. `unit` is the relative rounding of the type
    that it stands for, where what runs is finer; 0.0 otherwise.
    """

    model: Model
    source: Runnable
    note: str
    evaluated: bool = False
    unit: float = 0.0


def runnable_form(model: Model, reason: str) -> Form | None:
    """A form of `model` that may run where the model itself does not.

    Parameters
    ----------
    model
        As it was opened, with no default attributes filled in.
    reason
        Why ONNX Runtime refused it, in its words.

    Returns
    -------
    Form or None
        None where nothing is known that would be sure to be the same function.

    Raises
    ------
    inspector.errors.UndecidedError
        A copy of the model would be too large.
    """
    if not isinstance(model.weights, ProtoWeights) or model.missing_data:
        return None
    return _rewritten(model) or _in_float32(model) or _by_reference(model, reason)


def _rewritten(model: Model) -> Form | None:
    """Functions written out, and an old opset or a draft in words of a newer one."""
    flat = inlined(model)
    notes = ["its functions written out"] if model.functions and not flat.functions else []
    assert isinstance(flat.weights, ProtoWeights)  # checked by the caller
    proto = flat.weights.proto
    if is_old(proto) or not proto.opset_import:
        try:
            proto, note = modern(proto)
        except CannotRewriteError:
            return None
        flat = opened(flat, proto)
        notes.insert(0, note)
    if not notes:
        return None
    return Form(model=flat, source=patched(flat, ()), note=" and ".join(notes))


def _in_float32(model: Model) -> Form | None:
    """bfloat16 weights are exact in float32; what is computed is no longer rounded to bfloat16."""
    assert isinstance(model.weights, ProtoWeights)  # checked by the caller
    if model.functions or not _has_bfloat16(model.weights.proto):
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(model.weights.proto)
    for tensor in tensors_of(proto):
        if tensor.data_type == TensorProto.BFLOAT16:
            _widen(tensor, model.weights)
    _widen_types(proto.graph)
    wide = opened(model, proto)
    return Form(
        model=wide,
        source=patched(wide, ()),
        note="computed in float32 in place of bfloat16, with its weights as they are",
        unit=float(2.0**-7),
    )


def _has_bfloat16(proto: onnx.ModelProto) -> bool:
    """Whether numbers are stored or fed as bfloat16, or made so in between."""
    declared = (*proto.graph.input, *proto.graph.output)
    kinds = {each.type.tensor_type.elem_type for each in declared}
    kinds |= {each.data_type for each in tensors_of(proto)}
    return TensorProto.BFLOAT16 in kinds or any(
        attribute.name in ("to", "dtype") and attribute.i == TensorProto.BFLOAT16
        for node in _all_nodes(proto.graph)
        for attribute in node.attribute
    )


def _widen(tensor: TensorProto, weights: ProtoWeights) -> None:
    name = tensor.name
    whole = weights.data.filled(tensor) if is_outside(tensor) else tensor
    values = numpy_helper.to_array(whole).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def _widen_types(graph: onnx.GraphProto) -> None:
    """Let every value and every Cast that speaks of bfloat16 speak of float32."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.BFLOAT16:
            kind.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _widen_types(inner)


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner)


def _by_reference(model: Model, reason: str) -> Form | None:
    """Onnx's own evaluator, for operators that ONNX Runtime has no kernel for."""
    lacking = "Could not find an implementation for "
    if lacking not in reason:
        return None
    assert isinstance(model.weights, ProtoWeights)  # checked by the caller
    if not _evaluates(model) or not _is_small(model):
        return None
    source = patched(model, ())
    if source.folder:
        return None  # its data lies in files that are for ONNX Runtime to open
    operator = reason.split(lacking, 1)[1].split("(", 1)[0].strip()
    kinds = sorted({each.dtype or "" for each in model.graph.inputs} - {""})
    of = f" of {' and '.join(kinds)}" if kinds else ""
    return Form(
        model=model,
        source=source,
        note=f"run by onnx's reference evaluator: ONNX Runtime has no {operator}{of}",
        evaluated=True,
    )


def _evaluates(model: Model) -> bool:
    """Whether onnx's reference evaluator has all the operators, in a version that can be had."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.ops import load_op

    for node in model.graph.nodes:
        if model.function(node) is not None:
            continue
        domain = "" if node.is_standard else node.domain
        try:
            version = model.opsets.get(domain, 1)
            load_op(domain, node.op_type, version, evaluator_cls=ReferenceEvaluator)
        except (NotImplementedError, RuntimeError, ValueError, KeyError):
            return False
    return True


def _is_small(model: Model) -> bool:
    """Whether a row costs no more than `MOST_WORK` multiplications; unknown is too much."""
    work = 0.0
    known = with_inferred_shapes(model).graph
    for node in known.nodes:
        if not node.is_standard or node.op_type not in (_MATMULS | _CONVOLUTIONS):
            continue
        kernel = known.initializers.get(node.input(1))
        value = known.values.get(node.outputs[0])
        if kernel is None or value is None or value.dims is None:
            return False
        lengths = [dim if isinstance(dim, int) and dim > 0 else 1 for dim in value.dims]
        if node.op_type in _CONVOLUTIONS:
            if not all(isinstance(dim, int) for dim in value.dims[2:]):
                return False
            work += kernel.elements * float(np.prod(lengths[2:]))
        else:
            work += kernel.elements * float(np.prod(lengths[1:-1]))
    return work <= MOST_WORK


def opened(model: Model, proto: onnx.ModelProto) -> Model:
    """The facts of a changed copy, whose large tensors still lie where the file has them."""
    assert isinstance(model.weights, ProtoWeights)  # whoever changes a copy has read one
    weights = ProtoWeights(proto, model.weights.data)
    return replace(
        model,
        ir_version=proto.ir_version,
        graph=Converter(weights, model.path).graph(proto.graph),
        functions=MappingProxyType({}),
        opsets=opsets(proto.opset_import),
        weights=weights,
        evaluator=ReferenceEvaluation(weights),
    )


def with_patches(model: Model, patches: Sequence[Patch]) -> Model:
    """The facts of a copy with `patches` applied.

    Raises
    ------
    inspector.errors.UndecidedError
        A patch addresses what is not there.
    """
    assert isinstance(model.weights, ProtoWeights)  # whoever changes a copy has read one
    proto = onnx.ModelProto()
    proto.CopyFrom(model.weights.proto)
    patch_graph(proto.graph, patches, model.path)
    return opened(model, proto)
