"""Tie the tensors of a converted model back to Keras' variables, and name them after those."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.export import protos
from inspector.export.keras_trace import number_of
from inspector.export.tensorflow_fused import MARK

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def tie(
    proto: ModelProto, captured: Mapping[str, Any], value: Callable[[Any], Array]
) -> dict[str, Any]:
    """Which initializer holds which variable.

    Most constants keep the name under which TensorFlow froze the variable. The others were
    transposed or reshaped on the way and are known by their values in sorted order; where several
    variables have equal values, the nearer name scope decides, then the order in the graph.
    """
    held = {
        name: tensor
        for name, tensor in protos.initializers(proto).items()
        if _is_float(tensor) and (number_of(name) is None or name.partition(":")[0] in captured)
    }
    values = {key: value(each) for key, each in captured.items()}
    tied: dict[str, Any] = {}
    for name, tensor in held.items():
        key = name.partition(":")[0]
        if key in captured and _same_values(values[key], protos.array(tensor)):
            tied[name] = captured[key]
    known = {id(each) for each in tied.values()}
    left = {key: values[key] for key, each in captured.items() if id(each) not in known}
    rest = {name: tensor for name, tensor in held.items() if name not in tied}
    for name, key in _by_value(rest, left).items():
        tied[name] = captured[key]
    known = {id(each) for each in tied.values()}
    left = {
        key: -values[key]
        for key, each in captured.items()
        if id(each) not in known and values[key].dtype.kind == "f"
    }
    rest = {name: tensor for name, tensor in held.items() if name not in tied}
    for name, key in _by_value(rest, left).items():
        # Equal but for the sign is no proof by itself: it has to be where the layer computes.
        if _common_scopes(key, name, numbered=False) > 1:
            tied[name] = captured[key]
    return tied


def stored_as(proto: ModelProto, name: str, path: str, values: Array) -> str:
    """What to call an initializer that holds a variable: PReLU's slopes are stored negated."""
    stored = protos.array(protos.initializers(proto)[name])
    return path if _same_values(values, stored) else f"{path}/negated"


def _is_float(tensor: TensorProto) -> bool:
    from onnx import TensorProto as Kinds

    return tensor.data_type in (Kinds.FLOAT, Kinds.FLOAT16, Kinds.DOUBLE)


def _same_values(variable: Array, stored: Array) -> bool:
    if variable.size != stored.size:
        return False
    cast = variable.astype(stored.dtype)
    if cast.tobytes() == stored.tobytes():
        return True
    return _sorted(cast) == _sorted(stored)


def _sorted(values: Array) -> bytes:
    # As float64, so that a half-precision variable meets its exact single-precision copy.
    return np.sort(values.astype(np.float64).reshape(-1)).tobytes()


def _by_value(rest: Mapping[str, TensorProto], left: Mapping[str, Array]) -> dict[str, str]:
    sizes = {values.size for values in left.values()}
    groups: dict[tuple[np.dtype[Any], bytes], tuple[list[str], list[str]]] = {}
    for name, tensor in rest.items():
        if int(np.prod(tensor.dims)) in sizes:
            stored = protos.array(tensor)
            groups.setdefault((stored.dtype, _sorted(stored)), ([], []))[1].append(name)
    for dtype in {dtype for dtype, _ in groups}:
        for key, values in left.items():
            # Under mixed precision the kernels are stored as the layers use them: in half.
            with np.errstate(over="ignore"):
                group = groups.get((dtype, _sorted(values.astype(dtype))))
            if group is not None:
                group[0].append(key)
    tied: dict[str, str] = {}
    for keys, names in groups.values():
        tied.update(_pair(keys, names))
    return tied


