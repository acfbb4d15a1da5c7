"""What a configuration file says, and what the command line makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inspector.check.configuration import find_configuration, read_configuration
from inspector.check.rule import Rule, Thresholds
from inspector.check.rules import RULES
from inspector.check.select import ignores_of, reason_to_ignore, selected
from inspector.check.settings import Asked, Configuration, with_asked
from inspector.errors import UsageError
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import CheckSettings, Ignore, RuleInfo, Severity, Threshold


def rule(code: str, **more: object) -> Rule:
    """A rule that finds nothing."""
    words = dict.fromkeys(("summary", "why", "remedy", "bad", "good"), "said")
    info = RuleInfo(
        code=code,
        name=f"rule-{code.lower()}",
        severity=Severity.WARNING,
        confidence=Confidence.CERTAIN,
        **words,
        **more,
    )

    def find(_subject: object, _thresholds: Thresholds):
        yield from ()

    return Rule(info=info, find=find)


BOUND = Threshold(name="slope", default=8.0, what="a bound", least=1.0, most=1e6)
SOME = (rule("BN011"), rule("BN014", thresholds=(BOUND,)), rule("BN015"), rule("BN033"))


def read(folder: Path, text: str, name: str = "bninspect.toml") -> Configuration:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_configuration(path, SOME)


WHOLE = """
select = ["BN01", "BN03"]
extend-select = ["BN03"]
ignore = ["BN011"]
fail-on = "error"
baseline = "released/model.onnx"
external-dir = ["weights"]
jobs = 3

[severity]
BN015 = "info"

[options.BN014]
slope = 1e4

[[ignores]]
rules = ["BN015"]
files = "legacy/*.onnx"
layers = ["stem*", "head*"]
reason = "trained so on purpose"

