"""The right model with its proved causes patched, in a file of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inspector.flows.sides import Side

if TYPE_CHECKING:
    from inspector.facts.comparison import Comparison
    from inspector.facts.patch import Patch


def patched_to(
    path: str | os.PathLike[str] | None,
    found: Comparison,
    patches: Sequence[Patch],
    right: Side,
    progress: Callable[[str], None],
) -> Comparison:
    """The same comparison with where the patched model was written, if it was.

    Raises
    ------
    inspector.errors.UsageError
        `path` cannot be written to.
    inspector.errors.UnreadableError
        The file system refuses, or a data file of the right model fails.
    """
    if path is None or not patches:
        return found
    from inspector.write.fixed import write_fixed

    progress("writing the patched model")
    write_fixed(right.view, patches, os.fspath(path))
    return replace(found, patched_to=os.fspath(path))


def why_not(found: Comparison) -> str:
    """Why there was no patched model to write, as a clause."""
    from inspector.facts.comparison import Verdict

    match found.verdict:
        case Verdict.DIFFERENT:
            return "no cause is proved by a patch of the right model"
        case Verdict.UNDECIDED:
            return "nothing was decided"
        case _:
            return "the outputs agree"
