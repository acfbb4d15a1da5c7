"""The layer table as each framework's own summary has it, from one summary.

Sources: `keras.Model.summary` (https://keras.io/api/models/model/#summary-method) and torchsummary
(https://github.com/sksq96/pytorch-summary), whose rows, order and totals these are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod

from inspector.errors import UsageError
from inspector.facts.model import Dim
from inspector.facts.summary import Layout, Row, Summary
from inspector.facts.table import Cell, Table

STYLES = ("keras", "torch", "onnx")

_FLOAT_BYTES = 4
_MEBI = 1024**2


def table(summary: Summary, style: str = "") -> Table:
    """A model's layers as users of `style` know them; of its own framework where none is named.

    Raises
    ------
    inspector.errors.UsageError
        There is no such style.
    """
    wanted = style or summary.framework or "onnx"
    if wanted == "keras":
        return _keras(summary)
    if wanted == "torch":
        return _torch(summary)
    if wanted == "onnx":
        return _onnx(summary)
    raise UsageError(f"there is no style {style!r}", hint=f"choose one of {', '.join(STYLES)}")


def _keras(summary: Summary) -> Table:
    names = _Names()
    rows: list[tuple[Cell, ...]] = []
    if not summary.listed:
        for each in summary.inputs:
            dims = _channels_last(each.dims, each.layout)
            rows.append((names.given(each.name, "InputLayer"), "InputLayer", dims, 0))
    again: dict[str, int] = {}
    for row, activation in _with_activations(summary.listed or summary.rows):
        if row.container:
            continue
        if not row.kind:
            rows.append((row.keras, "", "", row.learned + row.statistics))
            continue
        shown = activation or row
        if row.name and row.name in again:
            # A layer that is called again is one row, with the shape of its last call.
            name, kind, _, size = rows[again[row.name]]
            dims = _channels_last(shown.dims, shown.layout)
            rows[again[row.name]] = (name, kind, dims, _added(size, row))
            continue
        again[row.name] = len(rows)
        rows.append(
            (
                names.given(row.name, row.keras),
                row.keras,
                _channels_last(shown.dims, shown.layout),
                row.learned + row.statistics,
            )
        )
    keras = summary.count.keras
    return Table(
        style="keras",
        title=summary.path,
        columns=("Layer", "Type", "Output Shape", "Param #"),
        rows=tuple(rows),
        totals=(
            ("Total params", keras.total),
            ("Trainable params", keras.trainable),
            ("Non-trainable params", keras.non_trainable),
        ),
        notes=_notes(summary),
    )


def _added(size: Cell, row: Row) -> int:
    return (size if isinstance(size, int) else 0) + row.learned + row.statistics


def _torch(summary: Summary) -> Table:
    rows: list[tuple[Cell, ...]] = []
    elements: list[int | None] = []
    for row in summary.rows:
        operation = row.written_out and not row.learned and summary.framework == "torch"
        if (operation and row.kind) or row.torch == "InputLayer":
            continue  # torchsummary lists modules alone
        if not row.kind:
            if row.learned:
                rows.append((row.torch, "", "", row.learned))
            continue
        dims = _channels_first(row.dims, row.layout)
        rows.append((f"{row.torch}-{len(rows) + 1}", row.name, dims, row.learned))
        elements.append(_elements(dims))
    learned = summary.count.torch.parameters
    given = [_elements(_channels_first(each.dims, each.layout)) for each in summary.inputs]
    size = _megabytes(given)
    passing = _megabytes(elements, times=2)
    parameters = learned * _FLOAT_BYTES / _MEBI
    whole = None if size is None or passing is None else size + passing + parameters
    return Table(
        style="torch",
        title=summary.path,
        columns=("Layer (type)", "Name", "Output Shape", "Param #"),
        rows=tuple(rows),
        totals=(
            ("Total params", learned),
            ("Trainable params", summary.count.torch.trainable),
            ("Non-trainable params", learned - summary.count.torch.trainable),
            ("Input size (MB)", size),
            ("Forward/backward pass size (MB)", passing),
            ("Params size (MB)", parameters),
            ("Estimated Total Size (MB)", whole),
        ),
        notes=_notes(summary),
    )


def _onnx(summary: Summary) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            each.name or each.output,
            f"{each.domain}.{each.op_type}" if each.domain else each.op_type,
            each.dims,
            each.elements,
        )
        for each in summary.nodes
    ]
    count = summary.count
    rest = count.onnx.elements - sum(each.elements for each in summary.nodes)
    if rest:
        rows.append(("(read by no node)", "", None, rest))
    return Table(
        style="onnx",
        title=summary.path,
        columns=("Node", "Operator", "Output Shape", "Elements"),
        rows=tuple(rows),
        totals=(
            ("Stored elements", count.onnx.elements),
            ("of them learned", count.learned),
            ("running statistics", count.statistics),
            ("constants", count.constants),
            ("of unknown role", count.unknown),
            ("merged by the exporter, counted again", -count.merged),
        ),
        notes=_notes(summary),
    )


def _notes(summary: Summary) -> tuple[str, ...]:
    """What the totals leave out, or what else has to be known to read them."""
    count = summary.count
    found = [*summary.notes]
    if count.unknown:
        found.append(
            f"{count.unknown:,} elements are of unknown role and in no total: `bninspect` says why"
        )
    if summary.folded:
        some = len(summary.folded)
        found.append(
            f"{some} BatchNorm{'s are' if some > 1 else ' is'} probably folded into operators, and "
            "what was theirs is in no total: `bninspect` says where"
        )
    if any(row.shared for row in summary.rows):
        found.append("a layer that shares weights with one above it counts only what it adds")
    if summary.framework != "keras" and count.torch.num_batches_tracked:
        found.append(
            f"PyTorch would also keep {count.torch.num_batches_tracked} num_batches_tracked, "
            "which ONNX never stores"
        )
    found += count.notes
    return tuple(found)


def _with_activations(rows: Sequence[Row]) -> Iterator[tuple[Row, Row | None]]:
    """Rows, each with the activation that Keras has in the same layer."""
    held: Row | None = None
    activation: Row | None = None
    for row in rows:
        if row.fused and held is not None:
            activation = row
            continue
        if held is not None:
            yield held, activation
        held, activation = row, None
    if held is not None:
        yield held, activation


class _Names:
    """Names of layers, made up as Keras does for those that have none."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()

    def given(self, name: str, kind: str) -> str:
        if name:
            return name
        # conv2d, conv2d_1, … (keras.src.utils.naming)
        base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower() or "layer"
        base = re.sub(r"(\d)_d\b", r"\1d", base)
        self._times[base] += 1
        times = self._times[base]
        return base if times == 1 else f"{base}_{times - 1}"


