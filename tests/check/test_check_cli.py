"""`bninspect check`, `rules` and `explain` as their users meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jsonschema
import onnx
import pytest
from onnx_text import FEW, parsed

import inspector
import inspector.check.rules
from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.rules import RULES
from inspector.check.subject import Subject
from inspector.facts.finding import CheckSettings, Severity

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs" / "check.schema.json").read_text(encoding="utf-8")
)
GOOD = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ [bn] y = BatchNormalization (x, s, b, m, v) }}"""
BAD = GOOD.replace("1.0, 9.0}>", "1.0, -9.0}>")
ONLY = ("--select", "BN011")

FOUND = """bad.onnx  1 BatchNorm
  error    BN011  bn: the variance is negative in channel 1 of 2, down to -9
                  → export the model again from a sound checkpoint, and look
                    at what stands in var's place
"""


def _find(subject: Subject, _thresholds: Thresholds) -> Iterator[Found]:
    for layer in subject.layers():
        var = layer.arrays.var
        if var is not None and (var < 0).any():
            least = float(var.min())
            message = f"the variance is negative in channel 1 of 2, down to {least:g}"
            yield found(layer.norm, message, channels=(1,), least=least)


@pytest.fixture
def one_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule whose words stay, in the place of all others."""
    own = next(rule for rule in RULES if rule.info.code == "BN011")
    remedy = (
        "export the model again from a sound checkpoint, and look at what stands in var's place"
    )
    rule = Rule(info=replace(own.info, remedy=remedy), find=_find)
    monkeypatch.setattr(inspector.check.rules, "RULES", (rule,))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good and a bad model in the working folder."""
    onnx.save(parsed(GOOD), tmp_path / "good.onnx")
    onnx.save(parsed(BAD), tmp_path / "bad.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("models", "one_rule")
def test_what_is_found(run) -> None:
    ran = run("check", "bad.onnx", "good.onnx", *ONLY)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out == FOUND + "\n2 files, 1 error\n"


@pytest.mark.usefixtures("models")
def test_nothing_is_found(run) -> None:
    ran = run("check", "good.onnx", *ONLY)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "1 file with 1 BatchNorm, nothing found\n"
    assert run("check", "good.onnx", *ONLY, "-q").out == ""


@pytest.mark.usefixtures("models", "one_rule")
def test_quiet_shows_findings_alone(run) -> None:
    Path("none.onnx").symlink_to("nowhere")
    ran = run("check", ".", *ONLY, "--quiet")
    assert ran.code == 1
    assert ran.out == FOUND + (
        "\nnone.onnx\n"
        "  error           no such file: it is a link to 'nowhere', which is not there;\n"
        "                  check the path\n"
    )


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["good.onnx"], 0),
        (["bad.onnx"], 1),
        (["bad.onnx", "none.onnx"], 1),
        (["good.onnx", "none.onnx"], 3),
        (["none.onnx"], 3),
        (["bad.onnx", "--fail-on", "never"], 0),
        (["bad.onnx", "none.onnx", "--fail-on", "never"], 3),
        (["bad.onnx", "--severity", "BN011=warning"], 1),
        (["bad.onnx", "--severity", "BN011=warning", "--fail-on", "error"], 0),
        (["bad.onnx", "--severity", "bn011=Info"], 0),
        (["bad.onnx", "--severity", "BN011=info", "--fail-on", "info"], 1),
    ],
)
def test_exit_codes(words: list[str], code: int, run) -> None:
    for format in ("text", "json"):
        ran = run("check", *words, *ONLY, "--format", format)
        assert (ran.code, ran.err) == (code, "")
        assert ran.out


