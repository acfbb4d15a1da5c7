"""Networks quantised by ONNX Runtime's own tools, in each form that they write."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

FORMS = ("QDQ", "QDQ per tensor", "QOperator", "dynamic")

BATCHES, ROWS = 8, 8


class _Noise(quantization.CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Batches of normal noise to calibrate on."""

    def __init__(self, path: Path, seed: int) -> None:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (image,) = session.get_inputs()
        dims = [each if isinstance(each, int) else ROWS for each in image.shape]
        rng = np.random.default_rng([7, seed])
        self._left = [
            {image.name: rng.standard_normal(dims).astype(np.float32)} for _ in range(BATCHES)
        ]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """What ONNX Runtime quantises: BatchNorms folded, and constants computed."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "plain.onnx")
        onnx.save(model, source)
        quant_pre_process(source, source, skip_symbolic_shape=True)
        return onnx.load(source)


def quantised(
    model: onnx.ModelProto, form: str, *, seed: int = 0, fold: bool = True, **options: Any
) -> onnx.ModelProto:
    """A copy of `model` in one of `FORMS`.

    `fold` folds its BatchNorms first, as ONNX Runtime's guide has it; `seed` is that of what
    it is calibrated on, and `options` go to ONNX Runtime as they are.
    """
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "plain.onnx"), Path(folder, "quantised.onnx")
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        # The tool stores some weights turned, and then finds that these say otherwise.
        del copy.graph.value_info[:]
        onnx.save(copy, source)
        if fold:
            quant_pre_process(source, source, skip_symbolic_shape=True)
        if form == "dynamic":
            quantization.quantize_dynamic(source, target, **options)
        else:
            given: dict[str, Any] = {
                "quant_format": quantization.QuantFormat.QOperator
                if form == "QOperator"
                else quantization.QuantFormat.QDQ,
                "per_channel": form == "QDQ",
                **options,
            }
            quantization.quantize_static(source, target, _Noise(source, seed), **given)
        return onnx.load(target)
