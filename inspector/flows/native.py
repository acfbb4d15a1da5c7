"""A model with its BatchNorms as nodes, to be held against another one's."""

from __future__ import annotations

from inspector.facts.model import Model

_ROOTS = frozenset({"Sqrt", "Pow", "Reciprocal"})
"""Operators of which arithmetic that normalises has one."""


def with_native_norms(model: Model) -> Model | None:
    """The same layers, with a BatchNormalization in the place of each that is written out.

    None where there is none whose four parameters are told. A parameter that is stored stays the
    tensor it is.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    from inspector.read.weights import ProtoWeights

    # Most models have none: nothing is searched in them.
    if not any(each.op_type in _ROOTS and each.is_standard for each in model.graph.nodes):
        return None
    if not isinstance(model.weights, ProtoWeights) or model.missing_data:
        return None
    from inspector.check.subject import Subject
    from inspector.facts.batchnorm import Form
    from inspector.flows.fix_plan import native_changes
    from inspector.read.shapes import with_inferred_shapes
    from inspector.recognise import find_batchnorms
    from inspector.recognise.values import load_values

    norms = find_batchnorms(model)
    written_out = [e for e in norms.batchnorms if e.form is Form.DECOMPOSED and not e.scope]
    if not written_out:
        return None
    subject = Subject(model, norms, load=load_values, infer=with_inferred_shapes)
    changes = native_changes(subject, written_out)
    if not changes:
        return None
    from inspector.write.fixes import with_changes
    from inspector.write.upgrade import opened

    proto, why_not = with_changes(model.weights.proto, changes)
    return opened(model, proto) if len(why_not) < len(changes) else None
