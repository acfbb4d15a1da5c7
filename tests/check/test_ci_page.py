"""What docs/ci.md tells people to copy does what it says."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import jsonschema
import pytest
import throwaway
import yaml
from checks import PLAIN

from inspector.report.sarif import to_sarif

PAGE = (throwaway.ROOT / "docs" / "ci.md").read_text(encoding="utf-8")

# What GitLab asks of an issue: https://docs.gitlab.com/ci/testing/code_quality/
ISSUES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "not": {"pattern": r"^\./"}},
                    "lines": {"required": ["begin"]},
                },
            },
        },
    },
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def yamls(key: str) -> Any:
    """The example whose first key is `key`."""
    (found,) = [each for each in map(yaml.safe_load, blocks("yaml")) if key in each]
    return found


def test_the_script_for_gitlab_writes_what_gitlab_reads(tmp_path):
    (script,) = blocks("python")
    (tmp_path / "code_quality.py").write_text(script)
    (tmp_path / "in.sarif").write_text(to_sarif(PLAIN))
    ran = throwaway.run(
        *(sys.executable, "code_quality.py", "in.sarif", "out.json"),
        folder=tmp_path,
        env=throwaway.environment(tmp_path),
    )
    assert (ran.returncode, ran.stderr) == (0, "")

    issues = json.loads((tmp_path / "out.json").read_text())
    jsonschema.Draft202012Validator(ISSUES).validate(issues)
    # The ignored one is left out.
    assert [each["severity"] for each in issues] == ["info", "critical", "critical"]
    assert {each["location"]["path"] for each in issues} == {"models/a b.onnx"}
    assert len({each["fingerprint"] for each in issues}) == 3


def test_the_inputs_of_the_action_are_listed():
    action = yaml.safe_load((throwaway.ROOT / "action.yml").read_text())
    section = PAGE[PAGE.index("## GitHub Actions") : PAGE.index("## pre-commit")]
    listed = re.findall(r"^\| `([\w-]+)` \|.*?\|([^|]*)\|$", section, re.MULTILINE)

    assert [name for name, _ in listed] == list(action["inputs"])
    for name, default in listed:
        stated = str(action["inputs"][name]["default"])
        assert default.strip().strip("`") == stated or not stated, name
    (job,) = yamls("jobs")["jobs"].values()
    assert job["steps"][1]["with"].keys() <= action["inputs"].keys()
    assert job["permissions"]["security-events"] == "write"


def test_the_hook_is_called_by_its_name():
    (hook,) = yaml.safe_load((throwaway.ROOT / ".pre-commit-hooks.yaml").read_text())
    (repository,) = yamls("repos")["repos"]

    assert [each["id"] for each in repository["hooks"]] == [hook["id"]]


def commands() -> list[str]:
    """Each call of `bninspect check` on the page, without what stands in front of it."""
    called = re.findall(r"bninspect check (?!:)([^`\n]*--[^`\n]*)", PAGE)
    return [each.rstrip("'") for each in called]


@pytest.mark.parametrize("command", commands())
def test_commands_are_ones(command, tmp_path):
    import shlex

    throwaway.write(throwaway.GOOD, tmp_path / "models" / "good.onnx")
    throwaway.write(throwaway.GOOD, tmp_path / "released" / "model.onnx")
    ran = throwaway.run(
        *(throwaway.BIN / "bninspect", "check", *shlex.split(command)),
        folder=tmp_path,
        env=throwaway.environment(tmp_path),
    )

    assert ran.returncode == 0, ran.stderr
    written = re.findall(r"--output \w+:(\S+)", command)
    assert written
    assert all((tmp_path / name).stat().st_size for name in written)
