"""Numbers and names in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.report.words import fitted, listed, many, number, printable, shortest, size


@given(st.text())
def test_what_is_printed_prints(text):
    assert printable(text).isprintable()
    assert text.isprintable() is (printable(text) == text) or not text.isprintable()


@given(st.floats())
def test_numbers_fit_their_column(value):
    assert len(number(value)) <= 8
    if 1e-90 < abs(value) < 1e90:
        assert float(number(value)) == pytest.approx(value, rel=0.06)


@given(st.floats(width=32), st.sampled_from([7, 9]))
def test_attributes_fit_theirs(value, width):
    assert len(fitted(value, width)) <= width


@pytest.mark.parametrize(
    ("value", "text"), [(9.999999747378752e-06, "1e-05"), (0.8999999761581421, "0.9"), (0.5, "0.5")]
)
def test_float32_without_its_noise(value, text):
    assert shortest(value) == fitted(value, 9) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (10**12, "1000.0 GB")]
)
def test_sizes(count, text):
    assert size(count) == text


def test_counts_and_lists():
    assert many(1, "layer") == "1 layer"
    assert many(1200, "layer") == "1,200 layers"
    assert listed("abc", most=2) == "a, b and 1 more"
