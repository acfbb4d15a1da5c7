"""Values of many norms at once: what measuring them one by one says, to the sign of a zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_text import parsed

from inspector.facts.batchnorm import BatchNorm, Certainty, Form, Origin, Parameter
from inspector.facts.model import Model, Storage, Tensor
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms, measure, measure_all, values

MODEL = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }"""

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.4e38, 1e-45, np.inf, -np.inf, np.nan])
LENGTHS = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 64])


class Arrays:
    """Weights that are arrays already."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> Tensor:
        self.arrays.append(values)
        return Tensor(
            name="t",
            dtype=str(values.dtype),
            dims=values.shape,
            storage=Storage.INITIALIZER,
            key=len(self.arrays) - 1,
        )

    def load(self, tensor: Tensor) -> np.ndarray:
        return self.arrays[tensor.key]

    def load_together(self, tensors: Sequence[Tensor]) -> np.ndarray:
        return np.stack([self.load(each) for each in tensors])


def norm_of(tensors: list[Tensor | None], epsilon: float) -> BatchNorm:
    scale, bias, mean, var = (
        Parameter(value="v", certainty=Certainty.EXACT, origin=Origin.INITIALIZER, tensor=each)
        for each in tensors
    )
    return BatchNorm(
        name="bn",
        scope=(),
        form=Form.NATIVE,
        channels=None,
        scale=scale,
        bias=bias,
        mean=mean,
        var=var,
        epsilon=epsilon,
        momentum=0.9,
        momentum_stated=True,
        training=False,
        after=(),
        before=(),
        foldable_into=None,
        output="y",
    )


@st.composite
def parameters(draw) -> tuple[list[np.ndarray | None], float]:
    """Four arrays, nearly always float32 and of one length, and an epsilon."""
    length = draw(LENGTHS)
    arrays: list[np.ndarray | None] = []
    for _ in range(4):
        if draw(st.integers(0, 30)) == 0:
            arrays.append(None)
            continue
        own = length + 1 if draw(st.integers(0, 30)) == 0 else length
        drawn = draw(st.lists(NUMBERS, min_size=min(own, 3), max_size=min(own, 3)))
        array = np.resize(np.array(drawn, dtype=np.float32), own)
        if draw(st.booleans()):
            array = np.random.default_rng(own).standard_normal(own).astype(np.float32)
        wide = draw(st.integers(0, 30)) == 0
        arrays.append(array.astype(np.float64) if wide else array)
    return arrays, draw(st.sampled_from([0.0, 9.999999747378752e-06, 0.0010000000474974513]))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("values") / "model.onnx"
    onnx.save(parsed(MODEL), path)
    return open_model(path)


@pytest.mark.parametrize("together", [1, 100, values.TOGETHER])
@given(drawn=st.lists(parameters(), max_size=12))
def test_all_at_once_is_one_by_one(drawn, together, empty):
    weights = Arrays()
    model = replace(empty, weights=weights)
    norms = [
        norm_of([None if each is None else weights.add(each) for each in arrays], epsilon)
        for arrays, epsilon in drawn
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "TOGETHER", together)
        found = measure_all(norms, model)
    # Not by ==, which knows no NaN and takes -0.0 for 0.0.
    assert list(map(repr, found)) == [repr(measure(norm, model)) for norm in norms]


def test_all_at_once_is_one_by_one_in_real_models(corpus: Path, corpus_rows):
    seen = 0
    for row in corpus_rows:
        if row["load"] == "ok" and int(row["bn_count"]):
            model = open_model(corpus / row["file"])
            norms = find_batchnorms(model).batchnorms
            found = measure_all(norms, model)
            assert list(map(repr, found)) == [repr(measure(norm, model)) for norm in norms]
            seen += len(found)
    assert seen > 1000
