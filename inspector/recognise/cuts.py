"""Runs of arithmetic with a root, cut into the BatchNorms that they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.recognise.algebra import Algebra
from inspector.recognise.axes import beside_channels, channel_axis, of_length
from inspector.recognise.decomposed import LONGEST, Reading, lines, parts_of, reading
from inspector.recognise.linear import lacks_bias
from inspector.recognise.parts import Parts
from inspector.recognise.place import Place
from inspector.recognise.runs import Link, has_root

MOST_LINKS = 20_000
"""Links of one run that are read as BatchNorms: 5,000 of them in a row, with nothing between."""


def split(links: Sequence[Link], place: Place) -> Iterator[tuple[Sequence[Link], Parts | None]]:
    """A run with a root as the BatchNorms whose parameters can all be told, and what is left.

    A shift between two of them could belong to either: of all ways to cut a run the one counts
    that makes most of it BatchNorms, and then the one that leaves least over.
    """
    if len(links) > MOST_LINKS:
        yield links, None
        return
    windows: dict[tuple[int, int], tuple[Reading, Algebra]] = {}
    for by_content in (False, True):
        covered = {each for at, end in windows for each in range(at, end)}
        for at in range(len(links)):
            if at not in covered:
                for end, found in _from(links, at, place, by_content=by_content):
                    windows.setdefault((at, end), found)
    best: list[tuple[int, int]] = [(0, 0)] * (len(links) + 1)
    ends: list[int] = [0] * len(links)
    for at in reversed(range(len(links))):
        count, left = best[at + 1]
        best[at], ends[at] = (count, left - 1), at
        for end in range(at + 1, min(at + LONGEST, len(links)) + 1):
            if (at, end) in windows:
                count, left = best[end]
                if (count + 1, left) > best[at]:
                    best[at], ends[at] = (count + 1, left), end
    at = 0
    while at < len(links):
        end = ends[at]
        parts = parts_of(*windows[at, end]) if end > at else None
        # What cannot be built after all is left as it is.
        end = max(end, at + 1)
        yield links[at:end], parts
        at = end


def _from(
    links: Sequence[Link], at: int, place: Place, *, by_content: bool
) -> Iterator[tuple[int, tuple[Reading, Algebra]]]:
    """Each part of a run from `at` on that reads as a whole BatchNorm: its end, and how."""
    some = links[at : at + LONGEST]
    if not has_root(some):
        return
    channels = max(each.elements for each in some)
    axis = channel_axis(some, place)
    if channels > 1 and (
        axis is None
        or not of_length(some, place, axis, channels)
        or beside_channels(some, place, axis)
    ):
        return
    key = channels, by_content
    if key not in place.algebras:
        place.algebras[key] = Algebra(chains=place.chains, channels=channels, by_content=by_content)
    algebra = place.algebras[key]
    may_negate = at > 0 or not lacks_bias(some[0], place)
    for length, line in enumerate(lines(some, algebra), start=1):
        found = reading(*line, algebra, may_negate=may_negate)
        if found is not None:
            yield at + length, (found, algebra)
