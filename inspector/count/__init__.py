"""Count parameters in each framework's way, and list the layers that hold them.

What lists layers is imported from its own modules: counting alone is felt on every call.
"""

from inspector.count.totals import count_parameters

__all__ = ["count_parameters"]
