"""TensorFlow graph → ONNX, whoever built the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.compare.runtime.run import Array
from inspector.export import tensorflow_patches as patches
from inspector.export import tensorflow_resizing as resizing
from inspector.export.feeds import Feeds
from inspector.export.protos import unique
from inspector.export.tensorflow_graphs import with_single_resizes, without_erfc
from inspector.export.tensorflow_signatures import Signature
from inspector.export.tensorflow_subject import Subject
from inspector.export.tensorflow_unsupported import Whose, failed, operator, refuse_unknown

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A graph as it was frozen, and as tf2onnx wrote it.

    `captured` maps the name of a frozen constant to the variable it holds, `outputs` are the names
    in the frozen graph.
    """

    frozen: Any
    proto: ModelProto
    captured: Mapping[str, Any]
    outputs: Sequence[str]


def function_of(subject: Subject, how: Signature) -> Any:
    """The subject as a function of TensorFlow with the signature's shapes.

    Raises
    ------
    Exception
        Whatever the model's own code raises while it is traced.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec(each.dims, each.dtype, name=f"bninspect_input_{position}")
        for position, each in enumerate(how.inputs)
    ]

    def traced(*flat: Any) -> dict[str, Any]:
        given = [_as_own(each, how, position) for position, each in enumerate(flat)]
        # Identities: one tensor may be given out twice, and an input may be an output.
        return {
            f"{position:06d}": tf.identity(each)
            for position, each in enumerate(subject.call(given))
        }

    return tf.function(traced, input_signature=specs, autograph=False).get_concrete_function()


def _as_own(value: Any, how: Signature, position: int) -> Any:
    """An input as the model takes it, from as ONNX does."""
    import tensorflow as tf

    if position not in how.moved:
        return value
    rank = len(how.inputs[position].dims)
    order = [0, *range(2, rank), 1]
    return tf.transpose(value, order)


def runner(subject: Subject, how: Signature) -> Callable[[Feeds], list[Array]]:
    """The model's inference as a function of arrays by input name, unchanged by any patch.

    Raises
    ------
    Exception
        Whatever the model's own code raises while it is traced.
    """
    import tensorflow as tf

    concrete = function_of(subject, how) if how.traced else None

    def run(feeds: Feeds) -> list[Array]:
        flat = [tf.convert_to_tensor(feeds[each.name]) for each in how.inputs]
        if concrete is not None:
            found = concrete(*flat)
            return [np.asarray(found[key]) for key in sorted(found)]
        given = [_as_own(each, how, position) for position, each in enumerate(flat)]
        return [np.asarray(each) for each in subject.call(given)]

    return run


def write(
    subject: Subject,
    how: Signature,
    concrete: Any,
    opset: int,
    prepare: Callable[[Any, Mapping[str, Any], Sequence[str]], None] | None = None,
    whose: Whose = operator,
) -> Written:
    """Freeze a traced function and convert it, with every BatchNorm and constant left alone.

    Parameters
    ----------
    prepare
        Called with the frozen graph, the variables by the constants' names and the names of the
        outputs, to change the graph in place.
    whose
        What messages call the owner of an operator, from its name.

    Raises
    ------
    inspector.export.tensorflow_unsupported.ConversionError
        tf2onnx fails.
    inspector.export.tensorflow_unsupported.UnsupportedError
        tf2onnx has no words for an operator.
    Exception
        Whatever TensorFlow raises.
    """
    import tensorflow as tf

    names = {concrete.inputs[position].name: each.name for position, each in enumerate(how.inputs)}
    outputs = [each.name for each in concrete.outputs]
    taken = set(names.values())
    wanted = _output_names(subject, len(outputs))
    names |= {output: unique(name, taken) for output, name in zip(outputs, wanted, strict=True)}
    captured = _captured(subject, concrete)
    with patches.untouched_constants() as optimizers, tf.device("/cpu:0"):
        frozen, tables = _frozen(subject, concrete, len(how.inputs))
        if prepare is not None:
            prepare(frozen, captured, outputs)
        without_erfc(frozen)
        with_single_resizes(frozen)
        try:
            proto = _converted(frozen, tables, names, outputs, opset, optimizers, subject.name)
        except Exception as error:  # tf2onnx raises whatever its parts do
            raise failed(error, opset, subject.title, whose) from error
    refuse_unknown(proto, opset, subject.title, whose)
    _drop_idle_reshapes(proto)
    resizing.modernise_nearest(proto, opset)
    return Written(frozen=frozen, proto=proto, captured=captured, outputs=outputs)


def _output_names(subject: Subject, count: int) -> list[str]:
    names = subject.output_names()
    if len(names) == count:
        return list(names)
    return ["output"] if count == 1 else [f"output_{position}" for position in range(count)]


def _captured(subject: Subject, concrete: Any) -> dict[str, Any]:
    found = {}
    for outside, inside in concrete.graph.captures:
        if id(outside) in subject.variables:
            found[inside.name.partition(":")[0]] = subject.variables[id(outside)]
    return found


def _frozen(subject: Subject, concrete: Any, count: int) -> tuple[Any, Any]:
    from tf2onnx import tf_loader

    # Captured tensors are inputs of the traced function as well, after the declared ones.
    inputs = [each.name for each in concrete.inputs[:count]]
    outputs = [each.name for each in concrete.outputs]
    frozen, tables = tf_loader.from_trackable(subject.owner, concrete, inputs, outputs, False)
    return frozen, tables


def _converted(
    frozen: Any,
    tables: Any,
    names: Mapping[str, str],
    outputs: Sequence[str],
    opset: int,
    optimizers: Mapping[str, Any],
    title: str,
) -> ModelProto:
    import tensorflow as tf
    import tf2onnx
    from tf2onnx import optimizer
    from tf2onnx.tfonnx import process_tf_graph

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        onnx_graph = process_tf_graph(
            graph,
            opset=opset,
            input_names=[name for name in names if name not in outputs],
            output_names=list(outputs),
            initialized_tables=tables,
            tensors_to_rename=dict(names),
        )
        onnx_graph = optimizer.optimize_graph(onnx_graph, True, optimizers=optimizers)
        _set_groups(onnx_graph)
        resizing.give_lengths(onnx_graph, opset)
        proto: ModelProto = onnx_graph.make_model(title)
    # tf2onnx adds the commit of its checkout, which a release writes as "None".
    proto.producer_version = tf2onnx.__version__
    return proto


def _set_groups(graph: Any) -> None:
    """Say how many groups a convolution has: tf2onnx tells it for two axes alone."""
    for node in graph.get_nodes():
        if node.type == "Conv" and len(node.input) > 1:
            given, kernel = graph.get_shape(node.input[0]), graph.get_shape(node.input[1])
            if given and kernel and min(given[1], kernel[1]) > 0:
                node.set_attr("group", given[1] // kernel[1])


def _drop_idle_reshapes(proto: ModelProto) -> None:
    """Drop Reshapes of inputs to their own shape.

    tf2onnx writes transpositions of one channel as those; two of them in a row are idle.
    """
    from inspector.export import protos

    graph, held = proto.graph, protos.initializers(proto)
    dims = {
        each.name: [d.dim_value if d.HasField("dim_value") else -1 for d in shape]
        for each in graph.input
        if (shape := each.type.tensor_type.shape.dim)
    }
    outputs = {each.name for each in graph.output}
    idle = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Reshape"
        and node.input[1] in held
        and protos.array(held[node.input[1]]).tolist() == dims.get(node.input[0])
        and dims[node.input[0]].count(-1) <= 1
        and node.output[0] not in outputs
    }
    kept = [node for node in graph.node if not (node.output and node.output[0] in idle)]
    if not idle:
        return
    del graph.node[:]
    graph.node.extend(kept)
    for node in protos.nodes(proto):
        for position, name in enumerate(node.input):
            node.input[position] = idle.get(name, name)
    read = {name for node in protos.nodes(proto) for name in node.input} | outputs
    stored = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(stored)
