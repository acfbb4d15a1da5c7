"""Put BatchNormalization nodes into a graph, turned to the axis that the channels lie on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inspector.facts.model import Attribute
from inspector.restore.kept import Original, Passed, Row
from inspector.write.splice import Editor, Splice

FIRST_OPSET = 7
"""Before it a BatchNormalization said with another attribute whether it trains."""


def insert(
    row: Row,
    entered: str,
    output: str,
    *,
    gap: Gap,
    axis: int,
    rank: int | None,
) -> list[str]:
    """Compute `output` from `entered` by a row; gives the names of its BatchNorms.

    Parameters
    ----------
    gap
        Where the nodes go.
    axis, rank
        Of the channels, and how many axes there are; the rank is not looked at for axis 1.
    """
    if axis == 1:
        return _row(row, entered, output, gap, rank)
    assert rank is not None  # who asks for another axis has to know it
    there = (0, axis, *(each for each in range(1, rank) if each != axis))
    back = tuple(there.index(each) for each in range(rank))
    name = row.originals[0].norm.name
    source = _before_transpose(entered, back, gap.editor)
    if source is None:
        source = gap.splice.value(f"{entered}_channels_first")
        gap.add("Transpose", [entered], source, f"{name}_channels_first", {"perm": there})
    target = _behind_transpose(output, there, gap.editor)
    if target is not None:
        gap.editor.remove(target)
        return _row(row, source, target, gap, rank)
    turned = gap.splice.value(f"{output}_channels_first")
    names = _row(row, source, turned, gap, rank)
    gap.add("Transpose", [turned], output, f"{name}_channels_last", {"perm": back})
    return names


class Gap:
    """Where nodes go, one behind the other.

    Parameters
    ----------
    beside, before
        Behind which value's node they go, or in front of which.
    """

    def __init__(
        self, beside: str, *, editor: Editor, splice: Splice, before: bool = False
    ) -> None:
        self._beside, self._before = beside, before
        self.editor, self.splice = editor, splice

    def add(
        self,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        name: str,
        attributes: dict[str, Attribute],
    ) -> str:
        """Add a node; gives the name that it got."""
        got = self.splice.node(name)
        self.editor.insert(
            self._beside,
            op_type,
            inputs,
            output,
            name=got,
            attributes=attributes,
            before=self._before,
        )
        self._beside, self._before = output, False
        return got


def _row(row: Row, entered: str, output: str, gap: Gap, rank: int | None) -> list[str]:
    names = []
    for at, each in enumerate(row.steps):
        given = each.norm.output if isinstance(each, Original) else each.plain.node.outputs[0]
        target = output if at == len(row.steps) - 1 else gap.splice.value(given)
        if isinstance(each, Original):
            inputs = [entered, *tensors(each, gap.splice)]
            name, attributes, op_type = each.norm.name, told(each), "BatchNormalization"
        else:
            inputs = [entered, _constant(each, gap.splice, rank)]
            inputs = inputs[::-1] if each.plain.position == 0 else inputs
            name, attributes, op_type = each.plain.node.label, {}, each.plain.node.op_type
        got = gap.add(op_type, inputs, target, name, attributes)
        if isinstance(each, Original):
            names.append(got)
            gap.editor.describe(target, each.notes)
        entered = target
    return names


def _constant(passed: Passed, splice: Splice, rank: int | None) -> str:
    """The reference's constant, with its channels on axis 1."""
    values = passed.constant.values
    assert values.size == 1 or rank is not None  # who asks has to know it
    shape = () if values.size == 1 else (-1, *(1 for _ in range((rank or 2) - 2)))
    return splice.tensor((*passed.constant.key, shape), passed.constant.name, values.reshape(shape))


def tensors(original: Original, splice: Splice) -> list[str]:
    """What a node has to read: scale, B, mean and var under the framework's names."""
    return [splice.tensor(each.key, each.name, each.values) for each in original.four]


def told(original: Original) -> dict[str, Attribute]:
    """A BatchNorm's attributes; the momentum only where the reference tells it."""
    norm = original.norm
    found: dict[str, Attribute] = {"epsilon": norm.epsilon}
    if norm.momentum_stated:
        found["momentum"] = norm.momentum
    return found


def _before_transpose(value: str, perm: tuple[int, ...], editor: Editor) -> str | None:
    """What a value was before a Transpose that would only be undone."""
    node = editor.node(value)
    return None if node is None or not _is_transpose(node, perm) else str(node.input[0])


def _behind_transpose(value: str, perm: tuple[int, ...], editor: Editor) -> str | None:
    """What a value is behind a Transpose that alone reads it, and would only undo another."""
    readers = editor.readers(value)
    if readers is None or len(readers) != 1 or not _is_transpose(readers[0], perm):
        return None
    return str(readers[0].output[0])


def _is_transpose(node: Any, perm: tuple[int, ...]) -> bool:
    if node.op_type != "Transpose" or node.domain not in ("", "ai.onnx"):
        return False
    return any(each.name == "perm" and tuple(each.ints) == perm for each in node.attribute)