def test_one_unreadable_file_among_many(run, models: Path) -> None:
    (models / "empty.onnx").touch()
    (models / "text.onnx").write_text("hello\n")
    (models / "sub").mkdir()
    onnx.save(parsed(BAD), models / "sub" / "worse.onnx")
    ran = run("check", ".", *ONLY, "--format", "json")
    body = json.loads(ran.out)
    assert ran.code == 1
    assert {
        each["path"]: (each["unreadable"] is None, len(each["findings"])) for each in body["files"]
    } == {
        "bad.onnx": (True, 1),
        "empty.onnx": (False, 0),
        "good.onnx": (True, 0),
        os.path.join("sub", "worse.onnx"): (True, 1),
        "text.onnx": (False, 0),
    }
    assert body["files"][1]["unreadable"] == ("the file is empty; export or download it again")
    assert body["summary"] == {
        "files": 5,
        "unreadable": 2,
        "batchnorms": 3,
        "error": 2,
        "warning": 0,
        "info": 0,
        "ignored": 0,
    }
    text = run("check", ".", *ONLY).out
    assert text.endswith("\n5 files, 2 errors; 2 could not be read\n")


WRONG = {
    (): ("missing argument 'PATH...'", 2),
    ("good.onnx", "--select", "BN99"): ("no rule has the code 'BN99'", 2),
    ("good.onnx", "--ignore", "BN"): ("no rule is selected", 2),
    ("good.onnx", "--severity", "BN011"): ("--severity 'BN011' names no severity", 2),
    ("good.onnx", "--severity", "BN011=bad"): ("--severity 'BN011=bad' names no severity", 2),
    ("good.onnx", "--severity", "BN9=info"): ("no rule has the code 'BN9'", 2),
    ("good.onnx", "--set", "BN011"): ("--set 'BN011' sets no number", 2),
    ("good.onnx", "--set", "BN011=1"): ("--set 'BN011=1' sets no number", 2),
    ("good.onnx", "--set", "BN011.x=y"): ("--set 'BN011.x=y' sets no number", 2),
    ("good.onnx", "--set", "BN011.x=1"): ("BN011 has no options", 2),
    ("good.onnx", "--fail-on", "fatal"): ("invalid value for '--fail-on'", 2),
    ("good.onnx", "--jobs", "0"): ("invalid value for '--jobs'", 2),
    ("good.onnx", "--config", "none.toml"): ("none.toml: the configuration cannot be read", 2),
    ("good.onnx", "--config", "a", "--isolated"): ("--config and --isolated exclude", 2),
    ("good.onnx", "--baseline", "none.onnx"): ("none.onnx: no such file", 3),
    ("good.onnx", "--external-dir", "none"): ("none: no such folder for external data", 2),
    ("good.onnx", "-o", "report"): ("report: the name does not tell which format", 2),
    ("good.onnx", "-o", "none/r.json"): ("none/r.json: the output's folder 'none' does not", 2),
    ("good.onnx", "-o", "json:"): ("the output has no name", 2),
    ("good.onnx", "-o", "json:."): (".: the output is a folder", 2),
    ("good.onnx", "-o", "a.json", "-o", "text:./a.json"): ("./a.json: two reports are to be", 2),
    ("good.onnx", "-o", "json:good.onnx"): ("good.onnx: the report would replace a model", 2),
    ("good.onnx", "--baseline", "bad.onnx", "-o", "json:bad.onnx"): (
        "bad.onnx: the report would replace a model",
        2,
    ),
    ("void",): ("void: no *.onnx file lies in this folder", 2),
    ("*.nnx",): ("*.nnx: no file fits this pattern", 2),
}


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(("words", "said"), WRONG.items(), ids=map(" ".join, WRONG))
def test_wrong_usage_is_one_line(words: tuple[str, ...], said: tuple[str, int], run) -> None:
    Path("void").mkdir()
    before = Path("good.onnx").read_bytes()
    ran = run("check", *words)
    assert (ran.code, ran.out) == (said[1], "")
    assert ran.err.startswith(f"error: {said[0]}")
    assert ran.err.count("\n") == 1
    assert Path("good.onnx").read_bytes() == before


@pytest.mark.usefixtures("models", "one_rule")
def test_reports_go_to_files_beside_standard_output(run) -> None:
    Path("whole.json").write_text("what was there before")
    formats = {
        "whole.json": "json",
        "text:plain": "text",
        "r.txt": "text",
        "r.sarif": "sarif",
        "sarif:r2.json": "sarif",
        "r.xml": "junit",
        "r.md": "markdown",
        "github:r.github": "github",
    }
    words = [word for name in formats for word in ("--output", name)]
    ran = run("check", "bad.onnx", "good.onnx", *ONLY, *words)
    assert (ran.code, ran.err) == (1, "")
    assert ran.out == FOUND + "\n2 files, 1 error\n"
    for name, format in formats.items():
        written = Path(name.rpartition(":")[2]).read_text(encoding="utf-8")
        same = run("check", "bad.onnx", "good.onnx", *ONLY, "--format", format, columns=100)
        assert written == same.out
        assert "negative" in written
    assert not list(Path().glob(".*.part"))


