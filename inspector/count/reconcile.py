"""Why the totals of two models differ: layer by layer, as a list that adds up to the gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from inspector.count.alignment import Pair, aligned
from inspector.facts.count import Count, CountedTensor, Role
from inspector.facts.model import Storage
from inspector.facts.reconciliation import Amounts, Crossing, Difference, Reconciliation, Term
from inspector.facts.summary import Part, Row, Summary
from inspector.facts.traced import Fate, Traced

IsZero: TypeAlias = Callable[[CountedTensor], bool]
Fates: TypeAlias = Mapping[str, Traced]

_MEAN = "running mean"
_SIZED = "layers of another size on either side"
_FATES = {
    Fate.FOLDED: "that the {} has folded into its weights",
    Fate.MISSING: "that is found nowhere in the {}",
    Fate.UNTOLD: "that the {} has not: folded away, or left out",
}

_PLACES: Mapping[str, Mapping[int, str]] = {
    "BatchNormalization": {1: "scale", 2: "B", 3: "running mean", 4: "running var"},
    "BatchNormInternal": {1: "scale", 2: "B", 3: "running mean", 4: "running var"},
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "FusedConv": {1: "weight", 2: "bias"},
    "Gemm": {0: "weight", 1: "weight", 2: "bias"},
    "MatMul": {0: "weight", 1: "weight"},
    "MatMulInteger": {0: "weight", 1: "weight"},
    "ConvInteger": {1: "weight"},
    "QLinearConv": {3: "weight", 8: "bias"},
    "QLinearMatMul": {0: "weight", 3: "weight"},
    "QGemm": {0: "weight", 3: "weight", 6: "bias"},
    "DynamicQuantizeMatMul": {1: "weight", 4: "bias"},
    "LSTM": {1: "weight", 2: "recurrent weight", 3: "bias"},
    "GRU": {1: "weight", 2: "recurrent weight", 3: "bias"},
    "RNN": {1: "weight", 2: "recurrent weight", 3: "bias"},
    "LayerNormalization": {1: "scale", 2: "B"},
    "InstanceNormalization": {1: "scale", 2: "B"},
    "GroupNormalization": {1: "scale", 2: "B"},
    "RMSNormalization": {1: "scale"},
    "Add": {0: "bias", 1: "bias"},
    "Sub": {0: "bias", 1: "bias"},
}


def amounts(count: Count) -> Amounts:
    """A model's totals in each convention."""
    return Amounts(
        keras=count.keras.total, torch=count.torch.parameters, stored=count.onnx.elements
    )


def reconcile(
    left: Summary,
    right: Summary,
    is_zero: IsZero,
    *,
    left_fates: Fates | None = None,
    right_fates: Fates | None = None,
) -> Reconciliation:
    """Why two models' totals differ.

    Parameters
    ----------
    is_zero
        Whether all values of a tensor of either model are zero.
    left_fates, right_fates
        What became of one model's BatchNorms in the other, by their names, where it was traced.
    """
    found = _Ledger(left, right, is_zero, left_fates or {}, right_fates or {})
    differences = tuple(found.differences())
    before, after = amounts(left.count), amounts(right.count)
    explained = sum((each.amounts for each in differences), Amounts())
    return Reconciliation(
        left=left.path,
        right=right.path,
        totals=(before, after),
        differences=differences,
        unexplained=after - before - explained,
        unexplained_where=tuple(found.unexplained),
        crossing=_crossing(left, right),
    )


def _crossing(left: Summary, right: Summary) -> Crossing | None:
    """From what one framework prints of the one model to what the other prints of the other."""
    if {left.framework, right.framework} != {"keras", "torch"}:
        return None
    start, end = (
        each.count.keras.total if each.framework == "keras" else each.count.torch.parameters
        for each in (left, right)
    )
    sign, keras = (-1, left) if left.framework == "keras" else (1, right)
    statistics = Term(
        what="running mean and var, and other buffers: Keras counts them, PyTorch does not",
        elements=sign * (keras.count.keras.total - keras.count.torch.parameters),
    )
    rest = Term(
        what="what one of the models has and the other has not: see the PyTorch column",
        elements=end - start - statistics.elements,
    )
    return Crossing(
        frameworks=(left.framework, right.framework),
        totals=(start, end),
        terms=tuple(each for each in (statistics, rest) if each.elements),
    )


