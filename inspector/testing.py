"""Assertions for other people's tests, of the models that they export.

::

    from inspector.testing import assert_equivalent

    def test_the_export(tmp_path):
        torch.onnx.export(net, (image,), tmp_path / "net.onnx")
        assert_equivalent(tmp_path / "net.onnx", "reference.onnx")
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Unpack

if TYPE_CHECKING:
    from onnx import ModelProto

    from inspector.facts.comparison import Comparison
    from inspector.facts.request import CompareOptions

Model: TypeAlias = "str | os.PathLike[str] | bytes | ModelProto"

_WIDTH = 100


def assert_equivalent(
    left: Model,
    right: Model,
    *,
    allow_agrees: bool = False,
    external_dirs: Sequence[str | os.PathLike[str]] = (),
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Assert that two models are one function.

    Parameters
    ----------
    left, right
        ONNX files, serialised models, or ``onnx.ModelProto``.
    allow_agrees
        Whether outputs that agree are enough, though parameters or structure differ.
    external_dirs
        Folders in which data files may lie beside the models' own.
    **options
        As `inspector.compare_files` takes them: ``atol``, ``data``, ``seed`` and others.

    Returns
    -------
    Comparison
        What was found, for assertions of your own.

    Raises
    ------
    AssertionError
        They are not, or it cannot be told. The message is the report: how far apart, where the
        difference begins, and its causes.
    inspector.errors.UnreadableError
        One of them is no readable ONNX model.
    inspector.errors.UsageError
        An option makes no sense.
    """
    __tracebackhide__ = True  # pytest shows the caller's line, not this one
    from inspector.facts.comparison import Verdict
    from inspector.flows import compare_files

    with _file(left, "left") as one, _file(right, "right") as other:
        found = compare_files(one, other, external_dirs=external_dirs, **options)
    accepted = {Verdict.IDENTICAL, Verdict.EQUIVALENT}
    if allow_agrees:
        accepted.add(Verdict.AGREES)
    if found.verdict not in accepted:
        raise AssertionError(_message(found))
    return found


def _message(found: Comparison) -> str:
    from inspector.report import render

    return f"the models are not equivalent\n\n{render(found, 'text', width=_WIDTH, color=False)}"


@contextmanager
def _file(model: Model, name: str) -> Iterator[str | os.PathLike[str]]:
    """A file that holds `model`."""
    if isinstance(model, str | os.PathLike):
        yield model
        return
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with tempfile.TemporaryDirectory(prefix="bninspect-") as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(content)
        yield path