@pytest.mark.usefixtures("models")
def test_a_report_that_cannot_be_written_is_an_error(run, monkeypatch) -> None:
    Path("r.json").write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    ran = run("check", "good.onnx", *ONLY, "-o", "r.json")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("error: r.json: the output cannot be written (No space left")
    assert Path("r.json").read_text() == "before"


CONFIGURED = """
select = ["BN011"]
[[ignores]]
rules = ["BN01"]
layers = "b?"
reason = "known since\\u001b[31m 2024"
"""


@pytest.mark.usefixtures("one_rule")
def test_what_is_ignored_is_counted_and_can_be_shown(run, models: Path) -> None:
    (models / "bninspect.toml").write_text(CONFIGURED)
    ran = run("check", "bad.onnx")
    assert (ran.code, ran.out) == (0, "1 file with 1 BatchNorm, nothing found; 1 ignored\n")
    ran = run("check", "bad.onnx", "--show-ignored")
    assert ran.code == 0
    assert ran.out == (
        "bad.onnx  1 BatchNorm\n"
        "  ignored  BN011  bn: the variance is negative in channel 1 of 2, down to -9\n"
        "                  because: known since\\x1b[31m 2024\n"
        "\n1 file with 1 BatchNorm, nothing found; 1 ignored\n"
    )
    body = json.loads(run("check", "bad.onnx", "--format", "json").out)
    assert body["files"][0]["ignored"][0]["reason"] == "known since\x1b[31m 2024"
    jsonschema.validate(body, SCHEMA)
    # Without the file, all is told again.
    assert run("check", "bad.onnx", "--isolated", *ONLY).code == 1


def test_the_configuration_is_found_upwards_and_can_be_named(run, models: Path, monkeypatch):
    (models / "pyproject.toml").write_text('[tool.bninspect]\nselect = ["BN011"]\n')
    other = models / "other.toml"
    other.write_text('select = ["BN011"]\nfail-on = "never"\n')
    inner = models / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    ran = run("check", "../bad.onnx")
    assert (ran.code, "1 error\n" in ran.out) == (1, True)
    assert run("check", "../bad.onnx", "--config", other).code == 0
    assert run("check", "../bad.onnx", "--config", other, "--fail-on", "error").code == 1


def test_a_wrong_configuration_is_one_line(run, models: Path) -> None:
    (models / "bninspect.toml").write_text("selct = []")
    ran = run("check", "good.onnx")
    where = models / "bninspect.toml"
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {where}: there is no setting 'selct'; did you mean 'select'?\n"


MANY = 14


def many(name: str) -> str:
    """A chain of BatchNorms that all have the same fault."""
    numbers = ", ".join(
        f"float[2] {letter}{at} = {{1.5, {-0.5 if letter == 'v' else 2.5}}}"
        for at in range(MANY)
        for letter in "sbmv"
    )
    nodes = "".join(
        f"[{name}{at}] x{at + 1} = BatchNormalization "
        f"({f'x{at}' if at else 'x'}, s{at}, b{at}, m{at}, v{at})\n"
        for at in range(MANY)
    )
    return f"agraph (float[N, 2] x) => (float[N, 2] x{MANY}) <{numbers}> {{ {nodes} }}"


@pytest.mark.usefixtures("models")
def test_of_many_alike_some_are_shown_and_what_to_do_is_said_once(run) -> None:
    onnx.save(parsed(many("bn")), "many.onnx")
    ran = run("check", "many.onnx", *ONLY)
    assert ran.out.count("BN011") == 10
    assert ran.out.count("→") == 1
    assert "                  and 4 more, with --full\n" in ran.out
    assert ran.out.endswith(f"\n1 file, {MANY} errors\n")
    full = run("check", "many.onnx", *ONLY, "--full").out
    assert full.count("BN011") == MANY
    assert "--full" not in full