class _Ledger:
    """Collects differences by cause, in order of appearance."""

    def __init__(
        self,
        left: Summary,
        right: Summary,
        is_zero: IsZero,
        left_fates: Fates,
        right_fates: Fates,
    ) -> None:
        self._left, self._right = left, right
        self._left_fates, self._right_fates = left_fates, right_fates
        self._is_zero = is_zero
        self.unexplained: list[str] = []
        self._found: dict[str, tuple[Amounts, list[str]]] = {}

    def differences(self) -> Iterator[Difference]:
        """All of them, each cause once."""
        left = [row for row in self._left.rows if row.parts or row.shared]
        right = [row for row in self._right.rows if row.parts or row.shared]
        pairs = list(aligned(left, right))
        for at, (one, other) in enumerate(pairs):
            behind = pairs[at + 1] if at + 1 < len(pairs) else ((), ())
            self._compare(one, other, behind)
        self._tell_rest()
        for what, (amounts_, where) in self._found.items():
            if amounts_:
                yield Difference(what=what, amounts=amounts_, where=tuple(where))

    def _add(self, what: str, by: Amounts, where: str = "") -> None:
        if not by:
            return
        so_far, named = self._found.setdefault(what, (Amounts(), []))
        if where and where not in named:
            named.append(where)
        self._found[what] = so_far + by, named

    def _compare(self, one: Sequence[Row], other: Sequence[Row], behind: Pair) -> None:
        """Rows that stand at the same place in both; several or none on a side.

        `behind` are those that follow.
        """
        if len(one) == len(other) == 1:
            self._compare_rows(one[0], other[0], behind)
            return
        for row in one:
            self._missing(row, self._left_fates, "left", "right", sign=-1)
        for row in other:
            self._missing(row, self._right_fates, "right", "left", sign=1)

    def _missing(self, row: Row, fates: Fates, side: str, opposite: str, *, sign: int) -> None:
        """A row that one side alone has."""
        own = _total(row.parts)
        if row.kind == "BatchNormalization" and "InstanceNorm" not in row.torch:
            told = next((fates[name] for name in row.nodes if name in fates), None)
            words = _FATES.get(told.fate if told else Fate.UNTOLD, _FATES[Fate.UNTOLD])
            what = f"BatchNorm of the {side} {words.format(opposite)}"
        elif row.kind:
            what = f"layer that the {side} alone has"
        else:
            what = f"tensors of the {side} that no layer uses"
        self._add(what, own if sign > 0 else -own, _called(row))

    def _compare_rows(self, one: Row, other: Row, behind: Pair) -> None:
        before, after = _by_place(one.parts), _by_place(other.parts)
        name = _called(one) if one.name or not other.name else _called(other)
        if (_MEAN in before) is not (_MEAN in after) and one.kind == "BatchNormalization":
            side, other_row = ("right", other) if _MEAN in before else ("left", one)
            what = f"BatchNorm of which the {side} keeps slope and intercept alone"
            if other_row.shared and not other_row.parts:
                what = f"BatchNorm that the {side} shares with a layer before it"
            self._add(what, _total(other.parts) - _total(one.parts), name)
            return
        for place in dict.fromkeys((*before, *after)):
            here: Sequence[Part] = before.get(place, ())
            there: Sequence[Part] = after.get(place, ())
            by = _total(there) - _total(here)
            if not by:
                continue
            cause = self._cause(place, here, there, (one, other), behind)
            if cause == _SIZED:
                dims = [each[0].tensor.tensor.dims for each in (here, there)]
                self._add(cause, by, f"{place} of {name} {_shape(dims[0])} → {_shape(dims[1])}")
            elif cause:
                self._add(cause, by, name)
            else:
                self.unexplained.append(f"{place} of {name!r}")

    def _cause(
        self,
        place: str,
        here: Sequence[Part],
        there: Sequence[Part],
        rows: tuple[Row, Row],
        behind: Pair,
    ) -> str:
        """Why what stands at one place of a layer differs; empty where nothing tells."""
        side, only = ("left", here) if here else ("right", there)
        if here and there:
            return self._counted_otherwise(place, here, there) or _sized_otherwise(here, there)
        if _elements(only) in rows[1 if here else 0].shares:
            return f"{place} that the {side} stores again, and the other side shares"
        if place in ("scale", "B") and rows[0].kind == rows[1].kind:
            if rows[0].kind != "BatchNormalization":
                return f"{place} that the {side} alone has"
            values = "ones" if place == "scale" else "zeros"
            return f"{place} that the {side} alone has, and for which the other file has {values}"
        if place != "bias":
            return ""
        if all(self._is_zero(part.tensor) for part in only):
            return f"bias of zeros that the {side} alone has"
        proved = self._folded_into(rows, behind, left_has_bias=bool(here))
        if proved:
            return f"bias of the {side} that folding a BatchNorm has made"
        if proved is not None:
            return f"bias of the {side} where the other has a BatchNorm, as folding makes one"
        return f"bias that the {side} alone has"

    def _folded_into(
        self, rows: tuple[Row, Row], behind: Pair, *, left_has_bias: bool
    ) -> bool | None:
        """Whether the BatchNorm behind a layer without the bias is proved to be in the other one.

        None where there is no such BatchNorm, or one that both sides have.
        """
        side = 1 if left_has_bias else 0
        gone, kept = behind[side], behind[1 - side]
        if not gone or kept or gone[0].kind != "BatchNormalization":
            return None
        summary = self._right if left_has_bias else self._left
        names = [name for name in gone[0].nodes if name in summary.foldable]
        if not any(summary.foldable[name] in rows[side].nodes for name in names):
            return None
        fates = self._right_fates if left_has_bias else self._left_fates
        return any(name in fates and fates[name].fate is Fate.FOLDED for name in names)

    def _counted_otherwise(self, place: str, here: Sequence[Part], there: Sequence[Part]) -> str:
        """Why the same place counts differently; empty where nothing tells."""
        gap = _elements(there) - _elements(here)
        zeros = [[each for each in some if self._is_zero(each.tensor)] for some in (here, there)]
        vanished = len(here) != len(there) and gap == _elements(zeros[1]) - _elements(zeros[0])
        if place == "bias" and vanished:
            return f"bias of zeros that the {'left' if gap < 0 else 'right'} alone has"
        if {each.role for each in here} != {each.role for each in there}:
            roles = " and ".join(dict.fromkeys(str(each.role) for each in (*here, *there)))
            return f"{place} that is {roles} on either side"
        return ""

    def _tell_rest(self) -> None:
        """What no layer holds: constants, what exporters wrote, what they stored once."""
        for sign, count in ((-1, self._left.count), (1, self._right.count)):
            for kind, elements in _constants(count).items():
                self._add(kind, Amounts(stored=sign * elements))
            self._add(
                "equal tensors that the exporter stored once", Amounts(stored=-sign * count.merged)
            )
            beyond = count.beyond
            self._add(
                "counted by the framework and not in the file",
                Amounts(
                    keras=sign * (beyond.learned + beyond.statistics), torch=sign * beyond.learned
                ),
            )


