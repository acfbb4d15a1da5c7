from __future__ import annotations

import numpy as np
import pytest

from compare.read import model_of
from inspector.compare.feeds import (
    BATCH_SIZES,
    MORE_SIZES,
    MOST_ELEMENTS,
    Batch,
    Plan,
    has_free_lengths,
    make_batches,
)
from inspector.compare.layout import Layouts, find_layouts
from inspector.compare.pair import OutputsDifferError, Pair, pair_inputs, pair_outputs
from inspector.errors import UndecidedError, UsageError

ANY = Plan()
NONE = Layouts(axes={}, flat={}, told_by={})


def pairs_of(left: str, right: str, layout: str | None = None) -> tuple[Pair, ...]:
    models = [model_of(f"({inputs}) => (float[1] y) {{ }}") for inputs in (left, right)]
    return pair_inputs(*models, (NONE, NONE), layout)


def names(pairs: tuple[Pair, ...]) -> list[tuple[str, str]]:
    return [(each.left.name, each.right.name) for each in pairs]


def batches_of(left: str, right: str, plan: Plan = ANY, seed: int = 0) -> tuple[Batch, ...]:
    models = tuple(model_of(f"({inputs}) => (float[1] y) {{ }}") for inputs in (left, right))
    pairs = pair_inputs(*models, (NONE, NONE))
    orders = [each.permutations[0] for each in pairs]
    return make_batches(pairs, orders, models, seed=seed, plan=plan)  # type: ignore[arg-type]  # two models


class TestPairs:
    def test_names_come_before_order(self) -> None:
        found = pairs_of("float[N] a, float[N] b, float[N] c", "float[N] q, float[N] a, float[N] r")
        assert names(found) == [("a", "a"), ("b", "q"), ("c", "r")]

    def test_types_come_before_names_that_cannot_be_meant(self) -> None:
        found = pairs_of("float[N, 2] a, int64[N] b", "float[N, 2] b, int64[N] a")
        assert names(found) == [("a", "b"), ("b", "a")]

    def test_types_settle_what_the_order_does_not(self) -> None:
        found = pairs_of("float[N, 2] a, int64[N] b", "int64[N] c, float16[N, 2] d")
        assert names(found) == [("a", "d"), ("b", "c")]

    def test_counts_and_ranks_that_differ(self) -> None:
        with pytest.raises(UndecidedError, match="1 input and the right one 2"):
            pairs_of("float[N] a", "float[N] a, float[N] b")
        with pytest.raises(UndecidedError, match=r"is \[N, 3\] on the left"):
            pairs_of("float[N, 3] a", "float[N, 3, 1] a")
        models = [
            model_of(f"(float[N] x) => ({outputs}) {{ y = Relu(x) z = Exp(x) }}")
            for outputs in ("float[N] y", "float[N] y, float[N] z")
        ]
        with pytest.raises(OutputsDifferError, match="1 output and the right one 2"):
            pair_outputs(*models, (NONE, NONE))

    def test_untold_axes_are_hypotheses_that_fit(self) -> None:
        (square,) = pairs_of("float[N, 8, 8, 8] a", "float[N, 8, 8, 8] a")
        assert square.permutations == ((0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2))
        (moved,) = pairs_of("float[N, 8, 8, 3] a", "float[N, 3, 8, 8] a")
        assert moved.permutations == ((0, 3, 1, 2),)
        (batches,) = pairs_of("float[1, 8, 8, 3] a", "float[6, 3, 8, 8] a")
        assert batches.permutations == ((0, 3, 1, 2),)
        with pytest.raises(UndecidedError, match="--layout"):
            pairs_of("float[N, 8, 7, 3] a", "float[N, 3, 7, 8] a")

    def test_what_the_user_says_goes_for_the_ranks_it_speaks_of(self) -> None:
        found = pairs_of(
            "float[N, 4, 4, 3] a, float[N, 2, 2] b",
            "float[N, 3, 4, 4] a, float[N, 2, 2] b",
            "NHWC:NCHW",
        )
        assert found[0].permutations == ((0, 3, 1, 2),)
        assert found[0].told_by == "--layout"
        assert found[1].permutations == ((0, 1, 2), (0, 2, 1))
        same = pairs_of("float[N, 4, 4, 4] a", "float[N, 4, 4, 4] a", "same")
        assert same[0].permutations == ((0, 1, 2, 3),)
        with pytest.raises(UsageError):
            pairs_of("float[N, 4] a", "float[N, 4] a", "NHWC:NCHW")

    def test_layouts_tell_only_what_people_use(self) -> None:
        text = "(float[N, 2, 4, 4] x) => (y) <float[1, 2, 1, 1] w = {1, 2}> {"
        plain = model_of(f"{text} y = Conv(x, w) }}")
        swapped = model_of(f"{text} a = Transpose <perm=[0, 1, 3, 2]> (x) y = Conv(a, w) }}")
        layouts = find_layouts(plain), find_layouts(swapped)
        (found,) = pair_inputs(plain, swapped, layouts)
        assert found.told_by == ""
        assert found.permutations[0] == (0, 1, 2, 3)


