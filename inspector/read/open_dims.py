"""Lengths that a file writes as negative numbers, which stand for any length.

PaddlePaddle writes -1. `inspect` shows a file as it is; whoever reckons with lengths takes these
for unknown.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from inspector.facts.model import Model, Value


def with_open_dims(model: Model) -> Model:
    """The same model without negative lengths in its main graph."""
    graph = model.graph
    known = (*graph.values.values(), *graph.inputs, *graph.outputs)
    if not any(_has_negative(each) for each in known):
        return model
    values = {name: _opened(each) for name, each in graph.values.items()}
    return replace(
        model,
        graph=replace(
            graph,
            values=MappingProxyType(values),
            inputs=tuple(_opened(each) for each in graph.inputs),
            outputs=tuple(_opened(each) for each in graph.outputs),
        ),
    )


def _has_negative(value: Value) -> bool:
    return any(isinstance(dim, int) and dim < 0 for dim in value.dims or ())


def _opened(value: Value) -> Value:
    if not _has_negative(value):
        return value
    dims = (None if isinstance(dim, int) and dim < 0 else dim for dim in value.dims or ())
    return replace(value, dims=tuple(dims))
