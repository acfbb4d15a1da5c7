"""What has to be changed in tf2onnx so that a BatchNorm stays one, and put back.

TensorFlow's Grappler and tf2onnx fold BatchNorm away. Every patch here and in
`inspector.export.keras_patches` is a context manager, restored on exceptions too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXCLUSIVE = threading.RLock()
"""Held while anything is patched: the libraries are one for all threads of a process."""


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Set an attribute for a while."""
    inherited = name not in vars(owner)
    found = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        # A class that inherits an attribute must not be left with one of its own.
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, found)


@contextmanager
def untouched_constants() -> Iterator[dict[str, Any]]:
    """Keep Grappler and tf2onnx from folding BatchNorms and merging equal constants.

    Yields the optimizers to give to tf2onnx: all but the one that merges constants of equal
    values (a fresh layer's mean and beta are both zeros).
    """
    from tf2onnx import optimizer, tf_loader, utils
    from tf2onnx.optimizer import back_to_back_optimizer

    folds = ("Conv", "BatchNormalization")
    with EXCLUSIVE:
        others = {
            name: fold for name, fold in back_to_back_optimizer._func_map.items() if name != folds
        }
        optimizers = {
            name: each
            for name, each in optimizer._get_optimizers().items()
            if name != "merge_duplication"
        }
        with (
            _root_silent(),
            replaced(tf_loader, "tf_optimize_grappler", _optimize_gently),
            replaced(back_to_back_optimizer, "_func_map", others),
            # Names end in a number that counts on through the process; from 1 they are
            # reproducible.
            replaced(utils, "INTERNAL_NAME", 1),
        ):
            yield optimizers


@contextmanager
def _root_silent() -> Iterator[None]:
    """tf2onnx logs to the root logger here and there, which `logging` then gives a handler."""
    root = logging.getLogger()
    found, handlers = root.disabled, list(root.handlers)
    root.disabled = True
    try:
        yield
    finally:
        root.disabled = found
        for each in set(root.handlers) - set(handlers):
            root.removeHandler(each)


def _optimize_gently(inputs: list[str], outputs: list[str], graph_def: Any) -> Any:
    """`tf2onnx.tf_loader.tf_optimize_grappler` without `constfold`.

    `constfold` pushes BatchNorm into kernels and deletes zero biases; `dependency` stays, or
    shared weights would be duplicated.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    config = config_pb2.ConfigProto()
    config.graph_options.infer_shapes = True
    rewrite = config.graph_options.rewrite_options
    rewrite.optimizers[:] = ["function", "dependency"]
    rewrite.experimental_disable_folding_quantization_emulation = True
    meta = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
    fetched = meta_graph_pb2.CollectionDef()
    fetched.node_list.value.extend([*inputs, *outputs])
    meta.collection_def["train_op"].CopyFrom(fetched)
    return tf_optimizer.OptimizeGraph(config, meta)
