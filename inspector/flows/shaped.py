"""Outputs of other shapes on each side: nothing to hold together, and still a cause to prove.

What differs is patched in a copy of the right model, which is compared as that was: where the two
agree, that was it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.errors import UndecidedError
from inspector.flows.sides import Side, opened_whole, side_of

if TYPE_CHECKING:
    from inspector.compare.causes.candidate import Candidate
    from inspector.compare.causes.differences import Differences
    from inspector.compare.graphs.correspondence import Correspondence
    from inspector.compare.pairing.pair import Pair
    from inspector.facts.comparison import Comparison
    from inspector.facts.patch import Patch

MOST = 8
"""Differences that are tried one by one: each is a comparison of its own."""

Agrees = Callable[[Side], bool]
"""Whether the left side and another right one have outputs that agree."""


def of_other_shapes(
    found: Callable[[Differences | None], Comparison],
    right: Side,
    differences: Differences | None,
    moving: tuple[Correspondence, Sequence[Pair]] | None,
    agrees: Agrees,
) -> tuple[Comparison, tuple[Patch, ...]]:
    """The result where outputs have other shapes, with causes that were proved, and their patches.

    Parameters
    ----------
    found
        Makes the result of what the graphs show, none of it proved.
    moving
        The two graphs, in which what moves values may be why shapes differ.
    """
    from inspector.compare.causes.explain import cause_of
    from inspector.compare.causes.moved import moved_otherwise
    from inspector.compare.runtime.host import HostGoneError
    from inspector.facts.comparison import Proof

    if differences is None or moving is None:
        return found(differences), ()
    candidates = (*differences.candidates, *moved_otherwise(*moving))
    plain = found(replace(differences, candidates=candidates))
    if right.form is not None or right.steps is not None:
        return plain, ()  # what runs is no file that could be patched
    try:
        proved = _proved([each for each in candidates if each.patches], right, agrees)
    except HostGoneError:  # what the graphs show stands, with nothing proved
        return plain, ()
    if not proved:
        return plain, ()
    rest = [e for e in differences.candidates if e not in proved]
    why = "the outputs agree without touching it"
    shown = replace(
        plain,
        causes=tuple(cause_of(each, Proof.NECESSARY, None, "") for each in proved),
        harmless=tuple(cause_of(each, Proof.HARMLESS, None, why) for each in rest),
        explained=True,
    )
    return shown, tuple(patch for each in proved for patch in each.patches)


def _proved(candidates: Sequence[Candidate], right: Side, agrees: Agrees) -> Sequence[Candidate]:
    """What brings the outputs together where all of it is patched, and no longer without one."""
    if not 0 < len(candidates) <= MOST:
        return ()
    for each in candidates:
        if _agree([each], right, agrees):
            return [each]
    if len(candidates) == 1 or not _agree(candidates, right, agrees):
        return ()
    least = list(candidates)
    for each in reversed(candidates):
        rest = [one for one in least if one is not each]
        if rest and _agree(rest, right, agrees):
            least = rest
    return least


def _agree(candidates: Sequence[Candidate], right: Side, agrees: Agrees) -> bool:
    from inspector.compare.runtime.host import HostGoneError
    from inspector.write.fixed import write_fixed

    patches = [patch for each in candidates for patch in each.patches]
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        path = Path(folder) / "patched.onnx"
        try:
            write_fixed(right.view, patches, path)
            return agrees(side_of(opened_whole(path, ())))
        except HostGoneError:
            raise
        except UndecidedError:  # such a copy does not run, or has other outputs still
            return False
