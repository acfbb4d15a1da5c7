from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare.read import model_of
from inspector.compare.feeding.feeds import (
    BATCH_SIZES,
    MORE_SIZES,
    MOST_ELEMENTS,
    Batch,
    Plan,
    has_free_lengths,
    make_batches,
    plans,
)
from inspector.compare.feeding.ranges import Range, find_ranges
from inspector.compare.pairing.layout import Layouts, find_layouts
from inspector.compare.pairing.pair import (
    OutputsDifferError,
    Pair,
    left_out,
    pair_inputs,
    pair_outputs,
)
from inspector.errors import UndecidedError, UsageError
from inspector.facts.model import Model, Value

ANY = Plan()
NONE = Layouts(axes={}, flat={}, told_by={})


def pairs_of(
    left: str, right: str, layout: str | None = None, named: Sequence[str] = ()
) -> tuple[Pair, ...]:
    models = [model_of(f"({inputs}) => (float[1] y) {{ }}") for inputs in (left, right)]
    return pair_inputs(*models, (NONE, NONE), layout, named)


def outputs_of(left: str, right: str, named: Sequence[str] = ()) -> list[tuple[str, str]]:
    models = [model_of(f"(float[N] x) => ({outputs}) {{ }}") for outputs in (left, right)]
    return names(pair_outputs(*models, (NONE, NONE), named))


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

    def test_namesakes_by_chance_are_told_by_their_lengths(self) -> None:
        found = pairs_of("float[N, 3] a, float[N, 5] b", "float[N, 3] b, float[N, 5] a")
        assert names(found) == [("a", "b"), ("b", "a")]
        found = pairs_of("float[N, 3] a, float[N, 3] b", "float[N, 3] b, float[N, 3] a")
        assert names(found) == [("a", "a"), ("b", "b")]
        assert outputs_of("float[N, 3] a, float[N, 5] b", "float[N, 5] a, float[N, 3] b") == [
            ("a", "b"),
            ("b", "a"),
        ]

    def test_a_later_input_may_move_an_earlier_one(self) -> None:
        # The open one of the left fits both, and only one of the right fits the other.
        found = pairs_of("float[N, K] a, float[N, 3] b", "float[N, 3] p, float[N, 5] q")
        assert names(found) == [("a", "q"), ("b", "p")]

    def test_names_stay_where_nothing_fits(self) -> None:
        found = pairs_of("float[N, 3] a, float[N, 3] b", "float[N, 4] b, int64[N, 3] a")
        assert names(found) == [("a", "a"), ("b", "b")]

    def test_inputs_with_a_value_of_their_own_are_not_fed(self) -> None:
        left = model_of("(float[N, 2] x) => (y) <float[2] w = {1, 2}> { y = Mul(x, w) }")
        right = model_of(
            "(float[2] w, float[N, 2] x) => (y) <float[2] w = {1, 2}> { y = Mul(x, w) }"
        )
        assert names(pair_inputs(left, right, (NONE, NONE))) == [("x", "x")]
        with pytest.raises(UsageError, match="no input or output 'w'"):
            pair_inputs(left, right, (NONE, NONE), None, ["x=w"])

    def test_counts_that_differ_name_what_is_alone(self) -> None:
        with pytest.raises(UndecidedError, match=r"\(alone: 'b' on the right\)"):
            pairs_of("float[N] a", "float[N] a, float[N] b")
        with pytest.raises(OutputsDifferError, match=r"\(alone: 'z' on the right\); .*--map"):
            outputs_of("float[N] y", "float[N] y, float[N] z")


