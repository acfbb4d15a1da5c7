"""Change a stock export: each BatchNorm of the reference is put back, or there is a reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from inspector.facts.batchnorm import Norms
from inspector.facts.model import Model
from inspector.facts.restored import Outcome
from inspector.facts.traced import Fate, Traced
from inspector.recognise import find_batchnorms
from inspector.recognise.against import trace
from inspector.restore.folded import take_out
from inspector.restore.kept import Kept, Original
from inspector.restore.mapped import put_back
from inspector.restore.stock import Stock
from inspector.write.splice import Splice

_LEFT_OUT = "with it back in its place, the model would not give the stock export's outputs"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changed:
    """A changed model, serialised; empty where nothing was changed.

    `wanted` are the names of the new nodes with what they have to hold.
    """

    data: bytes
    outcomes: tuple[Outcome, ...]
    wanted: tuple[tuple[str, Original], ...]


class Changes:
    """What can be changed in a stock export: rows of BatchNorms that are one thing in it.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """

    def __init__(self, model: Model, reference: Model, norms: Norms) -> None:
        self._model = model
        stock_norms = find_batchnorms(model)
        self._traced = trace(model, stock_norms, reference, norms)
        self._stock, self._kept = Stock(model, stock_norms), Kept(reference, norms)
        self._rows = list(_rows(self._traced))

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def made(self, rows: Collection[int]) -> Changed:
        """The model with these rows restored, as far as they can be.

        Raises
        ------
        inspector.errors.UndecidedError
            It is not valid ONNX, or too large for one file.
        inspector.errors.UnreadableError
            A data file is missing or fails.
        """
        splice, used = Splice(self._model), set[int]()
        outcomes: dict[int, Outcome] = {}
        wanted: list[tuple[str, Original]] = []
        for number, row in enumerate(self._rows):
            found = self._restored(row, splice, used) if number in rows else _LEFT_OUT
            for position, at in enumerate(row):
                why_not = found if isinstance(found, str) else ""
                name, original = "", self._kept.originals[at]
                if not isinstance(found, str) and not isinstance(original, str):
                    name = found[position]
                    wanted.append((name, original))
                outcomes[at] = _outcome(self._traced[at], name, why_not)
        return Changed(
            data=splice.finish() if wanted else b"",
            outcomes=tuple(outcomes[at] for at in range(len(self._traced))),
            wanted=tuple(wanted),
        )

    def _restored(self, row: Sequence[int], splice: Splice, used: set[int]) -> list[str] | str:
        """Restore one row; the new nodes' names, or why not."""
        originals = []
        for at in row:
            original = self._kept.originals[at]
            if isinstance(original, str):
                return original
            originals.append(original)
        traced = self._traced[row[0]]
        match traced.fate:
            case Fate.FOLDED:
                spots = [each for each in self._stock.operators(traced) if id(each) not in used]
                return take_out(originals, spots, self._kept, splice, used)
            case Fate.ARITHMETIC | Fate.KEPT:
                return put_back(originals[0], self._stock.arithmetic(traced), splice)
            case Fate.UNTOLD:
                return traced.detail
            case _:
                why = "nothing in the stock export has its numbers"
                return f"{why}; {traced.detail}" if traced.detail else why


def _rows(traced: Sequence[Traced]) -> Iterator[list[int]]:
    """Which BatchNorms are one thing in the stock file: those that one operator took in."""
    by_operator: dict[str, list[int]] = {}
    for at, each in enumerate(traced):
        # Those that went into one operator together say so; a name alone may repeat over scopes.
        key = each.where if each.fate is Fate.FOLDED and each.detail else f"\0{at}"
        by_operator.setdefault(key, []).append(at)
    yield from by_operator.values()


def _outcome(traced: Traced, node: str, why_not: str) -> Outcome:
    return Outcome(
        name=traced.name,
        scope=traced.scope,
        was=traced.fate,
        where=traced.where,
        node=node,
        why_not=why_not,
        error=traced.error,
        allowed=traced.allowed,
    )
