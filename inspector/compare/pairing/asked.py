"""What the user says of which input and output is which: ``--map LEFT=RIGHT``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from inspector.errors import UsageError

MOST_LISTED = 8
"""Names that one message lists."""

Names = tuple[str, ...]
Pairs = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interfaces:
    """Names of what each side is fed and gives, left and right."""

    inputs: tuple[Names, Names]
    outputs: tuple[Names, Names]

    def read(self, named: Sequence[str]) -> tuple[Pairs, Pairs]:
        """Inputs and outputs, left name to right name, that ``left=right`` each names.

        A name may hold ``=`` itself: every place where both sides name something is tried.

        Raises
        ------
        inspector.errors.UsageError
            There is no such input or output, or one is named twice.
        """
        inputs: Pairs = {}
        outputs: Pairs = {}
        for text in named:
            if "=" not in text:
                raise UsageError(
                    f"--map {text!r} has no '='", hint="write LEFT=RIGHT, for instance x=input.1"
                )
            left, right = self._split(text)
            for pairs, known in ((inputs, self.inputs), (outputs, self.outputs)):
                if left in known[0] and right in known[1]:
                    _add(pairs, left, right, text)
        return inputs, outputs

    def _split(self, text: str) -> tuple[str, str]:
        meant = [
            (left, right)
            for left, right in _splits(text)
            if any(left in known[0] and right in known[1] for known in (self.inputs, self.outputs))
        ]
        if len(meant) > 1:
            ways = " or ".join(f"{left!r} with {right!r}" for left, right in meant)
            raise UsageError(
                f"--map {text!r} can be read in several ways: {ways}",
                hint="rename one of them in a copy of its model",
            )
        if not meant:
            raise self._unknown(text)
        return meant[0]

    def _unknown(self, text: str) -> UsageError:
        """What is wrong with a pair that names nothing, at the likeliest of its signs."""
        known = tuple((*self.inputs[side], *self.outputs[side]) for side in (0, 1))
        left, right = max(
            _splits(text), key=lambda each: (each[0] in known[0]) + (each[1] in known[1])
        )
        if left in known[0] and right in known[1]:
            return UsageError(
                f"--map {text!r} pairs an input with an output",
                hint=f"{left!r} is an {self._role(left, 0)} of the left model, "
                f"{right!r} an {self._role(right, 1)} of the right one",
            )
        side = 1 if left in known[0] else 0
        wrong = (left, right)[side]
        near = get_close_matches(wrong, known[side], n=1)
        suggestion = f"did you mean {near[0]!r}? " if near else ""
        return UsageError(
            f"--map {text!r}: the {('left', 'right')[side]} model has no input or output {wrong!r}",
            hint=f"{suggestion}there are the inputs {_listed(self.inputs[side])} "
            f"and the outputs {_listed(self.outputs[side])}",
        )

    def _role(self, name: str, side: int) -> str:
        return "input" if name in self.inputs[side] else "output"


def _splits(text: str) -> Iterator[tuple[str, str]]:
    for at, sign in enumerate(text):
        if sign == "=":
            yield text[:at], text[at + 1 :]


def _add(pairs: Pairs, left: str, right: str, text: str) -> None:
    if pairs.get(left, right) != right:
        raise UsageError(f"--map {text!r}: {left!r} is paired with {pairs[left]!r} already")
    other = next((a for a, b in pairs.items() if b == right and a != left), None)
    if other is not None:
        raise UsageError(f"--map {text!r}: {right!r} is paired with {other!r} already")
    pairs[left] = right


def _listed(names: Names) -> str:
    if not names:
        return "(none)"
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(map(repr, names[:MOST_LISTED])) + more
