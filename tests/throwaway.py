"""Repositories and models that last as long as a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
from onnx_text import parsed

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
"""Where the commands lie that are installed beside the Python of the tests."""

GOOD = """
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.5, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 0.5}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
"""
BAD = GOOD.replace("0.5}>", "-0.5}>")


def write(text: str, path: Path) -> Path:
    """A model from ONNX's text form, at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(parsed(text), path)
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a machine that knows neither this user nor this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PATH": os.pathsep.join([str(BIN), kept.get("PATH", os.defpath)]),
        **more,
    }


def run(*args: str | Path, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What a command says and ends with."""
    return subprocess.run(  # noqa: S603  # the tests' own commands
        [os.fspath(each) for each in args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def git(*args: str | Path, folder: Path, env: dict[str, str]) -> str:
    """A git command that has to go well, as somebody."""
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.invalid")
    ran = run("git", *who, "-c", "commit.gpgsign=false", *args, folder=folder, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def copied(folder: Path) -> Path:
    """This repository's files at `folder`, as they are now, without what was built from them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607  # whichever git there is
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in map(os.fsdecode, listed.stdout.split(b"\0")):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def commit(folder: Path, env: dict[str, str]) -> str:
    """Make `folder` a repository with all that is in it; the name of the commit."""
    git("init", "--quiet", "--initial-branch=main", folder=folder, env=env)
    git("add", "--all", "--force", folder=folder, env=env)
    git("commit", "--quiet", "--message=all", folder=folder, env=env)
    return git("rev-parse", "HEAD", folder=folder, env=env).strip()
