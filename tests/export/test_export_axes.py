"""Axes that are to be of any length, by their names."""

from __future__ import annotations

import pytest

from inspector.errors import UsageError
from inspector.export.axes import Order, free_axes, parse

FIRST, LAST = Order.FIRST, Order.LAST


@pytest.mark.parametrize(
    ("wanted", "ranks", "order", "found"),
    [
        ("batch", [4], FIRST, [{0: "batch"}]),
        ("batch,height,width", [4], FIRST, [{0: "batch", 2: "height", 3: "width"}]),
        ("batch,height,width", [4], LAST, [{0: "batch", 1: "height", 2: "width"}]),
        ("depth,height,width", [5], FIRST, [{2: "depth", 3: "height", 4: "width"}]),
        ("depth,height,width", [5], LAST, [{1: "depth", 2: "height", 3: "width"}]),
        ("length", [3], FIRST, [{2: "length"}]),
        ("length", [3], LAST, [{1: "length"}]),
        ("length", [2], FIRST, [{1: "length"}]),
        ("batch,tokens=1", [2], FIRST, [{0: "batch", 1: "tokens"}]),
        ("height", [4, 2], FIRST, [{2: "height"}, {}]),
        ("batch", [4, 0], LAST, [{0: "batch"}, {}]),
        ("batch,points=2", [3, 2], LAST, [{0: "batch", 2: "points"}, {0: "batch"}]),
        ("none", [4], FIRST, [{}]),
        ("", [4], FIRST, [{}]),
        (" batch , width ", [4], LAST, [{0: "batch", 2: "width"}]),
    ],
)
def test_the_axes_of_each_input(wanted, ranks, order, found):
    assert list(free_axes(parse(wanted), ranks, order)) == found


@pytest.mark.parametrize("text", ["breadth", "batch,2", "=1", "a=b", "width=-1", "none,batch"])
def test_what_names_no_axis(text):
    with pytest.raises(UsageError, match="names no axis"):
        parse(text)


@pytest.mark.parametrize(
    ("wanted", "ranks"), [("height", [2]), ("length", [4]), ("points=4", [4]), ("batch", [0])]
)
def test_an_axis_that_no_input_has(wanted, ranks):
    with pytest.raises(UsageError, match=r"no input has an axis") as refused:
        free_axes(parse(wanted), ranks, FIRST)
    assert "name=axis" in str(refused.value)
