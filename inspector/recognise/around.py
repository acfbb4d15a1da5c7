"""What stands around a BatchNorm, and which operator could take it in."""

from __future__ import annotations

from collections.abc import Sequence

from inspector.facts.model import Dim, Node
from inspector.recognise.operators import ACTIVATIONS, FOLDS_INTO, MOVES, NEXT_TO
from inspector.recognise.place import Place

_OTHER_LENGTHS = frozenset({"Concat", "Pad", "Resize", "Upsample", "Slice"})
_SAME_RANK = (_OTHER_LENGTHS | ACTIVATIONS) | frozenset(
    "BatchNormalization InstanceNormalization LRN MaxPool AveragePool GlobalAveragePool "
    "GlobalMaxPool Dropout Identity Cast Transpose MatMul ReduceMean ReduceMax ReduceSum "
    "ReduceMin Slice".split()
)
"""Operators whose output has as many axes as their first input."""

_ONE_STREAM = (NEXT_TO | MOVES | ACTIVATIONS) | frozenset(
    {"Dropout", "MaxPool", "AveragePool", "Pad", "Resize", "Upsample"}
)
"""Operators that make one value of one other: what stands in front of them is still the same."""

_MOST_BETWEEN = 3
"""Operators behind which another one is no longer next to a BatchNorm."""

_FURTHEST = 32
"""Operators that are looked at for the dims of a value."""

_MOST = 64
"""Operators that are seen through on one side: no network moves a value more often."""


def after(value: str, place: Place) -> tuple[str, ...]:
    """The operator that `value` comes from, or ``input``."""
    producer = _behind(value, place)[0]
    if producer is not None:
        return (producer.op_type,)
    return ("input",) if place.is_input(_behind(value, place)[1]) else ()


def before(value: str, place: Place) -> tuple[str, ...]:
    """The operators that `value` goes to, each once, and ``output`` where it leaves the graph."""
    if not value:
        return ()
    found: dict[str, None] = {}
    pending, seen = [value], {value}
    while pending:
        name = pending.pop(0)
        for node in place.readers(name):
            fresh = [each for each in node.outputs if each and each not in seen]
            through = node.op_type in NEXT_TO and node.input(0) == name
            if through and fresh and len(seen) < _MOST:
                seen.update(fresh)
                pending += fresh
            else:
                found[node.op_type] = None
        if name in place.outputs:
            found["output"] = None
    return tuple(found)


def fold_target(value: str, place: Place) -> tuple[str | None, str]:
    """The label of the operator that could take in a map of `value`, or why none can."""
    passed: list[str] = []
    producer = place.producer(value)
    name = value
    while producer is not None and len(passed) <= _MOST_BETWEEN:
        if not _alone(name, place):
            return None, f"others read the output of {producer.op_type} {producer.label!r} too"
        if producer.op_type in FOLDS_INTO and producer.is_standard:
            break
        if producer.op_type not in _ONE_STREAM:
            producer = None
            break
        if producer.op_type != "Identity":
            passed.append(producer.op_type)
        name = producer.input(0)
        producer = place.producer(name)
    if producer is None or producer.op_type not in FOLDS_INTO or len(passed) > _MOST_BETWEEN:
        return None, _nothing_to_fold_into(value, place)
    if passed:
        return None, f"{_between(passed)} between it and {producer.op_type} {producer.label!r}"
    bias = producer.input(2)
    if _is_fixed(producer.input(1), place) and (not bias or _is_fixed(bias, place)):
        return producer.label, ""
    return None, f"the weights of {producer.op_type} {producer.label!r} are not fixed in the file"


def _between(passed: Sequence[str]) -> str:
    """Operators from the last to the first, as words that end in their verb."""
    *others, last = dict.fromkeys(reversed(passed))
    return f"{', '.join(others)} and {last} stand" if others else f"{last} stands"


def _nothing_to_fold_into(value: str, place: Place) -> str:
    source = after(value, place)
    if source == ("Add",):
        added = _behind(value, place)[0]
        data = [] if added is None else [n for n in added.inputs if not place.is_constant(n)]
        if len(data) == 1 and after(data[0], place)[:1] in (("MatMul",), ("Conv",)):
            return f"it follows {after(data[0], place)[0]} and the Add of its bias"
    if source == ("input",):
        return "nothing stands between it and the input"
    return f"it follows {source[0]}" if source else "what comes before it is not known"