def _pair(keys: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Pair variables and constants of equal values: nearest scopes first, then in order."""
    nearest = sorted(
        (
            (-_common_scopes(key, name), i, j, key, name)
            for i, key in enumerate(keys)
            for j, name in enumerate(names)
        ),
    )
    used: set[str] = set()
    tied: dict[str, str] = {}
    for _, _, _, key, name in nearest:
        if key not in used and name not in tied:
            used.add(key)
            tied[name] = key
    # What is left is stored again: a variable used in two layouts, or by a layer called twice.
    if len(keys) == 1:
        tied.update(dict.fromkeys(names, keys[0]))
    for name in names if keys else ():
        if name not in tied:
            key = max(keys, key=lambda each: _common_scopes(each, name, numbered=False))
            # A constant of the model's own that is equal by chance shares the model's name alone.
            if _common_scopes(key, name, numbered=False) > 1:
                tied[name] = key
    return tied


_CALL = re.compile(r"_\d+$")
"""What TensorFlow adds to a scope that is entered again."""


def _common_scopes(key: str, name: str, *, numbered: bool = True) -> int:
    count = 0
    for left, right in zip(key.split("/"), name.split("/"), strict=False):
        same = left == right if numbered else _CALL.sub("", left) == _CALL.sub("", right)
        if not same:
            break
        count += 1
    return count


def merge_copies(proto: ModelProto, tied: dict[str, Any]) -> None:
    """Store a variable once where tf2onnx stored it twice in one layout.

    This never merges two variables, however equal they are.
    """
    held = protos.initializers(proto)
    first: dict[tuple[object, ...], str] = {}
    again: dict[str, str] = {}
    for name, variable in tied.items():
        tensor = held[name]
        key = (id(variable), tensor.data_type, tuple(tensor.dims), protos.array(tensor).tobytes())
        if key in first:
            again[name] = first[key]
        else:
            first[key] = name
    for graph in protos.graphs(proto) if again else ():
        kept = [each for each in graph.initializer if each.name not in again]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for node in graph.node:
            for position, name in enumerate(node.input):
                node.input[position] = again.get(name, name)
    for name in again:
        del tied[name]


_NUMBERED = re.compile(r"__(\d+)")


def renumber(proto: ModelProto, captured: Mapping[str, Any]) -> None:
    """Number what tf2onnx invented, and order the initializers, as the graph uses them.

    tf2onnx goes by the order of sets, which differs from one process to the next. Names of
    captured variables, inputs and outputs stay.
    """
    numbers: dict[str, str] = {}

    def renumbered(name: str) -> str:
        return _NUMBERED.sub(
            lambda found: f"__{numbers.setdefault(found[1], str(len(numbers) + 1))}", name
        )

    kept = {each.name for each in (*proto.graph.input, *proto.graph.output)}
    kept |= {name for name in protos.value_names(proto) if name.partition(":")[0] in captured}
    for node in protos.nodes(proto):
        node.name = renumbered(node.name)
        for name in node.output:
            renumbered(name)
    taken = set(kept)
    met = [name for node in protos.nodes(proto) for name in (*node.input, *node.output)]
    names = dict.fromkeys((*met, *sorted(protos.value_names(proto))))
    protos.rename_values(
        proto,
        {
            name: protos.unique(renumbered(name), taken)
            for name in names
            if name and name not in kept
        },
    )
    for graph in protos.graphs(proto):
        uses = [name for node in graph.node for name in node.input]
        first = {name: position for position, name in reversed(list(enumerate(uses)))}
        ordered = sorted(graph.initializer, key=lambda each: first.get(each.name, len(uses)))
        del graph.initializer[:]
        graph.initializer.extend(ordered)


def rename(proto: ModelProto, wanted: Mapping[str, str]) -> dict[str, str]:
    """Rename initializers as wanted and take the marks out of all other names.

    Returns
    -------
    The new name of every value whose name changed.
    """
    names = protos.value_names(proto)
    taken = {name for name in names if name not in wanted and MARK not in name}
    renamed = {old: protos.unique(new, taken) for old, new in wanted.items()}
    for name in sorted(names - renamed.keys()):
        if MARK in name:
            renamed[name] = protos.unique(unmarked(name), taken)
    protos.rename_values(proto, renamed)
    _rename_nodes(proto)
    return renamed


def _rename_nodes(proto: ModelProto) -> None:
    """Take the marks out of the names of nodes around a BatchNorm; its own still carries it."""
    taken = {node.name for node in protos.nodes(proto)}
    for node in protos.nodes(proto):
        if MARK in node.name and node.op_type != "BatchNormalization":
            node.name = protos.unique(unmarked(node.name), taken)


def unmarked(name: str) -> str:
    """A name without the scope that carries the mark."""
    return "/".join(part for part in name.split("/") if not part.startswith(MARK))
