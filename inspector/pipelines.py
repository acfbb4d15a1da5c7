"""What begins with a framework's model and goes on with its ONNX file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inspector.errors import UsageError

if TYPE_CHECKING:
    from inspector.compare.runtime.run import Array
    from inspector.facts.comparison import Comparison
    from inspector.facts.export import Export, ExportComparison
    from inspector.facts.restored import Restored

_ONNX = (".onnx", ".ort", ".pb", ".onnxtxt", ".onnxjson", ".textproto", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison: an ONNX file, or a source with what its export needs."""

    source: str
    weights: str | Path | None = None
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None
    example: str | Path | None = None
    unsafe: bool = False

    @property
    def is_onnx(self) -> bool:
        """Whether it is a file to be read as it is."""
        path = Path(self.source)
        return path.suffix.lower() in _ONNX or (path.is_file() and not path.suffix)


def export_compare(
    left: str | Side,
    right: str | Side,
    *,
    keep: str | Path | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    layout: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> ExportComparison:
    """Export what needs exporting, and compare: are two models one function, and if not, why.

    Parameters
    ----------
    left, right
        ONNX files, or sources as `inspector.export.anything.export_any` takes them.
    keep
        A folder for the exported files; without it they are gone afterwards.
    atol, rtol, layout, seed
        See `inspector.flows.compare_files`.
    progress
        Called with a line before each long step.

    Raises
    ------
    inspector.errors.UsageError
        An option makes no sense.
    inspector.errors.UnreadableError
        A source or a file cannot be read, or an exporter fails on it.
    inspector.errors.ExportDisagreesError
        An exported model does not give what its framework gives.
    """
    from inspector.facts.export import ExportComparison
    from inspector.flows import compare_files

    say = progress or _silently
    sides = [each if isinstance(each, Side) else Side(source=each) for each in (left, right)]
    with _folder(keep) as folder:
        names = _names(sides)
        files, exports = [], []
        for which, side, name in zip(("left", "right"), sides, names, strict=True):
            made = None if side.is_onnx else _exported(side, folder / name, which, say)
            files.append(side.source if made is None else made.path)
            exports.append(made)
        comparison = compare_files(
            *files,
            atol=atol,
            rtol=rtol,
            layout=layout,
            seed=seed,
            progress=say,
        )
    if keep is None:
        # The files are gone: what they were exported from tells more.
        for path, side in zip(files, sides, strict=True):
            comparison = _renamed(comparison, path, side.source)
    return ExportComparison(
        sources=(sides[0].source, sides[1].source),
        exports=(exports[0], exports[1]),
        kept=keep is not None,
        comparison=comparison,
    )


def _renamed(comparison: Comparison, path: str, source: str) -> Comparison:
    return replace(
        comparison,
        left=source if comparison.left == path else comparison.left,
        right=source if comparison.right == path else comparison.right,
        reason=comparison.reason.replace(path, source),
    )


def restore_file(
    stock: str | Path,
    source: str | Side,
    output: str | Path,
    *,
    progress: Callable[[str], None] | None = None,
) -> Restored:
    """Put native BatchNorms back into a stock export, with the tensors of the framework's model.

    Parameters
    ----------
    stock
        An ONNX file that an exporter has folded or written out BatchNorms in.
    source
        The model that it was exported from, as for `export_compare`; an ONNX file of it with its
        BatchNorms kept; or a file of its weights alone (``.safetensors``, ``.npz``,
        ``.weights.h5``, a state dict), whose BatchNorms are placed by their numbers.
    output
        The file to write.

    Raises
    ------
    inspector.errors.InspectorError
        As `export_compare` and `inspector.restore.restore` do.
    """
    from inspector.export.tensors import holds_weights, read_tensors
    from inspector.restore import restore, restore_from_tensors
    from inspector.write.save import check_destination

    check_destination(output)
    say = progress or _silently
    side = source if isinstance(source, Side) else Side(source=source)
    path = Path(side.source)
    if holds_weights(path):
        say("reading the weights")
        tensors = read_tensors(path, unsafe=side.unsafe)
        return restore_from_tensors(Path(stock), tensors, Path(output), progress=say)
    with _folder(None) as folder:
        kept = side.source
        if not side.is_onnx:
            likely = _inputs_of(stock)
            kept = _exported(side, folder / _named(side.source), "source", say, likely).path
        return restore(Path(stock), Path(kept), Path(output), progress=say)


def _silently(_: str) -> None:
    """Without `progress` nothing is said."""


def _inputs_of(stock: str | Path) -> tuple[Array, ...]:
    """Inputs as a model declares them: what the model that it was exported from takes, too."""
    import numpy as np

    from inspector.read.open import open_model

    model = open_model(Path(stock))
    rng = np.random.default_rng(0)
    made = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        try:
            dtype = np.dtype(value.dtype or "float32")
        except TypeError:  # a string, or what numpy has no type for
            return ()
        dims = [each if isinstance(each, int) else _FREE for each in value.dims or ()]
        drawn = rng.standard_normal(dims) if dtype.kind == "f" else np.zeros(dims)
        made.append(np.asarray(drawn).astype(dtype))
    return tuple(made)


_FREE = 2
"""A length for what a model has free: the batch, most often."""


def _exported(
    side: Side,
    path: Path,
    which: str,
    say: Callable[[str], None],
    likely: Sequence[Array] | None = None,
) -> Export:
    from inspector.export.anything import export_any

    return export_any(
        side.source,
        path,
        weights=side.weights,
        input_shape=side.input_shape,
        example=side.example,
        likely=likely,
        unsafe=side.unsafe,
        progress=lambda stage: say(f"{which}: {stage}"),
    )


@contextmanager
def _folder(keep: str | Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="bninspect-") as made:
            yield Path(made)
        return
    folder = Path(keep)
    if folder.exists() and not folder.is_dir():
        raise UsageError("it is no folder", where=str(keep), hint="name a folder for the exports")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder cannot be made ({error.strerror or error})", where=str(keep)
        ) from error
    yield folder


def _names(sides: Sequence[Side]) -> list[str]:
    """Files of their own for both sides, called after what they are exported from."""
    names = [_named(each.source) for each in sides]
    if names[0] == names[1]:
        return [f"left.{names[0]}", f"right.{names[1]}"]
    return names


def _named(source: str) -> str:
    path, _, attribute = source.rpartition(":")
    stem = Path(path or source).stem or "model"
    return f"{stem}.{attribute}.onnx" if path else f"{stem}.onnx"
