"""How messages name channels and numbers."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 4
"""Channels that a message lists; the finding holds all of them."""


def in_channels(channels: Sequence[int], of: int) -> str:
    """Which channels: ``in all 64 channels``, ``in channel 3 of 64``, ``in 9 of 64 channels …``."""
    if len(channels) == of:
        return f"in all {of} channels" if of > 1 else "in its one channel"
    if len(channels) == 1:
        return f"in channel {channels[0]} of {of}"
    listed = ", ".join(str(each) for each in channels[:SHOWN])
    more = ", …" if len(channels) > SHOWN else ""
    return f"in {len(channels)} of {of} channels ({listed}{more})"


def number(value: float) -> str:
    """A number as messages show it."""
    return f"{value:.4g}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: ``mean``, ``mean and var``, ``scale, B and var``."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
