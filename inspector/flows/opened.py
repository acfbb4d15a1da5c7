"""The first step of every flow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from inspector.errors import UnreadableError

if TYPE_CHECKING:
    from inspector.facts.model import Model

Path: TypeAlias = str | os.PathLike[str]


def opened(path: Path, external_dirs: Sequence[Path]) -> Model:
    """An open model; a mistyped path is answered before onnx is imported."""
    from pathlib import Path as FilePath

    from inspector.read.formats import check_is_file

    if not os.fspath(path):
        raise UnreadableError("no file is named", hint="name an ONNX file")
    check_is_file(FilePath(path))
    from inspector.read.open import open_model

    return open_model(path, external_dirs=external_dirs)
