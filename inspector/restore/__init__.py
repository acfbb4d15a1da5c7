"""Put BatchNorms back into a stock export that has lost them, with the framework's own tensors."""

from inspector.restore.from_tensors import restore_from_tensors
from inspector.restore.run import restore

__all__ = ["restore", "restore_from_tensors"]
