from __future__ import annotations

import numpy as np
import pytest

from compare import nets
from inspector.compare.measuring.floor import (
    FLOORS,
    FLOORS_COARSE,
    ULPS,
    Grain,
    _median,
    allowance,
    measure,
    moved_by_an_ulp,
)
from inspector.compare.runtime.run import Fed, Runner

EPS = float(np.finfo(np.float32).eps)


def as_f32(values: object) -> np.ndarray:
    return np.asarray(values, np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_moved_inputs_are_neighbours(dtype: type) -> None:
    values = np.linspace(-3, 3, 50).astype(dtype)
    moved = moved_by_an_ulp(Fed(values={"x": values}), np.random.default_rng(0)).values["x"]
    assert moved.dtype == dtype
    up, down = (np.nextafter(values, dtype(end)) for end in (np.inf, -np.inf))
    assert ((moved == up) | (moved == down)).all()
    assert {*(moved > values)} == {True, False}


def test_integers_are_not_moved() -> None:
    values = np.arange(5)
    moved = moved_by_an_ulp(Fed(values={"x": values}), np.random.default_rng(0)).values["x"]
    assert moved is values


def test_a_model_lies_a_little_from_itself() -> None:
    data = nets.deep(seed=0, layers=4).SerializeToString()
    runners = [Runner(data, name="m", optimise=on) for on in (True, False)]
    rng = np.random.default_rng(0)
    fed = [Fed(values={"x": as_f32(rng.standard_normal((n, 3, 12, 12)))}) for n in (1, 4)]
    results = [runners[0].run(each) for each in fed]
    (moved,) = measure(runners[0], runners[1:], fed, results, seed=0).values()
    assert [each.shape for each in moved] == [(1, 5), (4, 5)]
    top = max(float(np.abs(next(iter(each.values()))).max()) for each in results)
    assert 0 < max(float(each.max()) for each in moved) < 1e-4 * top


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_the_median_is_that_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).standard_normal(count)
    assert _median(values) == np.median(values)
    assert np.isnan(_median(np.append(values, np.nan)))


class TestAllowance:
    def test_at_least_some_ulps_of_the_largest(self) -> None:
        values = as_f32([[1.0], [-8.0]])
        found = allowance([values], [values], [np.zeros_like(values)])
        assert found.floor == 0.0
        assert found.whole == pytest.approx(ULPS * EPS * 8)
        np.testing.assert_allclose(np.broadcast_to(found.bounds[0], (2, 1)), found.whole)

    def test_floors_of_both_sides_count(self) -> None:
        values = as_f32([[1.0], [2.0]])
        quiet, loud = np.zeros((2, 1)), np.array([[0.0], [0.01]])
        for sides in ((quiet, loud), (loud, quiet)):
            found = allowance([values], [values], *([each] for each in sides))
            assert found.floor == 0.01
            assert found.whole == pytest.approx(FLOORS * 0.01)

    def test_each_place_has_its_own_bound(self) -> None:
        values = as_f32([[1e6, 1.0], [-1e6, 0.5]])
        moved = np.array([[0.1, 1e-7], [0.0, 0.0]])
        bound = allowance([values], [values], [moved]).bounds[0]
        assert bound.shape[1] == 2
        assert bound[0, 0] == pytest.approx(FLOORS * 0.1)
        assert bound[0, 1] < 1e-5

    def test_a_place_without_a_floor_takes_the_typical_share(self) -> None:
        values = as_f32(np.ones((4, 5)))
        moved = np.full((4, 5), 1e-4)
        moved[:, 2] = 0.0
        bound = allowance([values], [values], [moved]).bounds[0]
        np.testing.assert_allclose(bound, FLOORS * 1e-4)

    def test_no_bound_is_wider_than_that_of_the_whole(self) -> None:
        rng = np.random.default_rng(0)
        values = [as_f32(rng.standard_normal((3, 4, 5)) * 10.0 ** rng.integers(-6, 6, (1, 4, 1)))]
        moved = [np.abs(rng.standard_normal((3, 4, 5))) * 1e-6]
        found = allowance(values, values, moved)
        assert (found.bounds[0] <= found.whole).all()

    def test_lengths_that_change_between_batches_share_one_bound(self) -> None:
        values = [as_f32(np.ones((2, n))) for n in (3, 4)]
        moved = [np.zeros((2, n)) for n in (3, 4)]
        found = allowance(values, values, moved)
        assert [each.size for each in found.bounds] == [1, 1]

    @pytest.mark.parametrize("dtype", [np.int64, np.bool_, object])
    def test_what_is_no_float_is_equal_or_not(self, dtype: type) -> None:
        values = np.zeros((2, 2), dtype)
        found = allowance([values], [values], [np.zeros((2, 2))])
        assert found.whole == 0.0
        assert not found.bounds[0].any()

    def test_the_coarser_type_decides(self) -> None:
        values = np.ones((2, 1))
        half, single = values.astype(np.float16), as_f32(values)
        found = allowance([half], [single], [np.zeros((2, 1))], [np.zeros((2, 1))])
        assert found.whole == pytest.approx(ULPS * float(np.finfo(np.float16).eps))

    def test_a_coarser_side_behind_the_outputs_type_decides(self) -> None:
        values = as_f32([[1.0], [-8.0]])
        moved = np.full((2, 1), 0.5)
        for grain, floors in (
            (Grain(unit=2.0**-10), FLOORS_COARSE),
            (Grain(quantised=True), FLOORS_COARSE),
            (Grain(unit=2.0**-52), FLOORS),
        ):
            assert allowance([values], [values], moved[None], grain=grain).whole == floors * 0.5
        found = allowance([values], [values], [np.zeros((2, 1))], grain=Grain(unit=2.0**-10))
        assert found.whole == ULPS * 2.0**-10 * 8

    def test_scalars_and_empty_outputs(self) -> None:
        scalar = as_f32(2.0)
        assert allowance([scalar], [scalar], [np.zeros(())]).bounds[0].shape == ()
        empty = as_f32(np.zeros((0, 3)))
        assert allowance([empty], [empty], [np.zeros((0, 3))]).whole == 0.0

    def test_nan_does_not_spread(self) -> None:
        values = as_f32([[1.0, np.nan], [2.0, 3.0]])
        found = allowance([values], [values], [np.zeros((2, 2))])
        assert np.isfinite(found.bounds[0]).all()
