"""The layers that a framework's own summary lists, as the export's manifest has them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from inspector.facts.count import Count
from inspector.facts.manifest import Manifest, SourceLayer
from inspector.facts.model import Dim
from inspector.facts.summary import Layout, Part, Row

_UNKNOWN: tuple[tuple[Dim, ...] | None, Layout] = (None, Layout.NONE)


def listed_rows(manifest: Manifest, count: Count, rows: Sequence[Row]) -> Iterator[Row]:
    """The layers of a manifest, with what the framework has of each; they add up to Keras' total.

    Parameters
    ----------
    rows
        The layers as the graph tells them: for shapes that the manifest lacks.
    """
    shapes = {row.name: (row.dims, row.layout) for row in rows if row.name and not row.fused}
    sizes = _sizes(manifest, count)
    total = 0
    for each in _summarised(manifest):
        dims, layout = (each.dims, Layout.LAST) if each.dims else shapes.get(each.name, _UNKNOWN)
        own = sizes.pop(each.name, 0)
        total += own
        yield Row(
            name=each.name,
            kind=each.kind,
            keras=each.kind,
            torch=each.kind,
            nodes=(),
            dims=dims,
            layout=layout,
            learned=own,
        )
    if rest := count.keras.total - total:
        yield extra_row("(in no layer)", learned=rest)


def _summarised(manifest: Manifest) -> Iterator[SourceLayer]:
    """Those that the framework lists by itself: a model inside a model is one layer."""
    return (each for each in manifest.layers if not each.within)


def _sizes(manifest: Manifest, count: Count) -> dict[str, int]:
    """Elements by layer, of those that the file holds and of those that it does not."""
    elements = {each.value: each.elements for each in count.tensors if not each.scope}
    holders = {path: each.name for each in _summarised(manifest) for path in each.weights}
    names = {each.name for each in _summarised(manifest)}
    sizes: dict[str, int] = {}

    def add(source: str, more: int) -> None:
        layer = holders.get(source) or _begun(source, names)
        sizes[layer] = sizes.get(layer, 0) + more

    for tensor in manifest.tensors:
        if not tensor.synthetic:
            add(tensor.source, elements.get(tensor.name, 0))
    for gone in manifest.not_exported:
        if gone.is_weight:
            add(gone.source, gone.elements)
    return sizes


def _begun(source: str, names: Container[str]) -> str:
    """The listed layer that a variable's path begins with; empty if none does."""
    parts = source.split("/")
    paths = ("/".join(parts[:end]) for end in range(1, len(parts) + 1))
    return next((path for path in paths if path in names), "")


def extra_row(
    what: str,
    *,
    learned: int = 0,
    statistics: int = 0,
    unknown: int = 0,
    parts: tuple[Part, ...] = (),
) -> Row:
    """A row for what no layer holds."""
    return Row(
        name="",
        kind="",
        keras=what,
        torch=what,
        nodes=(),
        dims=None,
        layout=Layout.NONE,
        learned=learned,
        statistics=statistics,
        unknown=unknown,
        parts=parts,
    )
