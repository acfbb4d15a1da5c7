"""Count parameters in each framework's way, and list the layers that hold them."""

from inspector.count.summary import summarise
from inspector.count.totals import count_parameters

__all__ = ["count_parameters", "summarise"]