def _channels_last(dims: tuple[Dim, ...] | None, layout: Layout) -> tuple[Dim, ...] | None:
    if dims is None:
        return None
    if layout is Layout.FIRST and len(dims) > 2:
        dims = (dims[0], *dims[2:], dims[1])
    return tuple(each if isinstance(each, int) else None for each in dims)


def _channels_first(dims: tuple[Dim, ...] | None, layout: Layout) -> tuple[Dim, ...] | None:
    if dims is None:
        return None
    if layout is Layout.LAST and len(dims) > 2:
        dims = (dims[0], dims[-1], *dims[1:-1])
    # torchsummary writes the batch as -1 whatever it was.
    rest = (each if isinstance(each, int) else None for each in dims[1:])
    return (-1, *rest) if dims else ()


def _elements(dims: tuple[Dim, ...] | None) -> int | None:
    """Elements of one sample; None where a length is not known."""
    lengths = [each for each in (dims or (None,))[1:] if isinstance(each, int)]
    return prod(lengths) if dims is not None and len(lengths) == len(dims) - 1 else None


def _megabytes(elements: Sequence[int | None], times: int = 1) -> float | None:
    """As torchsummary: four bytes an element, and 1 MB of 1024² bytes."""
    known = [each for each in elements if each is not None]
    return times * sum(known) * _FLOAT_BYTES / _MEBI if len(known) == len(elements) else None
