"""One side of a comparison: the model as it is judged, and what stands for it where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from inspector.errors import RunError
from inspector.facts.model import Model
from inspector.facts.patch import Patch, Runnable
from inspector.flows.opened import Path, opened

if TYPE_CHECKING:
    from inspector.compare.runtime.run import Array
    from inspector.write.upgrade import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model that is compared.

    `model` is what is fed and run; `view` the same without its quantisation grids and with nodes
    for the BatchNorms that are written out, in whose graph causes are looked for. `form` is what
    stands for a file that ONNX Runtime does not run as it is. `steps` are those of the grids that
    weights of `view` were rounded to, by name; None where no grid was taken away. `calibrated`
    says that some of those taken away were of activations, with ranges of their own.
    """

    model: Model
    view: Model
    form: Form | None = None
    steps: Mapping[str, Array] | None = None
    calibrated: bool = False

    @property
    def source(self) -> FilePath | Runnable:
        """What is run.

        Raises
        ------
        inspector.errors.UndecidedError
            A copy that is needed would be too large.
        """
        from inspector.write.runnable import runnable

        if self.form is None:
            return runnable(self.model)
        return replace(self.form.source, evaluated=self.form.evaluated)

    @property
    def unit(self) -> float:
        """Spacing of the numbers that its values stand for; 0 for those they are written in."""
        return 0.0 if self.form is None else self.form.unit

    def patched(self, model: Model, patches: Sequence[Patch]) -> Runnable:
        """A patched copy of `view`, to be run as this side is.

        Raises
        ------
        inspector.errors.UndecidedError
            It cannot be written.
        """
        from inspector.write.patch import patched

        copy = patched(model, patches)
        return copy if self.form is None else replace(copy, evaluated=self.form.evaluated)

    def in_other_form(self, reason: str) -> Side | None:
        """The same in a form that may run where this does not; None where there is none."""
        from inspector.write.upgrade import runnable_form

        if self.form is not None:
            return None
        form = runnable_form(self.model, reason)
        return None if form is None else _side(written_out(form.model), form)


def opened_whole(path: Path, external_dirs: Sequence[Path]) -> Model:
    """An open model with all its data in place.

    Raises
    ------
    inspector.errors.UnreadableError
        It is no readable ONNX model, or data files are missing.
    """
    from inspector.read.external import data_files_missing

    model = opened(path, external_dirs)
    if model.missing_data:
        raise data_files_missing(model.missing_data, model.path)
    return model


def side_of(model: Model) -> Side:
    """An open model, with everything written out that comparing needs.

    Raises
    ------
    inspector.errors.UnreadableError
        Its functions or scopes have no end.
    """
    from inspector.compare.pairing.pair import fed_inputs
    from inspector.recognise.scopes import check_scopes
    from inspector.write.inline import inlined

    check_scopes(model)
    found = _side(written_out(inlined(model)))
    if any(each.dtype == "bfloat16" for each in fed_inputs(found.model)):
        # ONNX Runtime runs some of them, and NumPy has no such numbers to feed.
        return found.in_other_form("") or found
    return found


def in_other_forms(sides: tuple[Side, Side], error: RunError) -> tuple[Side, Side] | None:
    """Both sides, those that did not run in a form that may; None where there is none."""
    others = [
        each.in_other_form(error.what) if each.model.path == error.where else None for each in sides
    ]
    if all(each is None for each in others):
        return None
    return others[0] or sides[0], others[1] or sides[1]


def stand_ins(sides: tuple[Side, Side]) -> Iterator[str]:
    """What was run in place of a model that ONNX Runtime does not run."""
    for name, side in zip(("left", "right"), sides, strict=True):
        if side.form is not None:
            yield f"{name}: {side.form.note}"


def _side(model: Model, form: Form | None = None) -> Side:
    from inspector.flows.native import with_native_norms
    from inspector.write.constants import with_constants
    from inspector.write.dequantise import dequantised
    from inspector.write.fused import with_fused_apart
    from inspector.write.lines import with_lines
    from inspector.write.plain import with_plain_inputs

    grids = dequantised(model)
    view = model if grids is None else written_out(grids.model)
    while (apart := with_fused_apart(view)) is not None:
        view = written_out(apart)  # tells shapes behind, which the next may need
    for simpler in (with_native_norms, with_constants, with_plain_inputs, with_lines):
        found = simpler(view)
        view = view if found is None else written_out(found)
    if grids is None:
        return Side(model=model, view=view, form=form)
    return Side(model=model, view=view, form=form, steps=grids.steps, calibrated=grids.calibrated)


def written_out(model: Model) -> Model:
    """A model with its shapes, its default attributes and its nodes in order."""
    from inspector.compare.graphs.order import in_order
    from inspector.read.open_dims import with_open_dims
    from inspector.read.schema import with_default_attributes
    from inspector.read.shapes import with_inferred_shapes

    return in_order(with_default_attributes(with_open_dims(with_inferred_shapes(model))))
