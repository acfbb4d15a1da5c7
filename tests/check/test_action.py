"""The GitHub action: its steps' scripts, run by hand in their order."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import throwaway
import yaml

ROOT = throwaway.ROOT
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
SCHEMA = ROOT / "tests" / "report" / "schemas" / "sarif-2.1.0-rtm.5.json"
LONG = bool(os.environ.get("BNINSPECT_LONG"))

EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the steps are for bash")


@dataclass
class Job:
    """A job of GitHub Actions that runs the action, as far as the action can tell.

    Steps that use other actions are not run: `uploaded` keeps what they are given.
    """

    folder: Path
    temporary: Path
    inputs: dict[str, str]
    action: Path = ROOT
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    uploaded: dict[str, Any] | None = None
    said: str = ""
    summary: str = ""
    code: int = 0

    def value(self, name: str) -> str:
        """What an expression of one name stands for; the empty text where it is not known."""
        match name.split("."):
            case ["inputs", each]:
                return self.inputs[each]
            case ["steps", step, "outputs", each]:
                return self.steps.get(step, {}).get(each, "")
            case ["runner", "temp"]:
                return str(self.temporary)
            case ["github", "action_path"]:
                return str(self.action)
        raise AssertionError(f"an expression that this test does not know: {name}")

    def expanded(self, text: str) -> str:
        return EXPRESSION.sub(lambda found: self.value(found[1]), text)

    def wanted(self, condition: str) -> bool:
        """Conditions are comparisons with a text, with && between."""
        for part in condition.split("&&"):
            name, comparison, text = part.split()
            assert comparison in {"==", "!="}
            if (self.value(name) == text.strip("'")) is not (comparison == "=="):
                return False
        return True

    def run(self) -> Job:
        """Each step until one fails."""
        for step in ACTION["runs"]["steps"]:
            if not self.wanted(step.get("if", "inputs.paths != ''")):
                continue
            if "uses" in step:
                if step["id"] == "upload":
                    self.uploaded = {key: self.expanded(each) for key, each in step["with"].items()}
            elif step["id"] not in self.steps:
                self.code = self.script(step)
                if self.code:
                    break
        return self

    def script(self, step: dict[str, Any]) -> int:
        # As the runner calls it: docs.github.com, "workflow syntax", `shell`.
        assert step["shell"] == "bash"
        files = {name: self.temporary / f"{step['id']}.{name}" for name in ("output", "summary")}
        script = self.temporary / f"{step['id']}.sh"
        script.write_text(step["run"])
        for each in files.values():
            each.touch()
        env = {name: self.expanded(each) for name, each in step.get("env", {}).items()}
        ran = throwaway.run(
            *("bash", "--noprofile", "--norc", "-eo", "pipefail", script),
            folder=self.folder,
            env=throwaway.environment(
                self.temporary,
                GITHUB_OUTPUT=str(files["output"]),
                GITHUB_STEP_SUMMARY=str(files["summary"]),
                **env,
            ),
        )
        self.said += ran.stdout + ran.stderr
        self.summary += files["summary"].read_text()
        lines = files["output"].read_text().splitlines()
        self.steps[step["id"]] = dict(line.split("=", 1) for line in lines)
        return ran.returncode

    @property
    def outputs(self) -> dict[str, str]:
        return {name: self.expanded(each["value"]) for name, each in ACTION["outputs"].items()}


@pytest.fixture
def job(tmp_path: Path):
    """A job on a folder with a good and a bad model; its installation is the one of the tests."""

    def make(*, installed: bool = True, **inputs: str) -> Job:
        folder = tmp_path / "work space"
        throwaway.write(throwaway.GOOD, folder / "good.onnx")
        throwaway.write(throwaway.BAD, folder / "bad models" / "bad.onnx")
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        defaults = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
        given = {name.replace("_", "-"): each for name, each in inputs.items()}
        assert given.keys() <= defaults.keys()
        steps = {"python": {"python-path": sys.executable}}
        if installed:
            steps["install"] = {"bin": str(throwaway.BIN)}
        return Job(folder=folder, temporary=temporary, inputs=defaults | given, steps=steps)

    return make


def report(path: Path) -> dict[str, Any]:
    """The run in a SARIF file that is valid."""
    log = json.loads(path.read_text())
    jsonschema.Draft4Validator(json.loads(SCHEMA.read_text())).validate(log)
    return log["runs"][0]


def test_scripts_hold_nothing_that_users_write():
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]

    assert len(scripts) == 4
    assert not any("${{" in script for script in scripts)


def test_every_input_is_used_and_every_output_comes_from_somewhere():
    text = json.dumps(ACTION["runs"])

    assert all(f"inputs.{name} " in text for name in ACTION["inputs"])
    for each in ACTION["outputs"].values():
        step, name = re.search(r"steps\.(\w+)\.outputs\.([\w-]+)", each["value"]).groups()
        (script,) = [each["run"] for each in ACTION["runs"]["steps"] if each["id"] == step]
        assert f'echo "{name}=' in script


def test_the_bad_model_fails_the_job_and_is_told(job):
    done = job().run()

    assert done.code == 1
    assert done.outputs == {"exit-code": "1", "sarif-file": "bninspect.sarif"}
    (line,) = [each for each in done.said.splitlines() if "BN011" in each]
    assert line.startswith("::error file=bad models/bad.onnx,title=BN011 negative-variance::bn: ")
    results = report(done.folder / "bninspect.sarif")["results"]
    (place,) = [
        each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for each in results
        if each["ruleId"] == "BN011"
    ]
    assert place == "bad%20models/bad.onnx"
    assert "| error | BN011 negative-variance |" in done.summary
    assert done.uploaded is None


def test_the_good_model_passes(job):
    done = job(paths="good.onnx").run()

    assert done.code == 0, done.said
    assert done.outputs["exit-code"] == "0"
    assert "failed" not in done.summary


def test_several_paths_with_blanks_in_them(job):
    done = job(paths="\ngood.onnx\nbad models\n\n").run()

    assert done.code == 1
    run = report(done.folder / "bninspect.sarif")
    names = [each["location"]["uri"] for each in run["artifacts"]]
    assert names == ["good.onnx", "bad%20models/bad.onnx"]


def test_options_and_what_fails(job):
    assert job(fail_on="never").run().code == 0


def test_options_are_handed_on(job):
    done = job(args="--select BN011\n --severity  BN011=info", fail_on="error").run()

    assert done.code == 0, done.said
    (result,) = report(done.folder / "bninspect.sarif")["results"]
    assert result["level"] == "note"


def test_findings_are_uploaded_but_for_ignored_ones(job):
    done = job(upload="true", category="nightly", args="--select BN011")
    throwaway.write(throwaway.BAD, done.folder / "meant.onnx")
    (done.folder / "bninspect.toml").write_text(
        '[[ignores]]\nrules = ["BN011"]\nfiles = "meant.onnx"\nreason = "it is a test"\n'
    )
    done.run()

    assert done.code == 1
    assert done.uploaded is not None
    assert done.uploaded["category"] == "nightly"
    (result,) = report(Path(done.uploaded["sarif_file"]))["results"]
    assert "bad.onnx" in json.dumps(result)
    whole = report(done.folder / "bninspect.sarif")["results"]
    assert [bool(each["suppressions"]) for each in whole] == [False, True]


def test_a_file_that_cannot_be_read(job):
    done = job(upload="true", paths="good.onnx\nabsent.onnx").run()

    assert done.code == 3
    assert "::error file=absent.onnx,title=unreadable::" in done.said
    assert report(done.folder / "bninspect.sarif")["invocations"][0]["executionSuccessful"] is False
    assert done.uploaded is not None


def test_wrong_usage_leaves_no_report_and_uploads_none(job):
    done = job(upload="true", args="--select NONE")
    (done.folder / "bninspect.sarif").write_text("of another day")
    done.run()

    assert done.code == 2
    assert done.outputs == {"exit-code": "2", "sarif-file": ""}
    assert done.uploaded is None


@pytest.mark.parametrize(
    "inputs",
    [
        {"paths": "good.onnx; touch pwned"},
        {"paths": "$(touch pwned)\n`touch pwned`\n--output=text:pwned"},
        {"args": "; touch pwned"},
        {"args": "$(touch pwned) `touch pwned` && touch pwned"},
        {"fail_on": "never; touch pwned"},
        {"fail_on": "$(touch pwned)"},
        {"sarif_file": "a.sarif; touch pwned"},
        {"sarif_file": "a.sarif\nexit-code=0"},
        {"sarif_file": '"; touch pwned; "'},
    ],
)
def test_inputs_are_never_run(job, inputs):
    done = job(**inputs).run()

    assert not (done.folder / "pwned").exists()
    assert done.code != 0
    assert done.outputs["exit-code"] != "0"


def test_modules_of_the_checked_out_repository_are_not_imported(job):
    done = job(upload="true")
    for name in ("json", "typing", "onnx", "inspector", "pathlib"):
        (done.folder / f"{name}.py").write_text("open('pwned', 'w').close()\n")
    done.run()

    assert done.code == 1
    assert done.uploaded is not None
    assert not (done.folder / "pwned").exists()


@pytest.mark.skipif(not LONG, reason="installs from PyPI: BNINSPECT_LONG=1")
def test_it_installs_itself(job, tmp_path):
    done = job(installed=False)
    done.action = throwaway.copied(tmp_path / "action")
    for name in ("pip", "venv"):
        (done.folder / f"{name}.py").write_text("open('pwned', 'w').close()\n")
    done.run()

    assert done.code == 1, done.said
    assert done.steps["install"]["bin"].startswith(str(done.temporary))
    assert "title=BN011" in done.said
    assert not (done.folder / "pwned").exists()
