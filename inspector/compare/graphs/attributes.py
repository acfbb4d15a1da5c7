"""What an operator's attributes say, in words that two models can be compared by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from inspector.compare.graphs.digest import digest_of_function, digest_of_subgraph, digest_of_tensor
from inspector.compare.pairing.layout import Axes
from inspector.facts.model import Attribute, Dim, Graph, Model, Node, Tensor

_OF_BATCHNORM = frozenset("epsilon momentum spatial is_test training_mode".split())
"""Compared on their own (`inspector.compare.causes.norms`), or, as spatial, not at all."""

_SOFTMAX = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
_SOFTMAX_OF_ONE_AXIS = 13
"""The opset from which on they run over one axis: before, they took a matrix, of all axes in front
of theirs and all from it on (onnx's docs/Changelog.md, Softmax-13)."""

_GATES: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}
"""What recurrent layers compute with where nothing is said, for each direction."""

_CAME_LATER: Mapping[str, Mapping[str, Attribute]] = {
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
    "AveragePool": {"ceil_mode": 0, "count_include_pad": 0},
    "MaxPool": {"ceil_mode": 0, "storage_order": 0},
    "LSTM": {"layout": 0, "input_forget": 0},
    "GRU": {"layout": 0, "linear_before_reset": 0},
    "RNN": {"layout": 0},
    "Cast": {"saturate": 1},
    "Reshape": {"allowzero": 0},
    "DepthToSpace": {"mode": b"DCR"},
    "ArgMax": {"select_last_index": 0},
    "ArgMin": {"select_last_index": 0},
    "TopK": {"largest": 1, "sorted": 1},
    "ScatterND": {"reduction": b"none"},
    "ScatterElements": {"reduction": b"none"},
}
"""Attributes that later versions of operators have, with the values at which those do what the
first one did. Not what changed with them, as the coordinates of Resize-11 did."""

_WINDOWED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"})
_OF_WINDOWS = ("kernel_shape", "strides", "dilations", "pads", "output_padding")

_FEW = 4
"""Elements of a tensor that are shown as they are."""

_SHOWN = 8
"""Characters of a digest that are shown: enough to see that two are not one, as a rule."""

_DIGEST = re.compile(r"\b[0-9a-f]{40}\b")


def words_of(
    node: Node,
    model: Model,
    *,
    axes: Axes | None,
    dims: Sequence[Dim] | None,
    weight: Tensor | None,
    outer: Mapping[str, str],
) -> dict[str, str]:
    """Everything about a node beside its inputs that decides what it computes.

    Parameters
    ----------
    axes, dims
        Layout and lengths of the node's first input where they are known.
    weight
        The stored tensor it reads as its second input, if that is stored.
    outer
        Digests of what its subgraphs read from outside.
    """
    found: dict[str, str] = {}
    given = {**_CAME_LATER.get(node.op_type, {}), **node.attributes}
    if not node.is_standard:
        given = dict(node.attributes)
    given |= _without_axes_of_one(node, given, dims, weight)
    for name, value in sorted(given.items()):
        if _is_left_out(node, name, weight) or _is_default(name, value):
            continue
        if _has_no_say(node, name, value, given):
            continue
        if name in ("axis", "axes") and isinstance(value, int | tuple):
            found[name] = str(_canonical_axes(value, axes, dims))
        else:
            found[name] = _in_words(value, model, outer)
    if node.is_standard and node.op_type in _SOFTMAX and model.opset < _SOFTMAX_OF_ONE_AXIS:
        found |= _coerced(node, dims)
    if node.op_type == "Split":
        found["outputs"] = str(len(node.outputs))
    if (function := model.function(node)) is not None:
        found["function"] = digest_of_function(model, function)
    return _without_auto_pad(node, found, weight)


def shown(left: str | None, right: str | None) -> tuple[str, str]:
    """Words of two attributes that differ, as messages show them.

    Of digests the first few characters, as long as those tell the two apart.
    """
    whole = [
        "not set" if each is None else each.encode("utf-8", "backslashreplace").decode()
        for each in (left, right)
    ]
    short = [_DIGEST.sub(lambda found: found[0][:_SHOWN], each) for each in whole]
    one, other = whole if short[0] == short[1] else short
    return one, other


def _coerced(node: Node, dims: Sequence[Dim] | None) -> dict[str, str]:
    """What an old Softmax runs over beside its axis: all behind it, as one."""
    axis = node.int_attribute("axis", 1)
    behind = dims[axis:][1:] if dims is not None else (None,)
    if axis == -1 or all(dim == 1 for dim in behind):
        return {}
    return {"over": "the axis and all behind it, as one"}


def _is_left_out(node: Node, name: str, weight: Tensor | None) -> bool:
    if name == "consumed_inputs" or (name == "kernel_shape" and weight is not None):
        return True
    return node.op_type == "BatchNormalization" and name in _OF_BATCHNORM


def _is_default(name: str, value: Attribute) -> bool:
    """Lists that say nothing; the operators' schemas give no default for them."""
    if isinstance(value, tuple):
        if name in ("pads", "output_padding"):
            return not any(value)
        if name in ("strides", "dilations"):
            return all(each == 1 for each in value)
    return value is None


