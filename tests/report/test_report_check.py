"""A check as text and JSON, and the pages about rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from checks import CHECKS, PLAIN, RULES, finding
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from inspector.facts.finding import Check, CheckedFile, Severity
from inspector.report import render
from inspector.report.page import Page
from inspector.report.text_check import MOST, write_check
from inspector.report.text_rules import write_rule, write_rules

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "check.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def text(fact: Check, *, width: int = 80, color: bool = False, **more: bool) -> str:
    page = Page(width=width, color=color)
    write_check(fact, page, **more)
    return page.text()


@pytest.mark.parametrize("width", [80, 120])
def test_text(width: int, golden) -> None:
    written = render(PLAIN, "text", width=width)
    golden(f"check_{width}.txt", written)
    assert written == text(PLAIN, width=width)


def test_text_with_everything_in_colour(golden) -> None:
    golden("check_colour.txt", text(PLAIN, color=True, ignored=True))


def test_json(golden) -> None:
    golden("check.json", render(PLAIN, "json"))


def test_rules(golden) -> None:
    page = Page(width=80, color=False)
    write_rules(RULES, page)
    golden("rules_80.txt", page.text())


def test_a_rule(golden) -> None:
    page = Page(width=80, color=False)
    write_rule(replace(RULES[0], baseline="before"), page)
    golden("rule_80.txt", page.text())


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(CHECKS)
def test_any_check_is_json_by_the_schema(fact: Check) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    body = json.loads(render(fact, "json"), parse_constant=refuse)
    VALIDATOR.validate(body)
    assert [each["path"] for each in body["files"]] == [file.path for file in fact.files]
    told = [one for each in body["files"] for one in each["findings"]]
    assert [one["message"] for one in told] == [
        one.message for file in fact.files for one in file.findings
    ]
    assert body["failed"] is fact.failed
    for severity in Severity:
        assert body["summary"][severity] == sum(one["severity"] == severity for one in told)


WRONG = {
    "another version": {"version": 2},
    "no rules": {"rules": None},
    "a severity": {"fail_on": "fatal"},
    "findings of what was not read": {
        "files": [
            {
                **json.loads(render(PLAIN, "json"))["files"][0],
                "unreadable": "it is empty",
            }
        ]
    },
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_the_schema_refuses_what_is_wrong(change: dict[str, object]) -> None:
    body = json.loads(render(PLAIN, "json"))
    VALIDATOR.validate(body)
    assert not VALIDATOR.is_valid({**body, **change})


@given(CHECKS, st.sampled_from([60, 80, 120]), st.booleans(), st.booleans())
def test_any_check_is_harmless_text(fact: Check, width: int, quiet: bool, full: bool) -> None:
    lines = text(fact, width=width, quiet=quiet, full=full, ignored=True).split("\n")
    for line in lines:
        assert line.isprintable(), line
        assert cell_len(line) <= width, line
    if not quiet:
        assert lines[-1] == ""
        assert " ".join(lines).count("file") >= 1


@given(CHECKS)
def test_colour_changes_no_word(fact: Check) -> None:
    import re

    painted = text(fact, color=True, ignored=True)
    assert re.sub("\x1b\\[[0-9;]*m", "", painted) == text(fact, ignored=True)


def test_the_worst_comes_first_and_what_to_do_is_said_once() -> None:
    written = text(PLAIN)
    assert written.index("BN011") < written.index("BN033")
    assert written.count("BN011") == 2
    assert written.count("→") == 2


@pytest.mark.parametrize("count", [MOST, MOST + 1, 1234])
def test_of_many_alike_some_are_shown(count: int) -> None:
    many = tuple(finding(layer=f"bn{at}") for at in range(count))
    fact = replace(PLAIN, files=(CheckedFile(path="m.onnx", findings=many, layers=count),))
    assert text(fact).count("BN011") == MOST
    assert (f"and {count - MOST:,} more, with --full" in text(fact)) is (count > MOST)
    assert text(fact, full=True).count("BN011") == count
    assert text(fact).endswith(f"\n1 file, {count:,} errors\n")


SUMMED = {
    "nothing": (
        Check(files=(CheckedFile(path="m", layers=1),), rules=RULES),
        "1 file with 1 BatchNorm, nothing found\n",
    ),
    "unread": (
        Check(files=(CheckedFile(path="m", unreadable="why"),), rules=RULES),
        "1 file; 1 could not be read\n",
    ),
    "some": (
        Check(files=(CheckedFile(path="m", unreadable="why"), CheckedFile(path="n")), rules=()),
        "2 files with 0 BatchNorms, nothing found; 1 could not be read\n",
    ),
    "all": (PLAIN, "3 files, 2 errors, 1 info; 1 could not be read; 1 ignored\n"),
}


@pytest.mark.parametrize(("fact", "said"), SUMMED.values(), ids=SUMMED)
def test_the_sum_is_the_last_line(fact: Check, said: str) -> None:
    assert text(fact).endswith(said)
    assert not text(fact, quiet=True).endswith(said)


@pytest.mark.parametrize("name", ["::error::b", "::Add-Mask::b", "##[add-path]b", "x##[error]b"])
@pytest.mark.parametrize("before", ["", "a ", "a" * 47, "onnx::Conv_7 "])
def test_no_line_of_text_is_a_workflow_command(name: str, before: str) -> None:
    called = before + name
    (file,) = PLAIN.files[:1]
    found = replace(finding(layer=called, message="it is so"), remedy=called)
    bad = replace(
        file,
        path=called,
        findings=(found,),
        unreadable=called,
        notes=(called,),
    )

    for width in range(24, 90):
        written = text(replace(PLAIN, files=(bad,)), width=width)
        lines = [each.strip().lower() for each in written.splitlines()]
        assert not any(each.startswith(("::error", "::add-mask")) for each in lines)
        assert "##[" not in written


def test_names_that_only_look_like_a_command_stay_as_they_are() -> None:
    (file,) = PLAIN.files[:1]
    plain = replace(file, findings=(finding(message="'onnx::Conv_7' and aten::add: so"),))

    assert "'onnx::Conv_7' and aten::add" in text(replace(PLAIN, files=(plain,)))
