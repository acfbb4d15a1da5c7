"""From a framework's model to an ONNX file that keeps every BatchNorm.

Importing this package imports no framework; `export_keras` and `export_torch` import theirs.
"""

from inspector.export.from_keras import export_keras
from inspector.export.from_torch import export_torch

__all__ = ["export_keras", "export_torch"]
