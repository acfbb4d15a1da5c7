"""The report of a comparison, whatever the two models are called."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest
from rich.cells import cell_len

from inspector.facts.comparison import (
    Cause,
    CauseKind,
    Comparison,
    Difference,
    PairedInput,
    PairedNorm,
    PairedOutput,
    ParameterMatch,
    Proof,
    Verdict,
)
from inspector.report import render

NAMES = ["plain", "\x1b[2J\x1b[31mx", "a\nb\r", "[bold]x[/]", "rtl\u202ex", "long/" * 90, "層" * 80]


def made(fact: type, /, **known: object):
    """A fact with the fields that matter here; the others are 0, empty or None by their type."""
    plain = {"int": 0, "float": 0.25, "str": "", "bool": False}
    rest = {
        each.name: plain.get(str(each.type), () if "tuple" in str(each.type) else None)
        for each in fields(fact)
        if each.name not in known
    }
    return fact(**rest, **known)


def comparison(name: str, verdict: Verdict, number: float = 0.25) -> Comparison:
    far = made(Difference, shape=(2, 10), max_abs=number, at=(1, 3), left_at=number, top1=0.5)
    cause = made(
        Cause,
        kind=CauseKind.EPSILON,
        what="epsilon",
        left_where=name,
        right_where=name,
        left="0.001",
        right="1e-05",
        proof=Proof.NECESSARY,
        effect=number,
        reason=name,
    )
    return made(
        Comparison,
        left=name,
        right=f"{name}.right",
        left_producer=name,
        right_producer=name,
        verdict=verdict,
        reason=f"because of {name}",
        inputs=(made(PairedInput, left=name, right=name, left_dims=name, told_by=name),),
        outputs=(made(PairedOutput, left=name, right="other", difference=far),),
        causes=(cause,),
        harmless=(cause,),
        information=(name,),
        norms=(made(PairedNorm, left=name, right=name, bitwise=("scale",)),),
        parameters=made(ParameterMatch, bitwise=1, left_only=1),
        explained_to=number,
        batch_sizes=(1, 5),
    )


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_harmless_and_lines_fit(name, width):
    text = render(comparison(name, Verdict.DIFFERENT), "text", width=width)
    for line in text.split("\n"):
        assert line.isprintable(), line
        assert cell_len(line) <= width, line
    written = name if name.isprintable() else name.encode("unicode_escape").decode()
    assert "".join(written.split()) in "".join(text.split())


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_comes_first(verdict):
    lines = render(comparison("m", verdict), "text").splitlines()
    assert lines[3].startswith(f"{verdict}: ")


@pytest.mark.parametrize("number", [math.nan, math.inf, 0.0, 1e-300])
def test_json_is_strict(number):
    def refuse(word: str) -> None:
        raise AssertionError(word)

    text = render(comparison("m", Verdict.DIFFERENT, number), "json")
    body = json.loads(text, parse_constant=refuse)
    assert (body["schema"], body["version"]) == ("bninspect.comparison", 1)
    assert body["verdict"] == "different"
    if math.isnan(number):
        assert body["outputs"][0]["difference"]["max_abs"] == "nan"
