"""Write the small networks of models/ as .onnx files into tests/data/.

They lie in the repository so that most tests need no framework. The files are reproducible: the
weights are seeded, and nothing of the machine or the time gets into them.

    python scripts/make_small_models.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"

KERAS = ("small", "small_tiny_variance")
TORCH = (
    "small",
    "small_matched",
    "small_matched_torch_epsilon",
    "small_matched_no_relu",
    "small_matched_no_softmax",
    "small_matched_wrong_flatten",
    "small_matched_tiny_variance",
)


def names() -> list[str]:
    """Every file that is written."""
    return [f"keras_{each}.onnx" for each in KERAS] + [f"torch_{each}.onnx" for each in TORCH]


def write(folder: Path) -> None:
    """Export every small network into `folder`."""
    from inspector.export import export_keras, export_torch

    folder.mkdir(parents=True, exist_ok=True)
    for each in KERAS:
        export_keras(f"{ROOT / 'models' / 'keras_cnn.py'}:{each}", folder / f"keras_{each}.onnx")
    for each in TORCH:
        export_torch(f"{ROOT / 'models' / 'torch_cnn.py'}:{each}", folder / f"torch_{each}.onnx")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    write(target)
    for name in names():
        print(f"{target / name}  {(target / name).stat().st_size} bytes")