[per-file-ignores]
"old.onnx" = ["BN033"]
"""


def test_everything_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    anchored = f"{tmp_path}/legacy/*.onnx"
    why = "trained so on purpose"

    assert found == Configuration(
        settings=CheckSettings(
            select=("BN01", "BN03", "BN03"),
            ignore=("BN011",),
            severities={"BN015": Severity.INFO},
            thresholds={"BN014": {"slope": 1e4}},
            ignores=(
                Ignore(rules=("BN015",), files=anchored, layers="stem*", reason=why),
                Ignore(rules=("BN015",), files=anchored, layers="head*", reason=why),
                Ignore(rules=("BN033",), files="old.onnx", reason="per-file-ignores of 'old.onnx'"),
            ),
            fail_on=Severity.ERROR,
        ),
        baseline=str(tmp_path / "released/model.onnx"),
        external_dirs=(str(tmp_path / "weights"),),
        jobs=3,
        path=str(tmp_path / "bninspect.toml"),
    )
    codes = [each.info.code for each in selected(SOME, found.settings)]
    assert codes == ["BN014", "BN015", "BN033"]


def test_nothing_said_is_the_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert found.settings == CheckSettings()
    assert (found.baseline, found.external_dirs, found.jobs) == ("", (), None)
    assert read(tmp_path, 'fail-on = "never"').settings.fail_on is None


WRONG = {
    'selct = ["BN01"]': ("there is no setting 'selct'", "did you mean 'select'?"),
    'fail_on = "error"': ("there is no setting 'fail_on'", "did you mean 'fail-on'?"),
    "zzz = 1": (
        "there is no setting 'zzz'",
        "there are select, extend-select, ignore, fail-on, severity, options, ignores, "
        "per-file-ignores, baseline, external-dir, jobs",
    ),
    'select = "BN01"': ("the setting 'select' is 'BN01'", "it takes a list of strings"),
    "select = [1]": ("the setting 'select' is a list", "it takes a list of strings"),
    'select = ["BN99"]': ("no rule has the code 'BN99'", "see `bninspect rules`"),
    'ignore = ["BN0155"]': ("no rule has the code 'BN0155'", "did you mean 'BN015'?"),
    'fail-on = "eror"': (
        "the setting 'fail-on' is 'eror'",
        "it takes one of 'info', 'warning', 'error', 'never'",
    ),
    "jobs = 0": ("the setting 'jobs' is 0", "it takes a whole number from 1 on"),
    "jobs = true": ("the setting 'jobs' is true", "it takes a whole number from 1 on"),
    "baseline = 1": ("the setting 'baseline' is 1", "it takes a string"),
    "severity = 1": ("the setting 'severity' is 1", "it takes a table"),
    'severity.BN015 = "warn"': (
        "the setting 'severity.BN015' is 'warn'",
        "it takes one of 'info', 'warning', 'error'",
    ),
    "options.BN014.slop = 1": ("BN014 has no option 'slop'", "did you mean 'slope'?"),
    'options.BN014.slope = "1e4"': (
        "the setting 'options.BN014.slope' is '1e4'",
        "it takes a number",
    ),
    "options.BN014.slope = 0": ("option 'slope' of BN014 is 0", "give 1 to 1e+06"),
    "options.BN014.slope = nan": ("option 'slope' of BN014 is nan", "give 1 to 1e+06"),
    "options.BN014.slope = 2020-01-01": (
        "the setting 'options.BN014.slope' is a date",
        "it takes a number",
    ),
    "options.BN014 = 1e4": ("the setting 'options.BN014' is 10000.0", "it takes a table"),
    "ignores = 1": ("the setting 'ignores' is 1", "it takes tables, each under [[ignores]]"),
    '[[ignores]]\nrules = ["BN015"]': (
        "ignores 1 has no reason",
        "say why these findings are not to be told",
    ),
    '[[ignores]]\nrules = ["BN015"]\nreason = "  "': (
        "ignores 1 has no reason",
        "say why these findings are not to be told",
    ),
    '[[ignores]]\nreason = "so"': (
        "ignores 1 would ignore all findings",
        "give it rules, files or layers",
    ),
    '[[ignores]]\nlayer = "a"\nreason = "so"': (
        "there is no setting 'ignores 1.layer'",
        "did you mean 'layers'?",
    ),
    'per-file-ignores = ["a"]': ("the setting 'per-file-ignores' is a list", "it takes a table"),
    "select = [": (
        "the configuration is no TOML: invalid value (at end of document)",
        "mend it, or do without any: --isolated",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.items(), ids=WRONG)
def test_what_is_wrong_is_said_with_what_would_be_right(
    text: str, said: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    error = caught.value
    assert (error.what, error.hint) == said
    assert error.where == str(tmp_path / "bninspect.toml")


def test_in_a_project_settings_are_called_by_their_whole_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no setting 'tool\.bninspect\.selct'"):
        read(tmp_path, "[tool.bninspect]\nselct = []", "pyproject.toml")
    with pytest.raises(UsageError, match=r"no table \[tool.bninspect\]"):
        read(tmp_path, "[tool.ruff]", "pyproject.toml")
    with pytest.raises(UsageError, match=r"'tool\.bninspect' is 1"):
        read(tmp_path, "[tool]\nbninspect = 1", "pyproject.toml")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "cannot be read (no such file or directory)"),
        (b"\xff\xfe", "not written in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read(data: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_configuration(path, SOME)
    assert said in caught.value.what
    assert caught.value.where == str(path)


def test_the_nearest_file_with_settings_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "bninspect.toml").write_text("jobs = 1")
    assert find_configuration(inner, SOME).jobs == 1
    # A project without a table of ours is passed by.
    (inner / "pyproject.toml").write_text("[tool.ruff]")
    assert find_configuration(inner, SOME).jobs == 1
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.bninspect]\njobs = 2")
    assert find_configuration(inner, SOME).jobs == 2
    (tmp_path / "a" / "bninspect.toml").write_text("jobs = 3")
    assert find_configuration(inner, SOME).jobs == 3
    (inner / "pyproject.toml").write_text("[tool.bninspect]")
    assert find_configuration(inner, SOME).jobs is None


def test_folders_above_that_may_not_be_looked_into_are_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def refusing(path: Path, **asked: bool) -> os.stat_result:
        if Path(path).parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **asked)

    inner = tmp_path / "a"
    inner.mkdir()
    monkeypatch.setattr(os, "stat", refusing)
    assert find_configuration(inner, SOME).jobs is None


def codes(settings: CheckSettings) -> list[str]:
    return [each.info.code for each in selected(SOME, settings)]


FILE = CheckSettings(select=("BN01",), ignore=("BN015",), severities={"BN015": Severity.ERROR})
OVER = {
    "nothing": (Asked(), ["BN011", "BN014"]),
    "select replaces": (Asked(select=("BN015", "BN03")), ["BN015", "BN033"]),
    "ignore adds": (Asked(ignore=("BN011",)), ["BN014"]),
    "extend-select adds": (Asked(extend_select=("BN033",)), ["BN011", "BN014", "BN033"]),
    "extend-select takes back": (Asked(extend_select=("BN015",)), ["BN011", "BN014", "BN015"]),
}


@pytest.mark.parametrize(("asked", "expected"), OVER.values(), ids=OVER)
def test_the_command_line_goes_over_the_file(asked: Asked, expected: list[str]) -> None:
    assert codes(with_asked(FILE, asked)) == expected


def test_a_short_code_on_the_command_line_goes_over_a_long_one_in_the_file() -> None:
    file = CheckSettings(
        select=("BN015", "BN033"), severities={"BN015": Severity.ERROR, "BN033": Severity.INFO}
    )
    asked = Asked(ignore=("BN01",), severities={"BN0": Severity.WARNING})
    found = with_asked(file, asked)
    assert codes(found) == ["BN033"]
    assert found.severities == {"BN0": Severity.WARNING}


def test_numbers_are_joined_and_the_rest_is_kept() -> None:
    file = CheckSettings(thresholds={"BN014": {"slope": 2.0}}, fail_on=Severity.ERROR)
    assert with_asked(file, Asked()) == file
    asked = Asked(thresholds={"BN014": {"intercept": 3.0}}, fail_on="never")
    found = with_asked(file, asked)
    assert found.thresholds == {"BN014": {"slope": 2.0, "intercept": 3.0}}
    assert found.fail_on is None


def ignoring(tmp_path: Path, pattern: str, path: str) -> bool:
    """Whether a pattern of a configuration's is of a path."""
    text = f'[[ignores]]\nfiles = "{pattern}"\nreason = "so"'
    fitting = ignores_of(path, read(tmp_path, text).settings.ignores)
    return reason_to_ignore("BN015", "bn", fitting) == "so"


def test_patterns_are_of_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "[x]" / "legacy"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    root = tmp_path / "[x]"
    assert ignoring(root, "legacy/*.onnx", "a.onnx")
    assert ignoring(root, "./legacy/a.onnx", str(inner / "a.onnx"))
    assert ignoring(root, "legacy/**/*.onnx", "a.onnx")
    assert ignoring(root, "legacy/**/*.onnx", "deep/er/a.onnx")
    assert ignoring(root, "**/a.onnx", "a.onnx")
    assert ignoring(root, "a.onnx", "deep/a.onnx")
    assert ignoring(root, "*.onnx", "../a.onnx")
    assert not ignoring(root, "legacy/*.onnx", "../a.onnx")
    assert not ignoring(root, "a.onnx", "ba.onnx")
    # A folder of that name elsewhere is another one.
    assert not ignoring(inner, "legacy/*.onnx", "a.onnx")


def test_every_rule_takes_its_own_defaults() -> None:
    numbers = {
        each.info.code: {one.name: one.default for one in each.info.thresholds} for each in RULES
    }
    settings = CheckSettings(thresholds=numbers)
    assert len(selected(RULES, settings)) == len(RULES)