class TestAsked:
    SIDES = "float[N, 3] a, float[N, 3] b", "float[N, 3] a, float[N, 3] b"

    def test_what_the_user_says_comes_before_names(self) -> None:
        assert names(pairs_of(*self.SIDES, named=["a=b"])) == [("a", "b"), ("b", "a")]
        assert outputs_of(*self.SIDES, ["a=b", "b=a"]) == [("a", "b"), ("b", "a")]

    @pytest.mark.parametrize(
        ("named", "words"),
        [
            (["a"], "has no '='"),
            ([""], "has no '='"),
            (["a=c"], "right model has no input or output 'c'; .*inputs 'a', 'b'"),
            (["c=a"], "left model has no input or output 'c'"),
            (["=a"], "left model has no input or output ''"),
            (["y=a"], "pairs an input with an output"),
            (["a=a", "a=b"], "'a' is paired with 'a' already"),
            (["a=b", "b=b"], "'b' is paired with 'a' already"),
        ],
    )
    def test_what_names_nothing_is_wrong_usage(self, named: list[str], words: str) -> None:
        with pytest.raises(UsageError, match=words) as caught:
            pairs_of(*self.SIDES, named=named)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    def test_the_nearest_name_is_suggested(self) -> None:
        sides = "float[N] images, float[N] b", "float[N] pixels, float[N] b"
        with pytest.raises(UsageError, match="did you mean 'pixels'"):
            pairs_of(*sides, named=["images=pixel"])

    def test_names_may_hold_the_sign(self) -> None:
        def model(*inputs: str) -> Model:
            made = model_of("(float[N] p, float[N] q) => (float[N] y) { y = Add(p, q) }")
            values = tuple(
                replace(value, name=name)
                for value, name in zip(made.graph.inputs, inputs, strict=True)
            )
            return replace(made, graph=replace(made.graph, inputs=values))

        models = model("a=b", "c"), model("c=d", "a")
        found = pair_inputs(*models, (NONE, NONE), None, ["a=b=c=d"])
        assert names(found) == [("a=b", "c=d"), ("c", "a")]
        two_ways = model("a", "a=b"), model("b=c", "c")
        with pytest.raises(UsageError, match="several ways"):
            pair_inputs(*two_ways, (NONE, NONE), None, ["a=b=c"])

    def test_outputs_of_one_side_alone_are_left_out_where_the_user_maps(self) -> None:
        sides = "float[N] y, float[N] p", "float[N] q, float[N] aux, float[N] y"
        with pytest.raises(OutputsDifferError):
            outputs_of(*sides)
        assert outputs_of(*sides, ["p=q"]) == [("y", "y"), ("p", "q")]
        assert outputs_of(*sides, ["y=aux"]) == [("y", "aux")]
        models = [model_of(f"(float[N] x) => ({outputs}) {{ }}") for outputs in sides]
        kept = pair_outputs(*models, (NONE, NONE), ["y=aux"])
        assert left_out(*models, kept) == (
            "not compared: output 'p' of the left model",
            "not compared: outputs 'q', 'y' of the right model",
        )
        assert (
            left_out(models[0], models[0], pair_outputs(models[0], models[0], (NONE, NONE))) == ()
        )

    def test_an_input_of_the_name_of_an_output_is_both(self) -> None:
        model = model_of("(float[N] x) => (float[N] x) { }")
        assert names(pair_inputs(model, model, (NONE, NONE), None, ["x=x"])) == [("x", "x")]


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4)
KINDS = st.sampled_from([("float32", ("N", 3)), ("float32", ("N", 4)), ("int64", ("N",))])


@st.composite
def interfaces(draw: st.DrawFn) -> tuple[list[Value], list[Value]]:
    """Values of one left and one right interface: the same kinds, in any order, any names."""
    kinds = draw(st.lists(KINDS, min_size=1, max_size=5))
    sides = []
    for order in (kinds, draw(st.permutations(kinds))):
        found = draw(st.lists(NAMES, min_size=len(kinds), max_size=len(kinds), unique=True))
        sides.append(
            [
                Value(name=name, dtype=dtype, dims=dims)
                for name, (dtype, dims) in zip(found, order, strict=True)
            ]
        )
    return sides[0], sides[1]


EMPTY = model_of("(float[N] x) => (float[N] x) { }")


def fed_with(values: Sequence[Value]) -> Model:
    return replace(EMPTY, graph=replace(EMPTY.graph, inputs=tuple(values), outputs=tuple(values)))


