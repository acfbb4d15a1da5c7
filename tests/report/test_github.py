"""A check as annotations of GitHub Actions: read back as the runner reads them."""

from __future__ import annotations

from dataclasses import dataclass

from checks import CHECKS, PLAIN, finding
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from inspector.facts.finding import Check, CheckedFile, Severity
from inspector.report.github import to_github
from inspector.report.words import printable


@dataclass(frozen=True)
class Command:
    name: str
    properties: dict[str, str]
    message: str


def command(line: str) -> Command:
    """A line as ActionCommand.TryParseV2 of the runner takes it apart.

    https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
    """
    line = line.strip()
    assert line.startswith("::")
    info, separator, data = line[2:].partition("::")
    assert separator
    name, _, rest = info.partition(" ")
    properties = {}
    for pair in rest.split(","):
        key, equals, value = pair.partition("=")
        assert equals
        properties[key.strip()] = unescaped(value, {"%2C": ",", "%3A": ":"})
    return Command(name, properties, unescaped(data, {}))


def unescaped(text: str, more: dict[str, str]) -> str:
    for code, character in {"%0D": "\r", "%0A": "\n", **more, "%25": "%"}.items():
        text = text.replace(code, character)
    return text


def read(check: Check) -> list[Command]:
    """A command for each line, however lines are told apart."""
    text = to_github(check)
    assert text.splitlines() == text.split("\n")[:-1]
    return [command(line) for line in text.splitlines()]


def test_lines_as_the_runner_takes_them():
    assert to_github(PLAIN) == (
        "::error file=models/a b.onnx,title=BN011 negative-variance::bn1: the variance is negative "
        "in channel 1 of 2, down to -0.5. What to do: export the model again.\n"
        "::error file=models/a b.onnx,title=BN011 negative-variance::then / bn1: the variance is "
        "negative in channel 1 of 2, down to -0.5. What to do: export the model again.\n"
        "::notice file=models/a b.onnx,title=BN033 foldable::bn2: could be folded. "
        "What to do: export the model again.\n"
        "::error file=broken.onnx,title=unreadable::broken.onnx: no protobuf\n"
    )


def test_severities_have_their_commands():
    found = tuple(finding(severity=each) for each in Severity)
    check = Check(files=(CheckedFile(path="a.onnx", findings=found),), rules=())

    assert [each.name for each in read(check)] == ["error", "warning", "notice"]


def test_nothing_to_tell_is_nothing():
    assert to_github(Check(files=(CheckedFile(path="a.onnx"),), rules=())) == ""


def test_a_name_begins_no_line_and_ends_no_property():
    name = "x\r\n::add-path::/evil\x1b[2K"
    file = CheckedFile(path="a:b,title=c::100%0A.onnx", findings=(finding(layer=name),))
    text = to_github(Check(files=(file,), rules=()))

    assert text.count("\n") == 1
    assert "\r" not in text
    assert "file=a%3Ab%2Ctitle=c%3A%3A100%250A.onnx,title=BN011::" in text
    assert r"x\r\n::add-path::/evil\x1b[2K: the variance" in text


@hypothesis_settings(max_examples=60, deadline=None)
@given(CHECKS)
def test_any_text_stays_one_harmless_line(check):
    commands = read(check)
    expected = [
        (file, each)
        for file in check.files
        for each in (*file.findings, *([None] * bool(file.unreadable)))
    ]

    assert len(commands) == len(expected)
    for each in commands:
        assert each.name in {"error", "warning", "notice"}
        assert each.properties.keys() == {"file", "title"}
        assert each.message.isprintable()
        assert all(value.isprintable() for value in each.properties.values())
    said = "\n".join(each.message for each in commands)
    for file, each in expected:
        text = file.unreadable if each is None else each.message
        assert printable(text).rstrip(". ") in said
