"""Facts as versioned JSON: one object, keys that stay.

Numbers that JSON has no word for are the strings ``"nan"``, ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from inspector.facts.inspection import InspectedAffine, InspectedNorm, Inspection
from inspector.report.words import shortest

if TYPE_CHECKING:
    from inspector.facts.batchnorm import BatchNormValues, Parameter, Range
    from inspector.facts.comparison import Comparison
    from inspector.facts.count import Count
    from inspector.facts.model import Value
    from inspector.facts.table import Table
    from inspector.report.render import Fact

VERSION = 1


def to_json(fact: Fact) -> str:
    """One JSON object with `schema` and `version`, and a newline behind it."""
    schema, body = _body(fact)
    return to_object(schema, body)


def to_object(schema: str, body: dict[str, Any]) -> str:
    """A body with its schema and version in front."""
    whole = {"schema": f"bninspect.{schema}", "version": VERSION, **body}
    return _laid_out(whole) + "\n"


def _body(fact: Fact) -> tuple[str, dict[str, Any]]:
    # Facts of the other flows are imported only where this is none of `inspect`'s.
    if isinstance(fact, Inspection):
        return "inspection", _inspection(fact)
    from inspector.facts.table import Table

    if isinstance(fact, Table):
        return "table", _table(fact)
    from inspector.facts.reconciliation import Explanation, Reconciliation

    if isinstance(fact, Reconciliation | Explanation):
        name = "reconciliation" if isinstance(fact, Reconciliation) else "explanation"
        return name, asdict(fact)
    from inspector.facts.comparison import Comparison

    if isinstance(fact, Comparison):
        return "comparison", _comparison(fact)
    from inspector.facts.finding import Check

    if isinstance(fact, Check):
        from inspector.report.json_check import check_body

        return "check", check_body(fact)
    from inspector.facts.export import ExportComparison

    if isinstance(fact, ExportComparison):
        return "export-comparison", {
            "sources": fact.sources,
            "exports": [None if each is None else asdict(each) for each in fact.exports],
            "kept": fact.kept,
            "comparison": _comparison(fact.comparison),
        }
    from inspector.facts.restored import Restored

    return "restored" if isinstance(fact, Restored) else "export", asdict(fact)


def _inspection(fact: Inspection) -> dict[str, Any]:
    return {
        "path": fact.path,
        "size": fact.size,
        "producer": fact.producer,
        "ir_version": fact.ir_version,
        "opsets": dict(fact.opsets),
        "nodes": fact.nodes,
        "inputs": [_value(each) for each in fact.inputs],
        "outputs": [_value(each) for each in fact.outputs],
        "batchnorms": [_norm(each) for each in fact.norms],
        "affines": [_affine(each) for each in fact.affines],
        "lookalikes": [
            {
                "name": each.name,
                "scope": each.scope,
                "kind": each.kind,
                "why": each.why,
                "tensors": [tensor.name for tensor in each.tensors],
            }
            for each in fact.lookalikes
        ],
        "folded": [asdict(each) for each in fact.folded],
        "linear": [asdict(each) for each in fact.linear],
        "against": None if fact.reference is None else asdict(fact.reference),
        "parameters": _count(fact.count),
        "manifest": None if fact.manifest is None else asdict(fact.manifest),
        "notes": [*fact.notes, *fact.count.notes],
    }


_KEYS = {"Layer (type)": "layer", "Param #": "params"}


def _table(fact: Table) -> dict[str, Any]:
    names = [_KEYS.get(name) or name.lower().replace(" ", "_") for name in fact.columns]
    return {
        "style": fact.style,
        "title": fact.title,
        "rows": [dict(zip(names, row, strict=True)) for row in fact.rows],
        "totals": dict(fact.totals),
        "notes": fact.notes,
    }


def _value(value: Value) -> dict[str, Any]:
    return {"name": value.name, "dtype": value.dtype, "dims": value.dims}


def _norm(each: InspectedNorm) -> dict[str, Any]:
    norm = each.norm
    return {
        "name": norm.name,
        "scope": norm.scope,
        "form": norm.form,
        "op_type": norm.op_type,
        "confidence": norm.confidence,
        "evidence": norm.evidence,
        "nodes": norm.nodes,
        "channels": norm.channels,
        "axis": norm.axis,
        "epsilon": _float32(norm.epsilon),
        "momentum": {
            "onnx": _float32(norm.momentum),
            "keras": _float32(norm.momentum),
            "torch": norm.torch_momentum,
            "stated": norm.momentum_stated,
        },
        "training": norm.training,
        "after": norm.after,
        "before": norm.before,
        "foldable_into": norm.foldable_into,
        "obstacle": norm.obstacle,
        "remarks": norm.remarks,
        "parameters": {name: _parameter(parameter) for name, parameter in norm.parameters},
        "ranges": _ranges(each.values),
    }


def _float32(value: float | None) -> float | None:
    """An attribute in as many digits as tell it from its neighbours."""
    return None if value is None else float(shortest(value))


def _affine(each: InspectedAffine) -> dict[str, Any]:
    affine = each.affine
    return {
        "name": affine.name,
        "scope": affine.scope,
        "channels": affine.channels,
        "axis": affine.axis,
        "nodes": affine.nodes,
        "after": affine.after,
        "before": affine.before,
        "remark": affine.remark,
        "ranges": {
            "slope": _range(each.values.slope),
            "intercept": _range(each.values.intercept),
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    tensor = parameter.tensor
    return {
        "value": parameter.value,
        "certainty": parameter.certainty,
        "origin": parameter.origin,
        "dtype": None if tensor is None else tensor.dtype,
        "dims": None if tensor is None else tensor.dims,
        "reason": parameter.reason,
    }


def _ranges(values: BatchNormValues) -> dict[str, Any]:
    named = {
        "scale": values.scale,
        "B": values.bias,
        "mean": values.mean,
        "var": values.var,
        "slope": values.slope,
        "intercept": values.intercept,
    }
    return {name: _range(found) for name, found in named.items()}


def _range(found: Range | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"min": found.low, "max": found.high, "non_finite": found.non_finite}


def _count(count: Count) -> dict[str, Any]:
    return {
        "keras": asdict(count.keras),
        "torch": asdict(count.torch),
        "onnx": asdict(count.onnx),
        "learned": count.learned,
        "statistics": count.statistics,
        "constants": count.constants,
        "unknown": count.unknown,
        "merged": count.merged,
        "tensors": [
            {
                "name": each.tensor.name,
                "scope": each.scope,
                "dtype": each.tensor.dtype,
                "dims": each.tensor.dims,
                "elements": each.tensor.elements,
                "role": each.role,
                "why": each.why,
                "synthetic": each.synthetic,
                "doubt": each.doubt,
                "again": each.again,
                "layers": each.layers,
                "padding": each.padding,
            }
            for each in count.tensors
        ],
    }


def _comparison(fact: Comparison) -> dict[str, Any]:
    body = asdict(fact)
    for output, named in zip(fact.outputs, body["outputs"], strict=True):
        named["difference"]["relative"] = output.difference.relative
    return body


def _laid_out(value: Any, indent: str = "") -> str:
    """JSON with a line for each of the first keys, and for each row of what comes in rows.

    Python's own indenting writes a line for every number, and takes ten times as long.
    """
    inner = f"{indent}  "
    if isinstance(value, dict) and value and len(indent) < _DEEP:
        rows = [f"{_compact(str(key))}: {_laid_out(each, inner)}" for key, each in value.items()]
        return _block("{", rows, "}", indent)
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return _block("[", map(_compact, value), "]", indent)
    return _compact(value)


_DEEP = 4
"""Columns at which objects are no longer spread over lines."""


def _block(begin: str, rows: Iterable[str], end: str, indent: str) -> str:
    lines = ",\n".join([f"{indent}  {row}" for row in rows])
    return f"{begin}\n{lines}\n{indent}{end}"


def _compact(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_plain(value))


_ENCODER = json.JSONEncoder(allow_nan=False)
"""One for all rows: json.dumps makes another for each."""


def _plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