def _alone(value: str, place: Place) -> bool:
    """Whether one node reads `value` and nobody else: others would see the folded weights too."""
    one = place.is_local(value) and len(place.readers(value)) == 1
    return one and value not in place.outputs


def behind_moves(value: str, place: Place) -> Node | None:
    """What computes `value`, seen through operators that only move it."""
    return _behind(value, place)[0]


def _behind(value: str, place: Place) -> tuple[Node | None, str]:
    """What computes `value`, seen through operators that only move it, and its name there."""
    producer = place.producer(value)
    for _ in range(_MOST):
        if producer is None or producer.op_type not in NEXT_TO:
            break
        value = producer.input(0)
        producer = place.producer(value)
    return producer, value


def dims_of(value: str, place: Place, within: int = _FURTHEST) -> tuple[Dim, ...] | None:
    """Dims of `value`, as they are declared or follow from the operators before it.

    None stands for a length that is not known, and for a rank that is not; no more than `within`
    operators are looked at.
    """
    if value in place.dims:
        return place.dims[value]
    found = _dims(value, place, within)
    if found is not None or within == _FURTHEST:
        # What is not known for having come too far may be known from nearer by.
        place.dims[value] = found
    return found


def _dims(value: str, place: Place, within: int) -> tuple[Dim, ...] | None:
    declared = place.declaration(value)
    if declared is not None and declared.dims is not None:
        return declared.dims
    if place.caller is not None and value in place.caller[1] and within:
        outside, names = place.caller
        return dims_of(names[value], outside, within - 1)
    node = place.producer(value)
    if node is None or not node.is_standard or not within:
        return None
    if node.op_type in FOLDS_INTO:
        return _dims_of_linear(node, place)
    if node.op_type == "Flatten":
        return None, None
    if node.op_type == "Reshape":
        return _dims_asked(node, place)
    if node.op_type not in _SAME_RANK:
        return None
    dims = dims_of(node.input(0), place, within - 1)
    if dims is None or not dims:
        return None
    if node.op_type == "MatMul":
        weight = place.source(node.input(1)).tensor
        return (*dims[:-1], weight.dims[-1]) if weight is not None and weight.dims else None
    if node.op_type == "Transpose":
        perm = node.ints_attribute("perm")
        whole = perm is not None and sorted(perm) == list(range(len(dims)))
        return tuple(dims[each] for each in perm) if whole and perm else None
    if node.op_type.startswith("Reduce"):
        # Which axes are reduced does not matter to what this is asked for: one of them may be.
        return (None,) * len(dims) if node.int_attribute("keepdims", 1) else None
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return (*dims[:2], *(1 for _ in dims[2:]))
    return (None,) * len(dims) if node.op_type in _OTHER_LENGTHS else dims


def _dims_asked(node: Node, place: Place) -> tuple[Dim, ...] | None:
    """Dims that a Reshape is told; 0 and -1 stand for lengths that depend on the input."""
    shape = node.ints_attribute("shape")
    if shape is None:
        tensor = place.binding(node.input(1)).tensor
        values = None if tensor is None or tensor.elements > 64 else place.chains.load(tensor)
        if values is None or values.dtype.kind != "i":
            return None
        shape = tuple(int(each) for each in values.reshape(-1))
    return tuple(each if each > 0 else None for each in shape)


def _dims_of_linear(node: Node, place: Place) -> tuple[Dim, ...] | None:
    """Dims of what a Conv, ConvTranspose or Gemm gives, by its weights."""
    tensor = place.source(node.input(1)).tensor
    if tensor is None or len(tensor.dims) < 2:
        return None
    dims = tensor.dims
    match node.op_type:
        case "Conv":
            return (None, dims[0], *(None for _ in dims[2:]))
        case "ConvTranspose":
            return (None, dims[1] * node.int_attribute("group", 1), *(None for _ in dims[2:]))
        case _:
            return (None, dims[0] if node.int_attribute("transB", 0) else dims[1])


def _is_fixed(value: str, place: Place) -> bool:
    """Whether the file holds the numbers behind `value` and nobody can feed others."""
    return place.initializer(value) is not None or place.source(value).is_fixed