def _has_no_say(node: Node, name: str, value: Attribute, given: Mapping[str, Attribute]) -> bool:
    """Whether an attribute is what its absence says, or decides nothing beside the others."""
    if not node.is_standard:
        return False
    if name == "activations" and isinstance(value, tuple) and node.op_type in _GATES:
        told = [
            each.decode("utf-8", "replace").lower() for each in value if isinstance(each, bytes)
        ]
        usual = list(_GATES[node.op_type])
        return told in (usual, 2 * usual)
    if name == "count_include_pad" and node.op_type == "AveragePool":
        pads, auto = given.get("pads", ()), given.get("auto_pad", b"NOTSET")
        padded = (isinstance(pads, tuple) and any(pads)) or auto not in (b"NOTSET", b"VALID")
        # What ceil_mode puts behind the end is no padding, and yet counted by some kernels.
        return not padded and given.get("ceil_mode", 0) == 0
    return False


def _without_axes_of_one(
    node: Node, given: Mapping[str, Attribute], dims: Sequence[Dim] | None, weight: Tensor | None
) -> dict[str, Attribute]:
    """A window's attributes without spatial axes along which there is but one place.

    A convolution over a line is written as one over a plane that is one high.
    """
    if not node.is_standard or node.op_type not in _WINDOWED or dims is None or len(dims) < 4:
        return {}
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return {}
    rank = len(dims) - 2
    kernel = weight.dims[2:] if weight is not None else node.ints_attribute("kernel_shape")
    lists = {name: each for name in _OF_WINDOWS if (each := node.ints_attribute(name))}
    if kernel is None or len(kernel) != rank:
        return {}
    if any(len(each) != rank * (1 + (name == "pads")) for name, each in lists.items()):
        return {}
    pads = lists.get("pads", (0,) * 2 * rank)
    others = {"strides": (1,) * rank, "output_padding": (0,) * rank, **lists}
    kept = [
        at
        for at in range(rank)
        if not (
            dims[2 + at] == 1
            and kernel[at] == 1
            and pads[at] == pads[rank + at] == 0
            and others["strides"][at] == 1
            and others["output_padding"][at] == 0
        )
    ]
    found: dict[str, Attribute] = {}
    for name, each in lists.items():
        places = (*kept, *(rank + at for at in kept))
        found[name] = tuple(each[at] for at in places if at < len(each))
    return found


def _canonical_axes(
    value: Attribute, axes: Axes | None, dims: Sequence[Dim] | None
) -> list[int | str]:
    """Axes counted from the front, in channel-first order where the layout is known."""
    rank = len(dims) if dims is not None else None
    found: list[int | str] = []
    for each in value if isinstance(value, tuple) else (value,):
        if not isinstance(each, int):
            found.append(str(each))
            continue
        at = each + rank if rank is not None and each < 0 else each
        found.append(axes[at] if axes is not None and 0 <= at < len(axes) else at)
    return found


def _without_auto_pad(node: Node, found: dict[str, str], weight: Tensor | None) -> dict[str, str]:
    """SAME padding written out where it does not depend on the size of the input."""
    auto = found.get("auto_pad")
    if auto in ("NOTSET", "VALID"):
        return {name: words for name, words in found.items() if name != "auto_pad"}
    fixed = node.op_type == "Conv" and weight is not None and "strides" not in found
    if auto not in ("SAME_UPPER", "SAME_LOWER") or not fixed or weight is None:
        return found
    kernel = weight.dims[2:]
    dilations = node.ints_attribute("dilations") or (1,) * len(kernel)
    if len(dilations) != len(kernel):
        return found
    total = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    first = [(t + (auto == "SAME_LOWER")) // 2 for t in total]
    pads = (*first, *(t - f for t, f in zip(total, first, strict=True)))
    rest = {name: words for name, words in found.items() if name != "auto_pad"}
    return {**rest, "pads": str(list(pads))} if any(pads) else rest


def _in_words(value: Attribute, model: Model, outer: Mapping[str, str]) -> str:
    match value:
        case bytes():
            # What is no text is kept, too: two that are none differ.
            return value.decode("utf-8", "surrogateescape")
        case float():
            return str(np.float32(value))
        case tuple():
            return "[" + ", ".join(_in_list(each, model, outer) for each in value) + "]"
        case Tensor() if value.elements <= _FEW and value.dtype != "string":
            numbers = ", ".join(str(each) for each in model.weights.load(value).reshape(-1))
            # All that a tensor is; its name has no meaning.
            return f"{value.dtype} {list(value.dims)} of {numbers}"
        case Tensor():
            content = digest_of_tensor(model, value)
            return f"tensor {value.dtype} {list(value.dims)} ({content})"
        case Graph():
            content = digest_of_subgraph(model, value, outer)
            return f"subgraph of {len(value.nodes)} nodes ({content})"
        case _:
            return str(value)


def _in_list(value: Attribute, model: Model, outer: Mapping[str, str]) -> str:
    words = _in_words(value, model, outer)
    # Quoted: ["a, b"] is not ["a", "b"].
    return repr(words) if isinstance(value, bytes) else words
