"""Put BatchNormalization nodes into a graph, turned to the axis that the channels lie on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inspector.facts.model import Attribute
from inspector.restore.kept import Original
from inspector.write.splice import Editor, Splice

FIRST_OPSET = 7
"""Before it a BatchNormalization said with another attribute whether it trains."""


def insert(
    originals: Sequence[Original],
    entered: str,
    output: str,
    *,
    gap: Gap,
    axis: int,
    rank: int | None,
) -> list[str]:
    """Compute `output` from `entered` by BatchNorms in a row; gives their nodes' names.

    Parameters
    ----------
    gap
        Where the nodes go.
    axis, rank
        Of the channels, and how many axes there are; the rank is not looked at for axis 1.
    """
    if axis == 1:
        return _row(originals, entered, output, gap)
    assert rank is not None  # who asks for another axis has to know it
    there = (0, axis, *(each for each in range(1, rank) if each != axis))
    back = tuple(there.index(each) for each in range(rank))
    name = originals[0].norm.name
    source = _before_transpose(entered, back, gap.editor)
    if source is None:
        source = gap.splice.value(f"{entered}_channels_first")
        gap.add("Transpose", [entered], source, f"{name}_channels_first", {"perm": there})
    target = _behind_transpose(output, there, gap.editor)
    if target is not None:
        gap.editor.remove(target)
        return _row(originals, source, target, gap)
    turned = gap.splice.value(f"{output}_channels_first")
    names = _row(originals, source, turned, gap)
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


def _row(originals: Sequence[Original], entered: str, output: str, gap: Gap) -> list[str]:
    names = []
    for at, each in enumerate(originals):
        last = at == len(originals) - 1
        target = output if last else gap.splice.value(each.norm.output)
        inputs = [entered, *tensors(each, gap.splice)]
        names.append(gap.add("BatchNormalization", inputs, target, each.norm.name, told(each)))
        gap.editor.describe(target, each.notes)
        entered = target
    return names


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
