"""A check as JUnit's XML: valid by the schema of Jenkins' plugin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from checks import CHECKS, PLAIN, finding
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from lxml import etree

from inspector.facts.finding import Check, CheckedFile, Severity
from inspector.report.checked import fails
from inspector.report.junit import to_junit
from inspector.report.words import printable

SCHEMA = etree.XMLSchema(file=str(Path(__file__).parent / "schemas" / "junit-10.xsd"))


def read(check: Check) -> etree._Element:
    """The root of a report that is valid."""
    text = to_junit(check)
    assert text.endswith("\n")
    root = etree.fromstring(text.encode())
    SCHEMA.assertValid(root)
    return root


def test_the_schema_refuses_what_is_wrong():
    root = etree.fromstring(to_junit(PLAIN).encode())
    del root[0].attrib["tests"]

    assert not SCHEMA.validate(root)


def test_a_suite_a_file_and_a_case_a_rule():
    root = read(PLAIN)

    assert dict(root.attrib) == {
        "name": "bninspect check",
        "tests": "9",
        "failures": "1",
        "errors": "1",
    }
    assert [each.get("name") for each in root] == ["models/a b.onnx", "good.onnx", "broken.onnx"]
    assert [each.get("name") for each in root[1]] == [
        "BN001 training-mode",
        "BN011 negative-variance",
        "BN015 untouched-statistics",
        "BN033 foldable",
    ]
    assert all(len(case) == 0 for case in root[1])


def test_findings_fail_their_case_from_fail_on_upwards():
    training, negative, untouched, foldable = read(PLAIN)[0].findall("testcase")

    assert len(training) == 0
    (failure,) = negative
    assert (failure.tag, failure.get("type")) == ("failure", "error")
    assert failure.get("message").startswith("bn1: the variance is negative")
    assert failure.get("message").endswith(" (and 1 more)")
    assert [line.split(":")[1].strip() for line in failure.text.splitlines()] == [
        "bn1",
        "then / bn1",
    ]
    assert untouched.findtext("system-out").startswith("ignored (pretrained): warning: frozen: ")
    assert foldable.find("failure") is None
    assert foldable.findtext("system-out").startswith("info: bn2: could be folded.")

    strict = read(replace(PLAIN, fail_on=Severity.INFO))
    assert strict.get("failures") == "2"
    assert strict[0].findall("testcase")[3].find("failure").get("type") == "info"
    assert read(replace(PLAIN, fail_on=None)).get("failures") == "0"


def test_a_file_that_cannot_be_read_is_an_error():
    (case,) = read(PLAIN)[2]

    assert case.get("name") == "readable"
    assert case.find("error").get("message") == "broken.onnx: no protobuf"


def test_a_finding_of_a_rule_that_is_not_listed_is_not_lost():
    file = CheckedFile(path="a.onnx", findings=(finding("BN050"),))
    (case,) = read(Check(files=(file,), rules=()))[0]

    assert (case.get("name"), case[0].tag) == ("BN050", "failure")


@pytest.mark.parametrize("name", ["]]>", "<a>&amp;", '"', "a\nb", "\x00\x1b\ufffe\ud800", "  "])
def test_names_are_written_out(name):
    file = CheckedFile(path=name, findings=(finding(layer=name),))
    root = read(Check(files=(file,), rules=()))

    assert root[0].get("name") == printable(name)
    assert root[0][0][0].get("message").startswith(f"{printable(name)}: the variance")


@hypothesis_settings(max_examples=60, deadline=None)
@given(CHECKS)
def test_any_text_stays_valid_and_harmless(check):
    root = read(check)

    assert to_junit(check).isascii()
    for element in root.iter():
        assert all(value.isprintable() for value in element.attrib.values())
        assert all(line.isprintable() for line in (element.text or "").split("\n"))
    for file, suite in zip(check.files, root, strict=True):
        told = "\n".join(suite.itertext())
        for each in file.findings:
            assert printable(each.message).rstrip(". ") in told
        failing = {each.rule for each in file.findings if fails(each, check)}
        assert suite.get("failures") == str(len(failing)) == str(len(suite.findall(".//failure")))
        # One line a finding: none can look like another.
        lines = [
            line
            for text in suite.xpath(".//testcase//text()")
            for line in text.split("\n")
            if line.strip()
        ]
        assert len(lines) == len(file.findings) + len(file.ignored)