class TestFeeds:
    def test_both_sides_get_the_same_values(self) -> None:
        first, *_ = batches_of("float[N, 4, 5, 3] a", "float[N, 3, 4, 5] b")
        np.testing.assert_array_equal(
            first.left.values["a"].transpose(0, 3, 1, 2), first.right.values["b"]
        )
        assert first.right.values["b"].flags.c_contiguous

    def test_seeds_draw_and_repeat(self) -> None:
        one, same, other = (
            batches_of("float[N, 4] a", "float[N, 4] a", seed=seed)[1].left.values["a"]
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, same)
        assert (one != other).all()
        with pytest.raises(UsageError, match="negative"):
            batches_of("float[N, 4] a", "float[N, 4] a", seed=-1)

    def test_sizes_kinds_and_types(self) -> None:
        found = batches_of(
            "float[N, 400] a, bool[N] m", "float16[N, 400] a, bool[N] m", Plan(sizes=MORE_SIZES)
        )
        assert tuple(each.size for each in found) == MORE_SIZES
        assert found[0].right.values["a"].dtype == np.float16
        np.testing.assert_array_equal(found[1].left.values["a"], found[1].right.values["a"])
        uniform = found[2].left.values["a"]
        assert uniform.min() >= 0
        assert uniform.max() <= 1
        assert found[3].left.values["a"].std(axis=1).max() < 0.2
        assert found[4].left.values["a"].std() > 2
        assert {*found[1].left.values["m"].tolist()} == {True, False}

    def test_all_positive_where_asked(self) -> None:
        for each in batches_of("float[N, 40] a", "float[N, 40] a", Plan(positive=True)):
            assert each.left.values["a"].min() >= 0

    def test_large_rows_come_in_fewer(self) -> None:
        sizes = [
            each.size for each in batches_of("float[N, 3, 224, 224] a", "float[N, 3, 224, 224] a")
        ]
        assert sizes == [1, 2, 2]
        assert MOST_ELEMENTS < 2 * 3 * 224 * 224

    def test_a_name_is_one_length_and_a_fixed_one_wins(self) -> None:
        first, second, _ = batches_of(
            "float[N, K] a, float[K, 3] b", "float[5, K] a, float[7, 3] b"
        )
        assert first.left.values["a"].shape == second.left.values["a"].shape == (5, 7)
        assert first.left.values["b"].shape == (7, 3)

    def test_batches_of_two_sizes_are_fed_in_parts(self) -> None:
        first, *_ = batches_of("float[4, 3] a, float[2] k", "float[6, 3] a, float[2] k")
        assert first.size == 12
        assert [len(part["a"]) for part in first.left.parts()] == [4, 4, 4]
        assert [len(part["a"]) for part in first.right.parts()] == [6, 6]
        assert [part["k"].shape for part in first.left.parts()] == [(2,)] * 3
        np.testing.assert_array_equal(
            np.concatenate([part["a"] for part in first.left.parts()]), first.left.values["a"]
        )

    @pytest.mark.parametrize(
        ("left", "right", "why"),
        [
            ("float[N, 3] a", "float[N, 4] a", "3 long on the left"),
            ("float[63] a", "float[64] a", "63 long on the left"),
            ("string[N] a", "string[N] a", "of type string"),
            ("bfloat16[N] a", "bfloat16[N] a", "of type bfloat16"),
        ],
    )
    def test_what_cannot_be_fed(self, left: str, right: str, why: str) -> None:
        with pytest.raises(UndecidedError, match=why):
            batches_of(left, right)

    def test_free_lengths(self) -> None:
        assert has_free_lengths(pairs_of("float[N, K] a", "float[N, K] a"))
        assert not has_free_lengths(pairs_of("float[N, 3] a", "float[N, 3] a"))
        assert batches_of("float[N, K] a", "float[N, K] a", Plan(free=7))[0].left.values[
            "a"
        ].shape == (1, 7)
        assert BATCH_SIZES[0] == 1