class TestProperties:
    @settings(max_examples=150, deadline=None)
    @given(interfaces())
    def test_swapping_sides_mirrors_pairs_and_values(
        self, sides: tuple[list[Value], list[Value]]
    ) -> None:
        left, right = map(fed_with, sides)
        found = pair_inputs(left, right, (NONE, NONE))
        mirrored = pair_inputs(right, left, (NONE, NONE))
        assert sorted(names(found)) == sorted((b, a) for a, b in names(mirrored))
        for pair in found:
            assert pair.left.dims == pair.right.dims
            assert pair.left.dtype == pair.right.dtype
        plan = Plan(sizes=(3,))
        orders = [each.permutations[0] for each in found]
        (one,) = make_batches(found, orders, (left, right), seed=1, plan=plan)
        orders = [each.permutations[0] for each in mirrored]
        (other,) = make_batches(mirrored, orders, (right, left), seed=1, plan=plan)
        for name, values in one.left.values.items():
            np.testing.assert_array_equal(values, other.right.values[name])

    @settings(max_examples=100, deadline=None)
    @given(interfaces(), st.randoms())
    def test_the_order_of_namesakes_changes_nothing(
        self, sides: tuple[list[Value], list[Value]], random: Random
    ) -> None:
        values, _ = sides
        shuffled = list(values)
        random.shuffle(shuffled)
        models = fed_with(values), fed_with(shuffled)
        assert all(a == b for a, b in names(pair_inputs(*models, (NONE, NONE))))
        assert all(a == b for a, b in names(pair_outputs(*models, (NONE, NONE))))

    @settings(max_examples=100, deadline=None)
    @given(interfaces(), st.data())
    def test_what_is_asked_is_done_or_refused(
        self, sides: tuple[list[Value], list[Value]], data: st.DataObject
    ) -> None:
        a, b = (data.draw(st.sampled_from(each)) for each in sides)
        models = tuple(map(fed_with, sides))
        asked = [f"{a.name}={b.name}"]
        if "=" in asked[0].replace("=", "", 1) or a.dims != b.dims:
            with suppress(UsageError, UndecidedError):  # another split, or ranks that differ
                pair_inputs(*models, (NONE, NONE), None, asked)
        else:
            assert (a.name, b.name) in names(pair_inputs(*models, (NONE, NONE), None, asked))


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
            ("string[N] a", "float[N] a", "of type string on the left"),
            ("bfloat16[N] a", "bfloat16[N] a", "of type bfloat16"),
            ("complex64[N] a", "complex64[N] a", "of type complex64"),
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

    def test_samples_are_rows_in_all(self) -> None:
        def sizes(inputs: str, samples: int) -> list[int]:
            return [each.size for each in batches_of(inputs, inputs, Plan(samples=samples))]

        assert sizes("float[N, 4] a", 1) == [1]
        assert sizes("float[N, 4] a", 70) == [1, 32, 32, 5]
        assert sizes("float[N, 3, 224, 224] a", 4) == [1, 2, 1]
        assert sizes("float[6, 4] a", 7) == [6, 6]
        assert sizes("", 3) == [1]
        for none in (0, -1):
            with pytest.raises(UsageError, match="--samples"):
                sizes("float[N, 4] a", none)

    def test_plans_end_with_what_is_held_back(self) -> None:
        floats = list(plans(pairs_of("float[N, 4] a", "float[N, 4] a"), Plan()))
        assert [(each.most, each.tame) for each in floats] == [(32, 0), (1, 0)]
        whole = list(plans(pairs_of("int64[N, K] a", "int64[N, K] a"), Plan()))
        assert {each.tame for each in whole} == {0, 1, 2, 3}
        assert {each.free for each in whole} == {32, 64, 224, 1}

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            ("uint8", "float"),
            ("int64", "float16"),
            ("bool", "float"),
            ("float16", "double"),
            ("int8", "uint8"),
            ("int64", "bool"),
            ("uint64", "int16"),
        ],
    )
    def test_types_that_differ_get_the_same_numbers(self, left: str, right: str) -> None:
        for pair in ((left, right), (right, left)):
            for each in batches_of(*(f"{kind}[N, 50] a" for kind in pair)):
                a, b = each.left.values["a"], each.right.values["a"]
                np.testing.assert_array_equal(a.astype(np.float64), b.astype(np.float64))
                assert a.std() > 0

    def test_integers_beyond_what_a_small_float_holds_are_not_drawn(self) -> None:
        left = model_of("(int64[N] x) => (y) <int64 k = {70000}> { y = Equal(x, k) }")
        right = model_of("(float16[N] x) => (y) { y = Relu(x) }")
        pairs = pair_inputs(left, right, (NONE, NONE))
        batches = make_batches(pairs, [(0,)], (left, right), seed=0, plan=Plan(sizes=(32,) * 9))
        for each in batches:
            a, b = each.left.values["x"], each.right.values["x"]
            np.testing.assert_array_equal(a, b.astype(np.int64))

    def test_a_scalar_stays_one(self) -> None:
        first, *_ = batches_of("float a, bool f, string s", "float a, bool f, string s")
        assert {each.shape for each in first.left.values.values()} == {()}

    def test_bytes_have_their_whole_range(self) -> None:
        _, batch, _ = batches_of(
            "uint8[N, 300] a, int8[N, 300] b", "uint8[N, 300] a, int8[N, 300] b"
        )
        assert batch.left.values["a"].max() > 250
        assert batch.left.values["b"].min() < -120


