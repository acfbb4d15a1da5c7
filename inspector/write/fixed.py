"""Write a patched model to a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import external_data_helper

from inspector.errors import UndecidedError
from inspector.facts.model import Model
from inspector.facts.patch import Patch
from inspector.write.large import prepared
from inspector.write.patch import patched
from inspector.write.save import save

LARGE = 1_500_000_000
"""Bytes from which on weights go to a file beside the model: protobuf ends at 2 GiB."""


def write_fixed(model: Model, patches: Sequence[Patch], path: str | Path) -> None:
    """Write `model` with `patches` applied, whole or not at all.

    Raises
    ------
    inspector.errors.UsageError
        `path` cannot be written to.
    inspector.errors.UnreadableError
        The file system refuses, or a data file of `model` fails.
    inspector.errors.UndecidedError
        A patch addresses what is not there.
    """
    copy = patched(model, patches)
    proto = onnx.load_model_from_string(copy.data)
    # What it refers to was checked when the model was opened.
    external_data_helper.load_external_data_for_model(proto, copy.folder)
    if sum(len(each.raw_data) for each in proto.graph.initializer) > LARGE:
        with prepared(proto, path) as made:
            made.place()
        return
    try:
        save(proto.SerializeToString(deterministic=True), path)
    except ValueError as error:  # what protobuf raises on more than 2 GiB
        raise UndecidedError(f"it is too large for one file ({error})", where=str(path)) from error
