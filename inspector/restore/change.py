"""Change a stock export: each BatchNorm of the reference is put back, or there is a reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from inspector.facts.batchnorm import Norms
from inspector.facts.model import Model
from inspector.facts.restored import Outcome
from inspector.facts.traced import Fate, Traced
from inspector.recognise import find_batchnorms
from inspector.recognise.against import trace
from inspector.restore.clues import Clues
from inspector.restore.folded import take_out
from inspector.restore.forward import Ahead, find_ahead, put_before, target_of
from inspector.restore.kept import Kept, Original
from inspector.restore.large import Fill, LargeSplice, is_large, splice_of
from inspector.restore.mapped import put_back
from inspector.restore.product import called
from inspector.restore.spread import Found, Search, put_apart
from inspector.restore.stock import Stock
from inspector.write.splice import Splice

_LEFT_OUT = "with it back in its place, the model would not give the stock export's outputs"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changed:
    """A changed model, serialised; empty where nothing was changed.

    `wanted` are the names of the new nodes with what they have to hold; `fill` puts in what is too
    large for one file.
    """

    data: bytes
    fill: Fill | None
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
        traced = trace(model, stock_norms, reference, norms)
        self._stock, self._kept = Stock(model, stock_norms), Kept(reference, norms)
        merged = list(_merged(model, self._kept, traced))
        self._traced = traced
        for row, found in merged:
            self._traced = _with(self._traced, row, found)
        self._ahead = dict(_ahead(model, self._kept, self._traced))
        for at, each in self._ahead.items():
            self._traced = _with(self._traced, [at], each)
        self._spread = {row[0]: found for row, found in merged}
        inside = {at for row, _ in merged for at in row}
        self._rows = [row for row, _ in merged]
        self._rows += [each for each in _rows(traced) if inside.isdisjoint(each)]
        self._clues = Clues(model)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def is_large(self) -> bool:
        """Whether the changed model takes a data file beside it."""
        return is_large(self._model)

    def made(self, rows: Collection[int]) -> Changed:
        """The model with these rows restored, as far as they can be.

        Raises
        ------
        inspector.errors.UndecidedError
            It is not valid ONNX, or too large for one file.
        inspector.errors.UnreadableError
            A data file is missing or fails.
        """
        splice, used = splice_of(self._model), set[int]()
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
            fill=splice.fill if isinstance(splice, LargeSplice) else None,
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
        if row[0] in self._spread:
            return put_apart(self._spread[row[0]], self._kept, splice, used)
        if row[0] in self._ahead:
            return put_before(originals[0], self._ahead[row[0]], splice)
        match traced.fate:
            case Fate.FOLDED:
                spots = [each for each in self._stock.operators(traced) if id(each) not in used]
                return take_out(self._kept.row(originals), spots, self._kept, splice, used)
            case Fate.ARITHMETIC | Fate.KEPT:
                return put_back(originals[0], self._stock.arithmetic(traced), splice)
            case Fate.UNTOLD:
                return traced.detail
            case _:
                return self._why(originals[0])

    def _why(self, original: Original) -> str:
        """What is known of a BatchNorm that is nowhere."""
        why, target = self._clues.of(original), target_of(original, self._kept)
        if target is None:
            return why
        node = target[0]
        return f"{why}; nor were they folded into {called(node)} behind it as they are"


def _merged(
    model: Model, kept: Kept, traced: Sequence[Traced]
) -> Iterator[tuple[list[int], Found]]:
    """Those that a trace does not find, merged with what stands around them."""
    positions = {
        id(original): at
        for at, (original, each) in enumerate(zip(kept.originals, traced, strict=True))
        if each.fate is Fate.MISSING and isinstance(original, Original)
    }
    if not positions:
        return
    taken = {name for each in traced for name in each.where.split(", ")}
    search, free = Search(model, kept, taken), dict(positions)
    for original in kept.originals:
        if id(original) not in free or isinstance(original, str):
            continue
        found = search.find(original, free)
        if found is not None:
            ids = [id(each) for each in found.row.originals]
            for each in ids:
                del free[each]
            yield [positions[each] for each in ids], found


def _ahead(model: Model, kept: Kept, traced: Sequence[Traced]) -> Iterator[tuple[int, Ahead]]:
    """Those that are in the operator behind them, by their position."""
    taken = {name for each in traced for name in each.where.split(", ")}
    for at, (original, each) in enumerate(zip(kept.originals, traced, strict=True)):
        if each.fate is Fate.MISSING and isinstance(original, Original):
            found = find_ahead(original, kept, model, taken)
            if found is not None:
                taken.add(found.where)
                yield at, found


def _with(traced: Sequence[Traced], row: Sequence[int], found: Found | Ahead) -> tuple[Traced, ...]:
    """A trace with what was found elsewhere."""
    told = list(traced)
    for at in row:
        told[at] = replace(
            told[at],
            fate=found.fate,
            where=found.where,
            error=found.error,
            allowed=found.allowed,
            detail="",
        )
    return tuple(told)


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