def drawn(text: str, name: str, plan: Plan = ANY) -> np.ndarray:
    """What is drawn for an input of a model compared with itself, of the second batch."""
    model = model_of(text)
    pairs = pair_inputs(model, model, (NONE, NONE))
    orders = [each.permutations[0] for each in pairs]
    batches = make_batches(pairs, orders, (model, model), seed=0, plan=plan)
    return batches[1].left.values[name]


def test_ranges_of_indices() -> None:
    table = "<float[3, 7] t = {1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7}>"
    for node, top in (
        ("y = Gather(t, x)", 3),
        ("y = Gather <axis: int = 1> (t, x)", 7),
        ("y = Gather <axis: int = -1> (t, x)", 7),
        ("y = GatherElements <axis: int = 1> (t, x)", 7),
        ("y = GatherND(t, x)", 3),
        ("c = Cast <to: int = 7> (x) u = Unsqueeze(c, k) y = Gather(t, u)", 3),
    ):
        values = drawn(f"(int64[N, 2] x, int64[1] k) => (y) {table} {{ {node} }}", "x")
        assert values.min() == 0, node
        assert values.max() == top - 1, node
    one_hot = "(int64[N] x) => (y) <int64 d = {4}, float[2] v = {0, 1}> { y = OneHot(x, d, v) }"
    assert {*drawn(one_hot, "x").tolist()} == {0, 1, 2, 3}


def test_ranges_in_subgraphs() -> None:
    text = (
        "(int64[N] x, bool c) => (y) <float[3] t = {1, 2, 3}> { y = If(c) <then_branch = a ()"
        " => (float[N] p) { p = Gather(t, x) }, else_branch = b () => (float[N] q)"
        " { q = Gather(t, x) }> }"
    )
    assert find_ranges(["x"], model_of(text)) == (Range(low=0, high=3),)


@pytest.mark.parametrize(
    ("body", "least", "most"),
    [
        ("y = Div(k, x)", 1, 9),
        ("y = Mod(k, x)", 1, 9),
        ("y = ConstantOfShape(x)", 1, 3),
        ("y = Expand(k, x)", 1, 1),
        ("y = Tile(k, x)", 1, 2),
        ("y = CumSum(k, x)", 0, 0),
        ("m = Cast <to: int = 9> (x) y = Not(m)", 0, 1),
        ("m = Cast <to: int = 1> (x) y = Sub(one, m)", 0, 1),
    ],
)
def test_ranges_of_what_shapes_divide_and_masks(body: str, least: int, most: int) -> None:
    text = f"(int64[N] x) => (y) <int64[1] k = {{5}}, float one = {{1}}> {{ {body} }}"
    values = drawn(text, "x")
    assert values.min() >= least
    assert values.max() == most


