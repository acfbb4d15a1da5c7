"""Keras model → TensorFlow graph → ONNX, with every BatchNorm marked by the layer it came from."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.run import Array
from inspector.errors import UnreadableError
from inspector.export import keras_patches as patches
from inspector.export.feeds import Feeds, Input
from inspector.export.protos import unique
from inspector.export.source import described
from inspector.export.tensorflow_graphs import without_erfc

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How a Keras model is called: its inputs, flat, and the structure they are packed into."""

    inputs: tuple[Input, ...]
    structure: Any
    with_training: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A converted model, not yet renamed.

    `captured` maps the name of a frozen constant to the variable it holds; `calls` are the calls
    of BatchNorm layers by their number, `expected` the numbers that the outputs depend on. `scopes`
    are those that each layer's nodes are named under, by the layer's id.
    """

    proto: ModelProto
    captured: Mapping[str, Any]
    calls: Sequence[patches.Call]
    expected: frozenset[int]
    arithmetic: Sequence[Any]
    scopes: Mapping[int, Sequence[str]]


def signatures(model: Any) -> list[Signature]:
    """Ways to call the model, the best first: with any batch, then with the one it was built for.

    Raises
    ------
    inspector.errors.UnreadableError
        It was never built or called, so its input shapes are not known.
    """
    import keras
    from keras.src.export.export_utils import get_input_signature

    try:
        structure = get_input_signature(model)
    except (ValueError, TypeError) as error:
        raise UnreadableError(
            f"Keras does not know the model's input shapes ({described(error)})",
            where=f"model {model.name!r}",
            hint="call it once on an example before returning it",
        ) from error
    _refuse_unrecorded(model, structure)
    specs = keras.tree.flatten(structure)
    declared = [each.shape[0] for each in getattr(model, "inputs", None) or ()]
    free = _signature(model, structure, specs, [None] * len(specs))
    if len(declared) != len(specs) or None in declared:
        return [free]
    return [free, _signature(model, structure, specs, declared)]


def _refuse_unrecorded(model: Any, structure: Any) -> None:
    """Keras records the first argument's shape alone where a subclass has no `build`."""
    import keras

    if isinstance(model, (keras.Sequential, keras.src.models.Functional)):
        return
    needed = [
        each.name
        for each in inspect.signature(model.call).parameters.values()
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > len(structure):
        raise UnreadableError(
            f"its call takes {', '.join(needed)}, and Keras recorded the shape of "
            f"{len(structure)} of them",
            where=f"model {model.name!r}",
            hint="wrap it: keras.Model(inputs, model(*inputs)) with a keras.Input for each",
        )


def _signature(
    model: Any, structure: Any, specs: Sequence[Any], batches: Sequence[int | None]
) -> Signature:
    import keras

    taken: set[str] = set()
    inputs = []
    for position, (spec, batch) in enumerate(zip(specs, batches, strict=True)):
        # Keras numbers unnamed inputs through the process; those names would mean nothing.
        given = "" if str(spec.name or "").startswith("keras_tensor") else spec.name
        name = given or ("input" if len(specs) == 1 else f"input_{position}")
        inputs.append(
            Input(
                name=unique(name, taken),
                dtype=np.dtype(keras.backend.standardize_dtype(spec.dtype)),
                dims=(batch, *spec.shape[1:]),
            )
        )
    return Signature(
        inputs=tuple(inputs),
        structure=structure,
        # Passing an argument that `call` does not have is an error for subclassed models.
        with_training=bool(getattr(model, "_call_has_training_arg", False)),
    )


def runner(model: Any, how: Signature) -> Callable[[Feeds], list[Array]]:
    """The model's inference as a function of arrays by input name."""
    import keras

    def run(feeds: Feeds) -> list[Array]:
        result = _call(model, how, [feeds[each.name] for each in how.inputs])
        return [np.asarray(keras.ops.convert_to_numpy(each)) for each in keras.tree.flatten(result)]

    return run


def _call(model: Any, how: Signature, flat: Sequence[Any]) -> Any:
    import keras

    packed = keras.tree.pack_sequence_as(how.structure, list(flat))
    return model(*packed, **({"training": False} if how.with_training else {}))


def convert(model: Any, how: Signature, opset: int) -> Converted:
    """Trace the model and convert it, under the patches that keep BatchNorm.

    Raises
    ------
    Exception
        Whatever Keras, TensorFlow or tf2onnx raises.
    """
    import tensorflow as tf

    with (
        patches.native_batchnorm() as calls,
        patches.scopes_noted() as scopes,
        patches.inlined_functions(),
    ):
        concrete = _trace(model, how)
    names = {concrete.inputs[position].name: each.name for position, each in enumerate(how.inputs)}
    outputs = [each.name for each in concrete.outputs]
    taken = set(names.values())
    wanted = _output_names(model, concrete)
    names |= {output: unique(name, taken) for output, name in zip(outputs, wanted, strict=True)}
    captured = _captured(model, concrete)
    with patches.untouched_constants() as optimizers, tf.device("/cpu:0"):
        frozen, proto = _to_onnx(model, concrete, names, opset, optimizers, len(how.inputs))
    return Converted(
        proto=proto,
        captured=captured,
        calls=tuple(calls.met),
        expected=_reachable(frozen, outputs),
        arithmetic=tuple(calls.unsupported),
        scopes=scopes,
    )


def _trace(model: Any, how: Signature) -> Any:
    import keras
    import tensorflow as tf

    specs = [
        tf.TensorSpec(each.dims, each.dtype, name=f"bninspect_input_{position}")
        for position, each in enumerate(how.inputs)
    ]

    def traced(*flat: Any) -> dict[str, Any]:
        results = keras.tree.flatten(_call(model, how, flat))
        # Identities: one tensor may be given out twice, and an input may be an output.
        return {f"{position:06d}": tf.identity(each) for position, each in enumerate(results)}

    return tf.function(traced, input_signature=specs, autograph=False).get_concrete_function()


def _output_names(model: Any, concrete: Any) -> list[str]:
    count = len(concrete.outputs)
    declared = list(getattr(model, "output_names", None) or ())
    if not declared and getattr(model, "outputs", None):
        declared = [each._keras_history.operation.name for each in model.outputs]
    if len(declared) == count:
        return [str(name) for name in declared]
    return ["output"] if count == 1 else [f"output_{position}" for position in range(count)]


def _captured(model: Any, concrete: Any) -> dict[str, Any]:
    by_handle = {id(each.value.handle): each for each in model.variables}
    found = {}
    for outside, inside in concrete.graph.captures:
        if id(outside) in by_handle:
            found[inside.name.partition(":")[0]] = by_handle[id(outside)]
    return found


def _to_onnx(
    model: Any,
    concrete: Any,
    names: Mapping[str, str],
    opset: int,
    optimizers: Mapping[str, Any],
    count: int,
) -> tuple[Any, ModelProto]:
    import tensorflow as tf
    import tf2onnx
    from tf2onnx import optimizer, tf_loader
    from tf2onnx.tfonnx import process_tf_graph

    # Captured tensors are inputs of the traced function as well, after the declared ones.
    inputs = [each.name for each in concrete.inputs[:count]]
    outputs = [each.name for each in concrete.outputs]
    frozen, tables = tf_loader.from_trackable(model, concrete, inputs, outputs, False)
    without_erfc(frozen)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        onnx_graph = process_tf_graph(
            graph,
            opset=opset,
            input_names=inputs,
            output_names=outputs,
            initialized_tables=tables,
            tensors_to_rename=dict(names),
        )
        onnx_graph = optimizer.optimize_graph(onnx_graph, True, optimizers=optimizers)
        _set_groups(onnx_graph)
        proto = onnx_graph.make_model(model.name)
    # tf2onnx adds the commit of its checkout, which a release writes as "None".
    proto.producer_version = tf2onnx.__version__
    return frozen, proto


def _set_groups(graph: Any) -> None:
    """Say how many groups a convolution has: tf2onnx tells it for two axes alone."""
    for node in graph.get_nodes():
        if node.type == "Conv" and len(node.input) > 1:
            given, kernel = graph.get_shape(node.input[0]), graph.get_shape(node.input[1])
            if given and kernel and min(given[1], kernel[1]) > 0:
                node.set_attr("group", given[1] // kernel[1])


_MARKED = re.compile(rf"{patches.MARK}(\d+)(?:_\d+)?/")


def number_of(name: str) -> int | None:
    """The number of the BatchNorm call that a node or value name carries."""
    found = _MARKED.search(name)
    return int(found.group(1)) if found else None


def _reachable(frozen: Any, outputs: Sequence[str]) -> frozenset[int]:
    """Numbers of the calls that the outputs depend on; all of those inside of functions."""
    by_name = {node.name: node for node in frozen.node}
    waiting = [name.partition(":")[0] for name in outputs]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        waiting.extend(each.lstrip("^").partition(":")[0] for each in by_name[name].input)
    reached = [by_name[name] for name in seen]
    reached += [node for function in frozen.library.function for node in function.node_def]
    return frozenset(
        number
        for node in reached
        if node.op == "FusedBatchNormV3" and (number := number_of(node.name)) is not None
    )
