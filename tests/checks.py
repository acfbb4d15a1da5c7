"""Checks to be reported: a plain one, and any that hypothesis can think of."""

from __future__ import annotations

import os

from hypothesis import strategies as st

from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import (
    Check,
    CheckedFile,
    Finding,
    Ignored,
    RuleInfo,
    Severity,
    Threshold,
)


def rule(code: str, name: str, severity: Severity) -> RuleInfo:
    return RuleInfo(
        code=code,
        name=name,
        severity=severity,
        confidence=Confidence.LIKELY,
        summary=f"What {name} is.",
        why="Why it matters.",
        remedy="mend it",
        bad="bad",
        good="good",
        thresholds=(Threshold(name="bound", default=8.0, what="the most that is fine"),),
        fix="mends it",
    )


RULES = (
    rule("BN001", "training-mode", Severity.ERROR),
    rule("BN011", "negative-variance", Severity.ERROR),
    rule("BN015", "untouched-statistics", Severity.WARNING),
    rule("BN033", "foldable", Severity.INFO),
)


def finding(
    code: str = "BN011",
    severity: Severity = Severity.ERROR,
    *,
    layer: str = "bn1",
    message: str = "the variance is negative in channel 1 of 2, down to -0.5",
    **more: object,
) -> Finding:
    return Finding(
        rule=code,
        severity=severity,
        confidence=Confidence.CERTAIN,
        message=f"{layer}: {message}" if layer else message,
        remedy="export the model again",
        layer=layer,
        **more,
    )


def ignored(*, layer: str, reason: str) -> Ignored:
    return Ignored(finding=finding("BN015", Severity.WARNING, layer=layer), reason=reason)


PLAIN = Check(
    files=(
        CheckedFile(
            path="models/a b.onnx",
            findings=(
                finding("BN033", Severity.INFO, layer="bn2", message="could be folded"),
                finding(channels=(1,), evidence={"least": -0.5, "mean": float("nan")}),
                finding("BN011", layer="bn1", scope=("then",)),
            ),
            ignored=(ignored(layer="frozen", reason="pretrained"),),
            layers=3,
            notes=("a note",),
        ),
        CheckedFile(path="good.onnx", layers=2),
        CheckedFile(path="broken.onnx", unreadable="broken.onnx: no protobuf"),
    ),
    rules=RULES,
    version="0.1.0",
)

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "a\r\n::error::b",
    "::set-output name=x::y",
    "##[add-path]x",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</code></summary></details>",
    "a|b",
    "a\\|b",
    "a\\",
    "`|`",
    "``` ` ``",
    "@everyone",
    "a@b.example",
    "#1",
    "![x](https://evil.example/x.png)",
    "[x](javascript:alert(1))",
    "https://evil.example",
    "www.evil.example",
    "{0}",
    "]]>",
    "&lt;&#64;",
    "\u202egnp.exe",
    "\u2028",
    "\ud800",
    "\udcff",
    "\ufffe\x00\x85",
    "$x$ :smile:",
    "deadbeef1 GH-1",
    " ",
    " ` ",
    "名前",
)
"""Text that some format reads as more than text."""

_WORD = st.one_of(st.text(st.characters(exclude_categories=()), max_size=12))
TEXT = st.lists(st.one_of(st.sampled_from(HOSTILE), _WORD), max_size=3).map("".join)
"""Any text, surrogates and controls among it."""

PATH = st.one_of(TEXT.filter(lambda path: path.strip(".") and "\0" not in path)).map(
    lambda path: path.replace(os.sep, "_")
)
NUMBER = st.one_of(st.floats(), st.integers(), st.booleans(), TEXT)


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    name = draw(TEXT)
    message = draw(TEXT.filter(bool))
    return Finding(
        rule=draw(st.sampled_from([each.code for each in RULES])),
        severity=draw(st.sampled_from(Severity)),
        confidence=draw(st.sampled_from(Confidence)),
        message=f"{name}: {message}",
        remedy=draw(TEXT),
        scope=draw(st.lists(TEXT, max_size=2).map(tuple)),
        layer=name,
        channels=draw(st.lists(st.integers(0, 9), max_size=2).map(tuple)),
        evidence=draw(st.dictionaries(TEXT, NUMBER, max_size=2)),
        fixable=draw(st.booleans()),
    )


@st.composite
def files(draw: st.DrawFn) -> CheckedFile:
    if draw(st.integers(0, 4)) == 0:
        return CheckedFile(path=draw(PATH), unreadable=draw(TEXT.filter(bool)))
    hidden = st.builds(Ignored, finding=findings(), reason=TEXT)
    return CheckedFile(
        path=draw(PATH),
        findings=draw(st.lists(findings(), max_size=3).map(tuple)),
        ignored=draw(st.lists(hidden, max_size=1).map(tuple)),
        notes=draw(st.lists(TEXT, max_size=1).map(tuple)),
        layers=2,
    )


CHECKS = st.builds(
    Check,
    files=st.lists(files(), max_size=3).map(tuple),
    rules=st.just(RULES),
    fail_on=st.sampled_from([*Severity, None]),
    version=st.sampled_from(["", "0.1.0", "1.0.0rc1"]),
)