def test_numbers_that_a_model_asks_for_are_drawn_often() -> None:
    values = drawn("(int64[N] x) => (y) <int64 k = {5000}> { y = Equal(x, k) }", "x")
    assert (values == 5000).any()
    assert (values != 5000).any()


def test_masks_set_one_in_each_row() -> None:
    text = "(int64[N, 2] x) => (y) { m = Cast <to: int = 9> (x) y = Not(m) }"
    values = drawn(text, "x", Plan(sizes=(1, 100)))
    assert values.max(axis=1).min() == 1
    assert {*values.reshape(-1).tolist()} == {0, 1}


def test_a_shape_that_is_fed_fits_whatever_it_reshapes() -> None:
    text = "(int64[3] s, float[N, 4] x) => (y) { y = Reshape(x, s) }"
    assert drawn(text, "s").tolist() == [-1, 1, 1]
    assert drawn(text, "s", Plan(tame=2)).tolist() == [1, 1, 1]
    axes = "(int64[2] s, float[N, 4] x) => (y) { y = ReduceSum(x, s) }"
    assert drawn(axes, "s").tolist() == [0, 1]


def test_variances_and_arguments_of_inverses_are_within_bounds() -> None:
    norm = (
        "(float[N, 2] x, float[2] s, float[2] b, float[2] m, float[2] v) => (y)"
        " { y = BatchNormalization(x, s, b, m, v) }"
    )
    assert drawn(norm, "v").min() > 0
    assert drawn(norm, "x").min() < 0
    assert drawn("(float[N] x) => (y) { y = Acosh(x) }", "x").min() >= 1


def test_lengths_are_no_longer_than_their_sequences() -> None:
    text = (
        "(float[6, N, 3] x, int32[N] n) => (y)"
        " { y = ReverseSequence <time_axis: int = 0, batch_axis: int = 1> (x, n) }"
    )
    values = drawn(text, "n")
    assert values.min() == 1
    assert values.max() == 6


def test_words_that_the_model_knows_and_others() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> g (string[N] x) => (y)
        { y = ai.onnx.ml.LabelEncoder <keys_strings = ["cat", "dog"], values_int64s = [1, 2]> (x) }
    """
    found = {*drawn(text, "x", Plan(sizes=(1, 200))).tolist()}
    assert {"cat", "dog", "word"} <= found
    assert {*drawn(text, "x", Plan(sizes=(1, 200), tame=1)).tolist()} == {"cat", "dog"}


def test_words_are_numerals_where_they_are_read_as_numbers() -> None:
    text = "(string[N] x) => (y) { y = Cast <to: int = 1> (x) }"
    assert all(each.isdecimal() for each in drawn(text, "x"))


def test_rows_are_counted_where_they_are_open() -> None:
    (batch,) = batches_of(
        "int64[1] k, float[N, 4] a", "int64[1] k, float[N, 4] a", Plan(sizes=(7,))
    )
    assert batch.size == 7


def test_training_is_never_switched_on() -> None:
    text = "(float[N, 4] x, float r, bool t) => (y) { y = Dropout(x, r, t) }"
    assert not drawn(text, "t").any()


def test_integers_are_held_back_in_three_ways() -> None:
    text = "(int64[N] x) => (y) { y = Identity(x) }"
    for tame, values in ((1, {0, 1}), (2, {1}), (3, {0})):
        assert {*drawn(text, "x", Plan(tame=tame)).tolist()} == values
    table = "(int64[N] x) => (y) <float[1] t = {1}> { y = Gather(t, x) }"
    assert {*drawn(table, "x", Plan(tame=2)).tolist()} == {0}
