"""Channels that never fire: counted from arrays, and on whole models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from compare.read import model_of
from inspector.compare.measuring.coverage import (
    Extremes,
    Unit,
    add_extremes,
    count_dead,
    find_units,
    measure_coverage,
)
from inspector.compare.pairing.layout import find_layouts
from inspector.compare.runtime.host import Host
from inspector.compare.runtime.run import Fed
from inspector.facts.comparison import Coverage
from inspector.facts.model import Model
from inspector.facts.patch import Patch, Runnable
from inspector.write.patch import patched

INF = float("inf")


def unit(value: str = "r", *, axis: int = 1, norm: bool = False, low: float = 0.0) -> Unit:
    return Unit(value=value, label=value, axis=axis, is_norm=norm, low=low, high=INF)


def counted(units: Sequence[Unit], *batches: dict[str, np.ndarray]) -> Coverage:
    found: dict[str, Extremes] = {}
    add_extremes(found, units, batches)
    return count_dead(units, found)


class TestCounting:
    def test_a_channel_that_is_off_in_every_row_of_every_batch(self) -> None:
        one = np.array([[0, 0, 1], [0, 0, 0]], np.float32)
        other = np.array([[0, 2, 0]], np.float32)
        assert counted([unit()], {"r": one}).relus == 2
        found = counted([unit()], {"r": one}, {"r": other})
        assert (found.relus, found.relu_channels) == (1, 3)
        assert found.where == ("r: 1 of 3 channels",)

    @pytest.mark.parametrize("axis", [1, 3, -1])
    def test_channels_lie_along_their_axis(self, axis: int) -> None:
        values = np.zeros((2, 4, 4, 4), np.float32)
        np.moveaxis(values, axis, 0)[2] = 1
        found = counted([unit(axis=axis)], {"r": values})
        assert (found.relus, found.relu_channels) == (3, 4)

    def test_a_norm_that_does_not_move(self) -> None:
        norm = unit("n", norm=True, low=-INF)
        values = np.array([[1, 1, -5], [1, 2, -5]], np.float32)
        values[1, 0] = np.nextafter(np.float32(1), np.float32(2))
        found = counted([norm], {"n": values})
        assert (found.norms, found.norm_channels, found.relus) == (2, 3, 0)
        assert counted([norm], {"n": values}, {"n": values * 2}).norms == 0

    def test_a_norm_that_its_relu_never_lets_through(self) -> None:
        values = np.array([[-1, 1], [-2, 2]], np.float32)
        assert counted([unit("n", norm=True)], {"n": values}).norms == 1
        assert counted([unit("n", norm=True, low=-INF)], {"n": values}).norms == 0

    def test_clips_that_stay_at_their_upper_bound(self) -> None:
        clip = Unit(value="r", label="r", axis=1, is_norm=False, low=0.0, high=6.0)
        values = np.array([[6, 6, 0], [6, 5, 0]], np.float32)
        assert counted([clip], {"r": values}).relus == 2

    def test_nan_is_no_number_and_does_not_hide_others(self) -> None:
        nan = np.float32("nan")
        values = np.array([[nan, nan, 0], [nan, 1, nan]], np.float32)
        found = counted([unit()], {"r": values})
        assert (found.relus, found.relu_channels) == (1, 3)

    def test_what_has_no_such_axis_or_was_not_seen_is_not_counted(self) -> None:
        units = [unit("a"), unit("b"), unit("c")]
        batch = {"a": np.zeros(3, np.float32), "b": np.zeros((2, 3), np.int64)}
        found = counted(units[:2], batch)
        assert found == Coverage()
        assert counted(units[2:]) == Coverage()

    def test_the_three_layers_with_most_are_named(self) -> None:
        units = [unit(str(n)) for n in range(6)]
        batch = {str(n): np.zeros((1, n + 1), np.float32) for n in range(6)}
        batch["5"] += 1
        where = counted(units, batch).where
        assert where == ("4: 5 of 5 channels", "3: 4 of 4 channels", "2: 3 of 3 channels")

    def test_half_precision(self) -> None:
        found = counted([unit("n", norm=True, low=-INF)], {"n": np.full((4, 2), 3, np.float16)})
        assert found.norms == 2


def units_of(text: str) -> dict[str, Unit]:
    model = model_of(text)
    return {each.value: each for each in find_units(model, find_layouts(model))}


STORED = (
    "<float[2] s = {1, 1}, float[2] b = {0, -100}, float[2] m = {0, 0}, float[2] v = {1, 1},"
    " float[2, 2, 1, 1] w = {1, 0, 0, 1}, float zero = {0}, float six = {6}, float minus = {-1}>"
)
IMAGE = "(float[N, 2, 3, 3] x) => (float[N, 2, 3, 3] y)"
NORM = "n = BatchNormalization(x, s, b, m, v)"


class TestUnits:
    @pytest.mark.parametrize(
        ("behind", "low", "high"),
        [
            ("y = Relu(n)", 0, INF),
            ("y = Clip(n, zero, six)", 0, 6),
            ("y = Clip(n, minus, six)", -INF, INF),
            ("y = LeakyRelu(n)", -INF, INF),
            ("r = Relu(n) y = Add(r, n)", -INF, INF),
            ("r = Relu(n) c = Clip(n, zero, six) y = Add(r, c)", 0, INF),
        ],
    )
    def test_a_norm_is_cut_off_by_all_that_reads_it(
        self, behind: str, low: float, high: float
    ) -> None:
        found = units_of(f"{IMAGE} {STORED} {{ {NORM} {behind} }}")["n"]
        assert (found.is_norm, found.axis, found.low, found.high) == (True, 1, low, high)

    def test_a_norm_that_is_given_out_is_not_cut_off(self) -> None:
        text = "(float[N, 2, 3, 3] x) => (float[N, 2, 3, 3] y, float[N, 2, 3, 3] n)"
        assert units_of(f"{text} {STORED} {{ {NORM} y = Relu(n) }}")["n"].low == -INF

    def test_a_clip_of_old_opsets(self) -> None:
        text = (
            '<ir_version: 8, opset_import: ["" : 9]> g (float[N, 4] x) => (float[N, 4] y)'
            " { y = Clip <min: float = 0.0, max: float = 6.0> (x) }"
        )
        found = units_of(text)["y"]
        assert (found.low, found.high, found.axis) == (0, 6, -1)

    def test_channels_that_lie_last(self) -> None:
        text = (
            f"(float[N, 3, 3, 2] x) => (y) {STORED} {{ r = Relu(x)"
            " t = Transpose <perm = [0, 3, 1, 2]> (r) y = Conv(t, w) }"
        )
        assert units_of(text)["r"].axis == 3


def measured(model: Model, *values: np.ndarray, memory: int = 2**20) -> Coverage | None:
    def written(model: Model, patches: Sequence[Patch]) -> Runnable:
        return patched(model, patches)

    with Host() as host:
        return measure_coverage(
            model,
            find_layouts(model),
            [Fed(values={"x": each}) for each in values],
            host=host,
            patched=written,
            memory=memory,
        )


@pytest.mark.parametrize("memory", [1, 2**20])
def test_of_a_model(tmp_path, memory: int) -> None:
    from inspector.flows.opened import opened
    from inspector.read.shapes import with_inferred_shapes

    text = f'<ir_version: 8, opset_import: ["" : 17]> g {IMAGE} {STORED} {{ {NORM} y = Relu(n) }}'
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    model = with_inferred_shapes(opened(path, ()))
    values = np.random.default_rng(0).standard_normal((5, 2, 3, 3)).astype(np.float32)
    found = measured(model, values, values[:1], memory=memory)
    assert found is not None
    assert (found.norms, found.norm_channels) == (1, 2)
    assert (found.relus, found.relu_channels) == (1, 2)
    assert len(found.where) == 2
    assert "BatchNormalization" in found.where[0]
    assert measured(model, values[:, :, :2]) is None  # does not run
