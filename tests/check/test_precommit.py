"""The hook for pre-commit, on a repository with a good and a bad model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import throwaway
import yaml

MANIFEST = throwaway.ROOT / ".pre-commit-hooks.yaml"
LONG = bool(os.environ.get("BNINSPECT_LONG"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with a good model, a bad one, and files that are none."""
    folder = tmp_path / "models repository"
    throwaway.write(throwaway.GOOD, folder / "models" / "good one.onnx")
    throwaway.write(throwaway.BAD, folder / "models" / "bad.onnx")
    (folder / "models" / "bad.onnx.txt").write_text("no model")
    (folder / "README.md").write_text("models")
    return folder


def checked(models: Path, repository: dict[str, Any], env: dict[str, str], *files: str):
    """What pre-commit says of files, or of all, where it is configured with one repository."""
    config = models / ".pre-commit-config.yaml"
    config.write_text(yaml.safe_dump({"repos": [repository]}))
    throwaway.commit(models, env)
    which = ("--files", *files) if files else ("--all-files",)
    command = (sys.executable, "-m", "pre_commit", "run", "--verbose", "--color=never", *which)
    return throwaway.run(*command, folder=models, env=env)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return throwaway.environment(tmp_path, PRE_COMMIT_HOME=str(tmp_path / "pre-commit"))


def system_hook(**more: Any) -> dict[str, Any]:
    """The hook as it is written, run with what is installed here rather than set up anew."""
    (hook,) = yaml.safe_load(MANIFEST.read_text())
    assert hook["language"] == "python"
    return {"repo": "local", "hooks": [{**hook, "language": "system", **more}]}


def test_the_manifest_is_one_to_pre_commit(env):
    command = (sys.executable, "-m", "pre_commit", "validate-manifest", MANIFEST)
    ran = throwaway.run(*command, folder=throwaway.ROOT, env=env)

    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_hook_stops_the_bad_model(models, env):
    ran = checked(models, system_hook(), env)

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "- exit code: 1" in ran.stdout
    assert "BN011" in ran.stdout
    assert "models/bad.onnx" in ran.stdout
    assert "bad.onnx.txt" not in ran.stdout


def test_the_hook_lets_the_good_model_pass(models, env):
    ran = checked(models, system_hook(), env, "models/good one.onnx", "README.md")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "bninspect check" in ran.stdout
    assert "Passed" in ran.stdout


def test_the_hook_runs_for_models_alone(models, env):
    ran = checked(models, system_hook(), env, "models/bad.onnx.txt", "README.md")

    assert ran.returncode == 0
    assert "(no files to check)" in ran.stdout


def test_the_hook_takes_options(models, env):
    ran = checked(models, system_hook(args=["--ignore", "BN011"]), env, "models/bad.onnx")

    assert "BN011" not in ran.stdout


@pytest.mark.skipif(not LONG, reason="installs from PyPI: BNINSPECT_LONG=1")
def test_a_clone_of_this_repository_is_installed_and_runs(models, env, tmp_path):
    clone = throwaway.copied(tmp_path / "clone")
    repository = {
        "repo": str(clone),
        "rev": throwaway.commit(clone, env),
        "hooks": [{"id": "bninspect"}],
    }
    ran = checked(models, repository, env)

    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "BN011" in ran.stdout
    assert "models/bad.onnx" in ran.stdout
    # It ran in the environment that pre-commit has made, not in this one.
    assert list((tmp_path / "pre-commit").glob("repo*/py_env-*/*/bninspect*"))
    assert (
        throwaway.run(
            *(sys.executable, "-m", "pre_commit", "run", "--files", "models/good one.onnx"),
            folder=models,
            env=env,
        ).returncode
        == 0
    )
