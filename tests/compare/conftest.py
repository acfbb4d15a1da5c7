"""What tests of whole comparisons share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import onnx
import pytest

from inspector.facts.comparison import Comparison
from inspector.flows import compare_files

Compare = Callable[..., Comparison]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compare two models given as protos, as ONNX's text form, as bytes or as paths."""
    numbers = count()

    def saved(model: Any) -> Path:
        if isinstance(model, Path):
            return model
        path = tmp_path / f"{next(numbers)}.onnx"
        if isinstance(model, str):
            model = onnx.parser.parse_model(model)
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    def run(left: Any, right: Any, **options: Any) -> Comparison:
        return compare_files(saved(left), saved(right), **options)

    return run
