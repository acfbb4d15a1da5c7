"""A check as Markdown for a pull request: read back with a parser, as a reader would see it."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace

import pytest
from checks import CHECKS, HOSTILE, PLAIN, finding, ignored
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from markdown_it import MarkdownIt
from markdown_it.token import Token

from inspector.facts.finding import Check, CheckedFile, Severity
from inspector.report.checked import shown
from inspector.report.markdown_check import to_markdown
from inspector.report.words import printable

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")

# What the report itself writes of HTML; all else comes from names.
FRAME = re.compile(
    r"<details>\n<summary><code>(?P<path>[^<>\n]*)</code>: [\d\w ,]+</summary>\n|</details>\n"
)
# What GitHub makes links, pings or pictures of in plain text (https://github.github.com/gfm).
LIVELY = re.compile(r"[@#<>`\[\]|*_~$\\&]|://|www\.|:\w+:")


@dataclass
class Page:
    """What a reader of the rendered page sees."""

    cells: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    tables: int = 0


def read(text: str) -> Page:
    page = Page()
    tokens = PARSER.parse(text)
    for position, token in enumerate(tokens):
        assert token.type not in {"code_block", "fence", "blockquote_open", "hr", "link_open"}
        page.tables += token.type == "table_open"
        if token.type == "html_block":
            frame = FRAME.fullmatch(token.content)
            assert frame, token.content
            page.said.append(html.unescape(frame["path"] or ""))
        elif token.type == "inline":
            words = inline(token.children or [], page)
            page.said.append(words)
            before = tokens[position - 1].type
            if before == "td_open":
                page.cells.append(words)
            elif before == "heading_open":
                page.headings.append(words)
    return page


def inline(children: list[Token], page: Page) -> str:
    """The text of a line; what is not in code is kept aside in `page.plain`."""
    words = ""
    for child in children:
        if child.type in {"strong_open", "strong_close", "softbreak"}:
            continue
        assert child.type in {"text", "code_inline", "text_special"}, child
        words += child.content
        if child.type != "code_inline":
            page.plain.append(child.content)
    return words


def test_a_verdict_a_table_a_file_and_the_rest():
    assert to_markdown(PLAIN) == (
        "### bninspect check: failed, 1 file could not be read\n"
        "\n"
        "2 errors, 0 warnings, 1 info in 3 files with 5 BatchNorms.\n"
        "\n"
        "Could not be read:\n"
        "\n"
        "- `broken.onnx`: broken.onnx: no protobuf\n"
        "\n"
        "#### `models/a b.onnx`: 2 errors, 1 info\n"
        "\n"
        "| severity | rule | layer | finding | what to do |\n"
        "|---|---|---|---|---|\n"
        "| error | BN011 negative-variance | `bn1` | the variance is negative in channel 1 of 2, "
        "down to -0.5 | export the model again |\n"
        "| error | BN011 negative-variance | `then / bn1` | the variance is negative in channel 1 "
        "of 2, down to -0.5 | export the model again |\n"
        "| info | BN033 foldable | `bn2` | could be folded | export the model again |\n"
        "\n"
        "1 finding ignored:\n"
        "\n"
        "- 1: pretrained\n"
        "\n"
        "1 file without findings.\n"
    )


def test_nothing_found():
    page = read(to_markdown(Check(files=(CheckedFile(path="a.onnx", layers=1),), rules=())))

    assert page.headings == ["bninspect check: passed"]
    assert "0 errors, 0 warnings, 0 info in 1 file with 1 BatchNorm." in page.said
    assert page.tables == 0


def test_what_could_not_be_read_has_not_passed():
    check = Check(files=(CheckedFile(path="a.onnx", unreadable="no protobuf"),), rules=())

    assert read(to_markdown(check)).headings == ["bninspect check: 1 file could not be read"]


def test_many_findings_stand_behind_a_line_that_opens_them():
    found = tuple(finding(layer=f"bn{number}") for number in range(11))
    page = read(to_markdown(Check(files=(CheckedFile(path="<a>.onnx", findings=found),), rules=())))

    assert page.tables == 1
    assert [each for each in page.cells if each.startswith("bn")] == [f"bn{n}" for n in range(11)]
    assert "<a>.onnx" in page.said


def many(count: int, severity: Severity, path: str = "a.onnx", name: str = "bn") -> CheckedFile:
    found = tuple(finding(severity=severity, layer=f"{name}{n}") for n in range(count))
    return CheckedFile(path=path, findings=found)


def test_the_least_severe_are_left_out_where_it_gets_long():
    files = (many(2000, Severity.INFO, "info.onnx"), many(3, Severity.ERROR, "bad.onnx"))
    text = to_markdown(Check(files=files, rules=()))
    page = read(text)

    assert len(text.encode()) <= 65_536
    rows = len(page.cells) // 5
    assert 100 < rows < 2003
    assert page.cells.count("error") == 3
    (note,) = [each for each in page.said if "left out" in each]
    assert note.startswith(f"{2003 - rows:,} findings left out, the least severe")


@pytest.mark.parametrize(
    "name", ["x" * 10**5, "`" * 10**5, "\x00" * 10**5, "|" * 10**5, "界" * 10**5]
)
def test_long_names_keep_it_short(name):
    files = tuple(
        replace(many(30, Severity.ERROR, name, name), ignored=(ignored(layer="x", reason=name),))
        for _ in range(30)
    )
    broken = tuple(CheckedFile(path=name, unreadable=f"{n}{name}") for n in range(100))

    assert len(to_markdown(Check(files=files + broken, rules=())).encode()) <= 65_536


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_read_as_they_are(name):
    name = f"x{name}x"
    file = CheckedFile(path=name.replace("/", "_"), findings=(finding(layer=name, message=name),))
    page = read(to_markdown(Check(files=(file,), rules=())))

    assert page.cells == [
        "error",
        "BN011",
        printable(name),
        printable(name),
        "export the model again",
    ]
    assert page.headings[1] == f"{shown(file.path)}: 1 error"


@hypothesis_settings(max_examples=80, deadline=None)
@given(CHECKS)
def test_any_text_stays_harmless(check):
    text = to_markdown(check)
    page = read(text)

    assert all(line.isprintable() for line in text.split("\n"))
    for plain in page.plain:
        # Blanks and pipes between spans come by reference, and are text by then.
        assert not LIVELY.search(plain.replace("|", "")), plain
    assert page.tables == sum(bool(file.findings) for file in check.files)
    found = sum(len(file.findings) for file in check.files)
    assert len(page.cells) == 5 * found
    said = "\n".join(page.said)
    for file in check.files:
        for each in file.findings:
            message = printable(each.message).removeprefix(f"{printable(each.layer)}: ")
            assert message.strip() in said
        if file.unreadable:
            assert printable(file.unreadable).strip() in said