@pytest.mark.usefixtures("models")
def test_names_are_harmless_in_every_line(run) -> None:
    model = parsed(BAD)
    model.graph.node[0].name = "a\x1b[31m\nb\u202e::error::<b>" + "layer/" * 40
    name = "x\x1b[2J\n.onnx"
    onnx.save(model, name)
    ran = run("check", name, *ONLY, env={"FORCE_COLOR": ""})
    assert ran.code == 1
    assert all(line.isprintable() for line in ran.out.split("\n"))
    assert max(map(len, ran.out.split("\n"))) <= 80
    assert "a\\x1b[31m\\nb\\u202e" in ran.out


@pytest.mark.usefixtures("models")
def test_colour_only_where_it_is_asked_for(run) -> None:
    plain = run("check", "bad.onnx", *ONLY)
    coloured = run("check", "bad.onnx", *ONLY, env={"FORCE_COLOR": "1"})
    assert "\x1b" not in plain.out
    assert "\x1b[1;31merror  \x1b[0m" in coloured.out
    assert (
        "\x1b"
        not in run("check", "bad.onnx", *ONLY, "--format", "json", env={"FORCE_COLOR": "1"}).out
    )


PTY = """
import os, pty, subprocess, sys
master, slave = pty.openpty()
ran = subprocess.run([sys.executable, "-m", "inspector", *sys.argv[1:]], stdout=subprocess.PIPE,
                     stderr=slave, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"})
os.close(slave)
shown = b""
try:
    while part := os.read(master, 65536):
        shown += part
except OSError:
    pass  # Linux says so where the other side is closed
sys.stdout.buffer.write(ran.stdout + b"#" + shown)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")
@pytest.mark.usefixtures("models")
def test_progress_is_on_a_terminal_alone() -> None:
    def shown(*words: str) -> tuple[str, str]:
        ran = subprocess.run(  # noqa: S603  # the code is this test's own
            [sys.executable, "-c", PTY, "check", *ONLY, *words],
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=60,
        )
        out, _, err = ran.stdout.partition("#")
        return out, err

    out, err = shown("bad.onnx", "good.onnx")
    assert out.startswith("bad.onnx  1 BatchNorm\n  error    BN011  bn: ")
    assert out.endswith("\n\n2 files, 1 error\n")
    assert "checking" in err
    assert "2/2" in err
    assert shown("good.onnx") == ("1 file with 1 BatchNorm, nothing found\n", "")


def with_data_outside(text: str, *names: str) -> onnx.ModelProto:
    """A model some of whose tensors lie in ``x.data``, which saving it writes."""
    model = parsed(text)
    for each in model.graph.initializer:
        if each.name in names:
            each.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(each), each.name))
            onnx.external_data_helper.set_external_data(each, "x.data")
    return model


def test_missing_data_of_a_batchnorm_is_no_pass(run, models: Path) -> None:
    onnx.save(with_data_outside(BAD, "v", "s"), "bad.onnx")
    assert run("check", "bad.onnx", *ONLY).code == 1
    (models / "data").mkdir()
    (models / "x.data").rename(models / "data" / "x.data")
    ran = run("check", "bad.onnx", *ONLY)
    assert ran.code == 3
    assert "data files are missing: 'x.data' (2 tensors)" in " ".join(ran.out.split())
    assert run("check", "bad.onnx", *ONLY, "--external-dir", "data").code == 1
    (models / "bninspect.toml").write_text('external-dir = ["data"]')
    assert run("check", "bad.onnx", *ONLY).code == 1


def test_missing_data_of_the_baseline_is_no_pass(run, models: Path) -> None:
    onnx.save(with_data_outside(GOOD, "v", "s"), "before.onnx")
    compared = ("check", "good.onnx", "--baseline", "before.onnx", "--isolated")
    assert run(*compared).code == 0
    (models / "data").mkdir()
    (models / "x.data").rename(models / "data" / "x.data")
    ran = run(*compared)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("error: before.onnx: data files are missing: 'x.data' (2 tensors)")
    assert run(*compared, "--external-dir", "data").code == 0


@pytest.mark.usefixtures("models")
def test_missing_data_of_others_is_a_note(run) -> None:
    text = """agraph (float[N, 2] x) => (float[N, 2] z) <float[2, 2] w = {1.0, 2.0, 3.0, 4.0},
    float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
    float[2] v = {1.0, -9.0}> {
    [bn] y = BatchNormalization (x, s, b, m, v)
    z = MatMul (y, w) }"""
    onnx.save(with_data_outside(text, "w"), "m.onnx")
    Path("x.data").unlink()
    ran = run("check", "m.onnx", *ONLY)
    assert ran.code == 1
    assert "note" in ran.out
    assert "values are unknown where data files are missing" in " ".join(ran.out.split())
    assert "note" not in run("check", "m.onnx", *ONLY, "--quiet").out


def test_from_python(models: Path) -> None:
    fact = inspector.check_files(models / "bad.onnx", CheckSettings(select=("BN011",)))
    assert isinstance(fact, inspector.Check)
    assert fact.failed
    assert fact.count(Severity.ERROR) == 1
    assert fact.version == inspector.__version__
    assert fact.files[0].path == str(models / "bad.onnx")
    never = CheckSettings(select=("BN011",), fail_on=None)
    assert not inspector.check_files([models / "bad.onnx"], never).failed
    assert len(inspector.check_files(str(models)).rules) == len(RULES)


def test_rules_are_listed(run) -> None:
    ran = run("rules")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line[:5] for line in lines if line[:2] == "BN"] == [each.info.code for each in RULES]
    assert max(map(len, lines)) <= 80
    for each in RULES:
        assert each.info.name in ran.out
    body = json.loads(run("rules", "--format", "json").out)
    assert (body["schema"], body["version"]) == ("bninspect.rules", 1)
    assert [each["code"] for each in body["rules"]] == [each.info.code for each in RULES]


@pytest.mark.parametrize("rule", [pytest.param(each, id=each.info.code) for each in RULES])
def test_a_rule_is_explained(rule, run) -> None:
    info = rule.info
    ran = run("explain", info.code)
    assert (ran.code, ran.err) == (0, "")
    words = " ".join(ran.out.split())
    for said in (info.code, info.name, info.summary, info.why, info.remedy[1:].rstrip(".")):
        assert " ".join(said.split()) in words
    for text in (info.bad, info.good, *(each.name for each in info.thresholds)):
        assert " ".join(text.split()) in words
    assert run("explain", info.name) == run("explain", info.code.lower()) == ran
    body = json.loads(run("explain", info.code, "--format", "json").out)
    assert [each["why"] for each in body["rules"]] == [info.why]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("BN0111", "did you mean 'BN011'?"),
        ("BN999", "see `bninspect rules`"),
        ("BN05", "name one of BN050, BN051, BN052"),
        ("training mode", "separate codes with commas"),
        ("negative-varience", "did you mean 'negative-variance'?"),
        ("zz\x1b", "see `bninspect rules`"),
    ],
)
def test_no_such_rule(word: str, hint: str, run) -> None:
    ran = run("explain", word)
    assert (ran.code, ran.out) == (2, "")
    shown = word.replace("\x1b", "\\x1b")
    assert ran.err == f"error: there is no rule {shown!r}; {hint}\n".replace("\\\\", "\\")


def test_reports_of_the_corpus_are_valid(run, corpus: Path) -> None:
    ran = run("check", corpus / "models", "--format", "json")
    body = json.loads(ran.out)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(body, SCHEMA)
    assert len(body["files"]) > 200
    summary = body["summary"]
    for severity in ("error", "warning", "info"):
        told = [one for each in body["files"] for one in each["findings"]]
        assert summary[severity] == sum(each["severity"] == severity for each in told)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("md:report", ""),
        ("xml:report", ""),
        ("mark:report.md", "error: mark:report.md: there is no format 'mark'"),
    ],
)
def test_the_format_in_front_of_a_report(given: str, said: str, models: object, run) -> None:
    ran = run("check", "good.onnx", "-o", given)
    assert ran.err.startswith(said) if said else not ran.err
    assert Path("report").exists() is (not said)
    assert not list(Path().glob("*:*"))
