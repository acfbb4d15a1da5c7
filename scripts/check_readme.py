"""Hold the help texts in README.md against what the program prints.

Usage: python scripts/check_readme.py [--write]

Each block in README.md that begins with ``$ bninspect … --help`` must show that help as it is
at 80 columns. ``--write`` puts it there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"```\n(\$ bninspect( [^\n]*)?--help)\n.*?```", re.DOTALL)


def main(write: bool) -> int:
    old = README.read_text(encoding="utf-8")
    if not BLOCK.search(old):
        sys.exit("README.md shows no help text")
    new = BLOCK.sub(lambda found: f"```\n{found[1]}\n{help_of(found[1])}```", old)
    if write:
        README.write_text(new, encoding="utf-8")
    elif new != old:
        sys.exit("README.md shows other help texts: python scripts/check_readme.py --write")
    return 0


def help_of(command: str) -> str:
    """What a ``$ bninspect …`` line prints, without trailing blanks."""
    words = command.removeprefix("$ bninspect").split()
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
        environment.pop(name, None)
    text = subprocess.run(
        [sys.executable, "-m", "inspector", *words],
        env=environment,
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
