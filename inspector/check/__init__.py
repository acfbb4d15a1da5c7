"""Rules about the BatchNorms of a model, for a gate in front of deployment."""

from inspector.check.run import check

__all__ = ["check"]
