"""The main job on the question's own pair of networks, command by command.

Usage: python scripts/demo.py FOLDER
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT = 1
FINDINGS = 1


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    keras, torch, matched = (
        str(folder / name) for name in ("keras.onnx", "torch.onnx", "torch_matched.onnx")
    )
    say("1. The same network, exported from Keras and PyTorch with its BatchNorm kept")
    run("export", "keras", "models/keras_cnn.py:cnn", "-o", keras)
    run("export", "torch", "models/torch_cnn.py:cnn", "-o", torch)
    say("2. What each file holds, in one neutral form, and why the totals differ")
    run(keras)
    run(torch)
    say("3. Are they the same function?")
    run("compare", keras, torch, expected=DIFFERENT)
    say("4. And once the PyTorch network is written to match?")
    run("export", "torch", "models/torch_cnn.py:matched", "-o", matched)
    run("compare", keras, matched)
    say("5. May it be deployed?")
    run("check", matched, "--baseline", torch, expected=FINDINGS)
    say(f"The three files are in {folder}; docs/start-to-finish.md explains all of this.")
    return 0


def say(text: str) -> None:
    bold = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold[0]}{text}{bold[1]}", flush=True)


def run(*arguments: str, expected: int = 0) -> None:
    """Show a command, run it, and stop unless it ends as it should."""
    print(f"\n$ bninspect {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "inspector", *arguments]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        print(f"(exit code {code})", flush=True)
    if code != expected:
        sys.exit(f"demo: this command should end with exit code {expected}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/demo.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
