"""Find BatchNorm in a model: facts about the graph in, facts about its norms out."""

from inspector.recognise.find import find_batchnorms
from inspector.recognise.values import (
    load_affine,
    load_values,
    measure,
    measure_affine,
    measure_all,
)

__all__ = [
    "find_batchnorms",
    "load_affine",
    "load_values",
    "measure",
    "measure_affine",
    "measure_all",
]
