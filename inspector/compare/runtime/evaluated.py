"""Run a model with onnx's reference evaluator: what ONNX Runtime has no kernels for.

The only place of this stage that imports onnx. It runs in the child process as the runtime does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inspector.compare.runtime.run import Array, Feeds, InParts
from inspector.errors import RunError
from inspector.facts.patch import Runnable

_WHOLE_AXIS = 13
"""Below this opset a Softmax runs over all axes from its own on together, and onnx's own runs over
one (onnx 1.23)."""

_TRAINS_BEFORE = 14
"""Below this opset onnx's own BatchNormalization normalises by moved statistics whether it trains
or not, as its test for training is a momentum, which has a default (onnx 1.23)."""

_OUTPUTS_OF_INFERENCE = 1


class Evaluated(InParts):
    """A model that onnx's reference evaluator runs, node by node, in the types it is written in.

    Parameters
    ----------
    source
        A serialised model, all of its data inside.
    name
        What messages call the model.

    Raises
    ------
    inspector.errors.RunError
        The evaluator does not know an operator, or data lies in another file.
    """

    def __init__(self, source: bytes | Runnable, *, name: str) -> None:
        from onnx import ModelProto
        from onnx.reference import ReferenceEvaluator

        self.name = name
        if isinstance(source, Runnable):
            if source.folder:
                raise RunError(
                    "onnx's reference evaluator runs models without data files", where=name
                )
            source = source.data
        try:
            model = ModelProto.FromString(source)
            self._evaluator = ReferenceEvaluator(model, new_ops=_mended(model))
        except Exception as error:  # it raises what its operators do, of no common base
            raise RunError(
                f"onnx's reference evaluator does not load it: {_first_line(error)}", where=name
            ) from error

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        try:
            with np.errstate(all="ignore"):
                values = self._evaluator.run(None, dict(feeds))
        except Exception as error:  # an operator may raise anything
            raise RunError(
                f"onnx's reference evaluator fails while running it: {_first_line(error)}",
                where=self.name,
            ) from error
        found = dict(zip(self._evaluator.output_names, values, strict=True))
        for name, value in found.items():
            if not isinstance(value, np.ndarray | np.generic):
                raise RunError(
                    f"output {name!r} is not a dense tensor but a {type(value).__name__}",
                    where=self.name,
                )
        return {name: np.asarray(value) for name, value in found.items()}


def _mended(model: Any) -> list[Any]:
    """Operators of our own where the evaluator's compute something else.

    Raises
    ------
    ValueError
        It computes something else, and there is none of our own.
    """
    opset = next((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), 1)
    nodes = [node for node in model.graph.node if node.domain in ("", "ai.onnx")]
    kinds = {node.op_type for node in nodes}
    made = []
    for node in nodes:
        given = {each.name: each.i for each in node.attribute}
        trains = given.get("training_mode") or not given.get("spatial", 1)
        if node.op_type == "BatchNormalization" and (
            trains or len(node.output) > _OUTPUTS_OF_INFERENCE
        ):
            raise ValueError("a BatchNormalization that trains, or has no channels")
    if opset < _TRAINS_BEFORE and "BatchNormalization" in kinds:
        made.append(_norm_of_inference())
    if opset < _WHOLE_AXIS:
        if "Hardmax" in kinds:
            raise ValueError("a Hardmax over several axes")
        made += [_over_the_rest(each) for each in ("Softmax", "LogSoftmax") if each in kinds]
    return made


def _norm_of_inference() -> Any:
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(
            self,
            x: Array,
            scale: Array,
            bias: Array,
            mean: Array,
            var: Array,
            epsilon: float | None = None,
            **_: Any,
        ) -> tuple[Array]:
            along = (-1, *(1 for _ in x.shape[2:]))
            scale, bias, mean, var = (each.reshape(along) for each in (scale, bias, mean, var))
            small = np.asarray(1e-5 if epsilon is None else epsilon, x.dtype)
            return ((scale * (x - mean) / np.sqrt(var + small) + bias).astype(x.dtype),)

    return BatchNormalization


def _over_the_rest(name: str) -> Any:
    """Softmax or LogSoftmax as opset 11 has it, whose axis is 1 where none is given."""
    from onnx.reference.op_run import OpRun

    def run(self: Any, x: Array, **_: Any) -> tuple[Array]:
        axis = next((each.i for each in self.onnx_node.attribute if each.name == "axis"), 1)
        lead = x.shape[: axis % x.ndim] if x.ndim else ()
        flat = x.reshape(int(np.prod(lead)), -1)
        low = flat - flat.max(axis=1, keepdims=True)
        total = np.exp(low).sum(axis=1, keepdims=True)
        found = low - np.log(total) if name == "LogSoftmax" else np.exp(low) / total
        return (found.reshape(x.shape).astype(x.dtype),)

    return type(name, (OpRun,), {"op_domain": "", "_run": run})


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
