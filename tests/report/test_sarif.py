"""A check as SARIF: valid by the official schema, and as GitHub reads it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema
import pytest
from checks import CHECKS, PLAIN, finding
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from inspector.errors import escaped
from inspector.facts.finding import Check, CheckedFile, Severity
from inspector.report.sarif import to_sarif
from inspector.report.words import printable

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text())
VALIDATOR = jsonschema.Draft4Validator(
    SCHEMA, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
)


def read(check: Check) -> dict[str, Any]:
    """The one run of a report that is valid."""
    text = to_sarif(check)
    assert text.endswith("\n")
    # Python alone reads NaN and Infinity.
    log = json.loads(text, parse_constant=pytest.fail)
    VALIDATOR.validate(log)
    (run,) = log["runs"]
    return run


def uri_of(result: dict[str, Any]) -> str:
    return result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def one(path: str) -> str:
    """The URI that a file of this path is given."""
    (result,) = read(Check(files=(CheckedFile(path=path, findings=(finding(),)),), rules=()))[
        "results"
    ]
    return uri_of(result)


def test_the_schema_refuses_what_is_wrong():
    log = json.loads(to_sarif(PLAIN))
    log["runs"][0]["results"][0]["level"] = "info"

    assert not VALIDATOR.is_valid(log)


def test_every_rule_that_ran_is_listed():
    driver = read(PLAIN)["tool"]["driver"]

    assert driver["name"] == "bninspect"
    assert driver["semanticVersion"] == "0.1.0"
    assert [each["id"] for each in driver["rules"]] == ["BN001", "BN011", "BN015", "BN033"]
    levels = [each["defaultConfiguration"]["level"] for each in driver["rules"]]
    assert levels == ["error", "error", "warning", "note"]
    rule = driver["rules"][3]
    assert rule["name"] == "foldable"
    assert rule["properties"]["problem.severity"] == "recommendation"
    assert rule["properties"]["precision"] == "high"
    for key in ("shortDescription", "fullDescription", "help"):
        assert rule[key]["text"]
    assert "`bound` (8): the most that is fine" in rule["help"]["markdown"]


def test_a_version_that_is_not_semantic_is_no_semantic_version():
    driver = read(replace(PLAIN, version="1.0.0rc1"))["tool"]["driver"]

    assert driver["version"] == "1.0.0rc1"
    assert "semanticVersion" not in driver


def test_descriptions_are_cut_to_what_github_takes():
    long = replace(PLAIN.rules[0], why="word " * 500)
    (rule,) = read(Check(files=(), rules=(long,)))["tool"]["driver"]["rules"]

    assert len(rule["fullDescription"]["text"]) <= 1024
    assert rule["fullDescription"]["text"].endswith("word …")
    assert len(rule["help"]["text"]) > 2500


def test_a_result_names_rule_place_and_values():
    first, second, third, hidden = read(PLAIN)["results"]

    assert (second["ruleId"], second["ruleIndex"], second["level"]) == ("BN011", 1, "error")
    assert first["level"] == "note"
    assert second["message"]["text"] == (
        "bn1: the variance is negative in channel 1 of 2, down to -0.5. "
        "What to do: export the model again."
    )
    place = second["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20b.onnx"
    assert place["physicalLocation"]["region"]["startLine"] == 1
    assert place["logicalLocations"][0]["name"] == "bn1"
    assert second["properties"]["channels"] == [1]
    assert second["properties"]["evidence"] == {"least": -0.5, "mean": "nan"}
    assert third["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "then / bn1"
    assert [each["suppressions"] for each in (first, second, third)] == [[], [], []]
    assert hidden["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "pretrained"}
    ]


def test_a_finding_about_the_whole_file_has_no_logical_place():
    file = CheckedFile(path="a.onnx", findings=(finding(layer=""),))
    (result,) = read(Check(files=(file,), rules=()))["results"]

    assert "logicalLocations" not in result["locations"][0]
    # The rule is none of those that ran: there is no index to give.
    assert "ruleIndex" not in result


def test_what_cannot_be_read_is_a_notification():
    (invocation,) = read(PLAIN)["invocations"]
    note, error = invocation["toolExecutionNotifications"]

    assert invocation["executionSuccessful"] is False
    assert (note["level"], note["message"]["text"]) == ("note", "a note")
    assert (error["level"], error["message"]["text"]) == ("error", "broken.onnx: no protobuf")
    assert uri_of(error) == "broken.onnx"
    sound = read(replace(PLAIN, files=PLAIN.files[1:2]))
    assert sound["invocations"][0] == {
        "executionSuccessful": True,
        "toolExecutionNotifications": [],
    }


def test_fingerprints_outlive_other_findings_and_values():
    def prints(*found):
        check = Check(files=(CheckedFile(path="a.onnx", findings=found),), rules=PLAIN.rules)
        return [each["partialFingerprints"] for each in read(check)["results"]]

    alone = prints(finding())
    again = prints(
        finding(layer="another"),
        finding("BN015", Severity.WARNING),
        finding(message="the variance is negative in channel 0 of 2, down to -7", channels=(0,)),
        finding(scope=("then",)),
        finding(),
    )
    assert alone == again[2:3]
    assert len({each["primaryLocationLineHash"] for each in again}) == 5


def test_paths_within_the_working_folder_are_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert one("a.onnx") == one("./a.onnx") == one(str(tmp_path / "a.onnx")) == "a.onnx"
    assert one(os.path.join("x", "..", "y", "a.onnx")) == "y/a.onnx"
    assert one("a:b, 100%#?.onnx") == "a%3Ab%2C%20100%25%23%3F.onnx"
    assert one("é.onnx") == "%C3%A9.onnx"
    assert one(f"../{tmp_path.name}/a.onnx") == "a.onnx"


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_paths_that_are_no_text_keep_their_bytes():
    assert unquote_to_bytes(one(os.fsdecode(b"a\xff.onnx"))) == b"a\xff.onnx"


def test_paths_outside_are_file_uris(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")

    assert one("../a b.onnx") == one(str(tmp_path / "a b.onnx"))
    assert one("../a b.onnx") == (tmp_path / "a b.onnx").as_uri()
    # A folder beside it whose name begins alike is not within it.
    assert one(str(tmp_path / "inner" / "a.onnx")).startswith("file:///")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # As the specification writes literal brackets (3.11.6) and braces (3.11.5).
        ("[x](https://evil.example)", r"\[x\](https://evil.example)"),
        ("a[0] (b)", "a[0] (b)"),
        ("{0}", "{{0}}"),
        ("{a}", "{a}"),
    ],
)
def test_names_make_no_links_and_no_placeholders(name, text):
    file = CheckedFile(path="a.onnx", findings=(finding(layer=name),))
    (result,) = read(Check(files=(file,), rules=()))["results"]

    assert result["message"]["text"].startswith(f"{text}: the variance")


@hypothesis_settings(max_examples=60, deadline=None)
@given(CHECKS)
def test_any_text_stays_valid_and_harmless(check):
    text = to_sarif(check)
    assert text.isascii()
    assert "\x1b" not in text
    run = read(check)

    pairs = [(file, each) for file in check.files for each in (*file.findings, *file.ignored)]
    for (file, each), result in zip(pairs, run["results"], strict=True):
        found = getattr(each, "finding", each)
        for said in strings(result):
            assert said.isprintable()
        if found.layer:
            assert result["locations"][0]["logicalLocations"][0]["name"] == escaped(found.layer)
        assert bool(result["suppressions"]) is (found is not each)
        message = printable(found.message).rstrip(". ")
        if not {"[", "{", "}"} & {*message, *found.remedy}:
            assert result["message"]["text"].startswith(message)
        assert re.fullmatch(r"[\w.~/%-]+", uri_of(result), re.ASCII)
        stored = unquote_to_bytes(uri_of(result))
        assert stored.decode("utf-8", "surrogateescape") == os.path.normpath(file.path) or (
            max(file.path) >= "\ud800"  # bytes of no text, or of no character at all
        )


def strings(value: Any) -> list[str]:
    """Every text in a piece of JSON."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(each for part in value.values() for each in strings(part))]
    if isinstance(value, list):
        return [each for part in value for each in strings(part)]
    return []
