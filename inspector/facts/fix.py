"""What ``bninspect check --fix`` does to a file, as data: the changes, and what became of them.

Nodes are addressed by the scope that they stand in and by an output of theirs, as `BatchNorm` is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from inspector.facts.finding import Finding
from inspector.facts.model import Scope

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


ASKED_FOR = frozenset({"BN033"})
"""Rules that are fixed only by whom asks for that: what folding loses cannot be had back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixOptions:
    """What is asked of the fixes.

    Attributes
    ----------
    epsilon, momentum
        What BatchNorms are to get whose own are complained of; None leaves them.
    fold
        Whether BatchNorms are folded into the operators in front of them.
    backup
        Whether the file as it was is kept beside.
    diff
        Whether to show what would change, and to write nothing.
    """

    epsilon: float | None = None
    momentum: float | None = None
    fold: bool = False
    backup: bool = True
    diff: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetInference:
    """Let a BatchNormalization go by its statistics, and give one output."""

    scope: Scope
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNumber:
    """Give a BatchNormalization another epsilon or momentum; `name` says which."""

    scope: Scope
    output: str
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlist:
    """Take initializers off the inputs of the main graph."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewTensor:
    """What a node is to read: the initializer `held`, or else a new one of these values."""

    name: str
    values: NDArray[Any]
    held: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WriteNative:
    """Put a BatchNormalization in the place of arithmetic.

    Attributes
    ----------
    output
        What the arithmetic gives in the end.
    name
        Of the new node.
    links
        Its operators in the order in which the data flows, each by its output and by the input
        that flows.
    axis, rank
        Of the channels in what flows into the first of them, and how many axes that has.
    parameters
        Scale, B, mean and var, each of shape [C].
    """

    scope: Scope
    output: str
    name: str
    links: tuple[tuple[str, str], ...]
    axis: int
    rank: int
    epsilon: float
    parameters: tuple[NewTensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """Let the operator that computes `into` do what the BatchNormalization of `output` does."""

    scope: Scope
    output: str
    into: str
    weights: NDArray[Any]
    bias: NDArray[Any]


Change: TypeAlias = SetInference | SetNumber | Unlist | WriteNative | Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A finding that could be fixed as a rule, and why it was not here."""

    finding: Finding
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How one step of the fixes was verified.

    Attributes
    ----------
    rules
        The codes whose fixes it made.
    verdict
        What comparing the file before and after says.
    same
        Whether the step was to keep what the model computes. If not, nothing but what it was to
        change has changed.
    max_abs, relative
        How far the outputs lie apart, in their own unit and over their scale; None where that is
        not known, because the file did not run before.
    changed
        What was changed, in words.
    """

    rules: tuple[str, ...]
    verdict: str
    same: bool
    max_abs: float | None
    relative: float | None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedFile:
    """What ``--fix`` did with one file.

    Attributes
    ----------
    before
        How many findings it had.
    fixed
        Those that it no longer has.
    refused
        Those that could not be fixed.
    backup
        Where the file as it was lies; empty where it was not kept.
    diff
        What changes, line by line, where that was asked for.
    failure
        Why nothing could be written, or why a fix was given up; empty where nothing failed.
    unwritable
        Whether the file system was in the way.
    """

    path: str
    before: int
    fixed: tuple[Finding, ...] = ()
    refused: tuple[Refused, ...] = ()
    verified: tuple[Verified, ...] = ()
    backup: str = ""
    notes: tuple[str, ...] = ()
    diff: tuple[str, ...] = ()
    failure: str = ""
    unwritable: bool = False
