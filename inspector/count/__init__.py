"""Count parameters once, and say the count in each framework's convention."""

from inspector.count.totals import count_parameters

__all__ = ["count_parameters"]