def _sized_otherwise(here: Sequence[Part], there: Sequence[Part]) -> str:
    """What to say of one tensor on either side, of other dims."""
    if len(here) != 1 or len(there) != 1:
        return ""
    one, other = (sorted(each[0].tensor.tensor.dims) for each in (here, there))
    return _SIZED if one != other and len(one) == len(other) else ""


def _constants(count: Count) -> dict[str, int]:
    """Elements of constants by what they are."""
    found: dict[str, int] = {}
    for each in count.tensors:
        if each.role is Role.CONSTANT:
            what = _what(each)
            found[what] = found.get(what, 0) + each.tensor.elements
    return found


def _what(each: CountedTensor) -> str:
    if each.synthetic:
        return "ones and zeros that the exporter wrote for what a layer does not have"
    if each.copy_of:
        return "tied weights that an exporter stores again, transposed"
    if each.tensor.is_float:
        return "numbers that are no parameters (scalars of activations, scales)"
    if each.tensor.dtype in ("int8", "uint8", "int4", "uint4"):
        return f"{each.tensor.dtype} constants (zero points of quantised values)"
    kind = "attributes" if each.tensor.storage is Storage.ATTRIBUTE else "initializers"
    return f"{each.tensor.dtype} constants (shapes, axes, indices) as {kind}"


def _total(parts: Iterable[Part]) -> Amounts:
    """Elements of parts, each of them as if it were stored by itself."""
    total = Amounts()
    for part in parts:
        size = part.tensor.elements
        counted = part.role in (Role.LEARNED, Role.STATISTIC)
        total += Amounts(
            keras=size if counted else 0,
            torch=size if part.role is Role.LEARNED else 0,
            stored=part.tensor.tensor.elements,
        )
    return total


def _elements(parts: Iterable[Part]) -> int:
    return sum(part.tensor.tensor.elements for part in parts)


def _shape(dims: Sequence[int]) -> str:
    return "×".join(map(str, dims)) or "1"


def _by_place(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """Parts of a layer by what they are in it."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        place = _PLACES.get(part.op_type, {}).get(part.position)
        if place is None:
            place = f"input {part.position} of {part.op_type}" if part.op_type else "tensor"
        found.setdefault(place, []).append(part)
    return found


def _called(row: Row) -> str:
    if row.name:
        return row.name
    return row.nodes[0] if row.nodes else row.keras
