"""Sentences about causes end where they end, whatever a cause does not know."""

from __future__ import annotations

import pytest

from inspector.facts.comparison import (
    ONE_VALUE,
    CauseKind,
    Comparison,
    PairedInput,
    Proof,
    Verdict,
)
from inspector.report import render
from tests.report.test_report_comparison import comparison, made


def page(**known: object) -> str:
    plain = {"left_where": "", "right_where": "", "left": "present", "right": "missing"}
    base = comparison("m", Verdict.DIFFERENT)
    cause = made(type(base.causes[0]), **plain | {"kind": CauseKind.MISSING} | known)
    return render(made(Comparison, verdict=Verdict.DIFFERENT, causes=(cause,)), "text")


@pytest.mark.parametrize("kind", CauseKind)
@pytest.mark.parametrize("places", [("", ""), ("A 'a'", ""), ("", "B 'b'"), ("A 'a'", "B 'b'")])
@pytest.mark.parametrize("sides", [("present", "missing"), ("missing", "present"), ("1", "2")])
def test_nothing_dangles(kind: CauseKind, places: tuple[str, str], sides: tuple[str, str]) -> None:
    text = page(
        kind=kind,
        what="Cast",
        left_where=places[0],
        right_where=places[1],
        left=sides[0],
        right=sides[1],
    )
    (line,) = (each for each in text.splitlines() if each.startswith("  1 "))
    assert line == line.rstrip(" ,:/")
    assert not line.endswith(" in")
    assert ", ," not in line
    assert "/ /" not in line
    for each in filter(None, places):
        assert each in line


def test_values_far_away_are_told_in_a_sentence() -> None:
    text = page(
        kind=CauseKind.STRUCTURE,
        what="values",
        left=ONE_VALUE,
        right="up to 8.39 away",
        left_where="Add 'a'",
        right_where="Add 'b'",
    )
    assert "1 other values on the right, up to 8.39 away, in Add 'a' / Add 'b'" in text


def test_where_nothing_tells_the_layout() -> None:
    told = "no operator (the first order of axes that fits is taken)"
    given = made(PairedInput, left="x", right="x", told_by=told)
    text = render(made(Comparison, verdict=Verdict.AGREES, inputs=(given,)), "text")
    assert f"told by {told}" in " ".join(text.split())


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (
            {"patched_to": "to/\x1b[31mfixed.onnx"},
            "patched model written to to/\\x1b[31mfixed.onnx",
        ),
        ({"not_patched": "nothing was decided"}, "no patched model written: nothing was decided"),
    ],
)
def test_whether_the_patched_model_was_written(known: dict[str, str], line: str) -> None:
    assert line in render(made(Comparison, verdict=Verdict.UNDECIDED, **known), "text")


def test_an_effect_without_a_number_is_said_in_words() -> None:
    far = {"what": "Pad", "proof": Proof.NECESSARY, "share": None}
    assert "moves the outputs by 0.5" in page(effect=0.5, **far)
    text = page(effect=float("inf"), **far)
    assert "another shape, or that are not finite" in text
    assert "inf" not in text.replace("finite", "")
