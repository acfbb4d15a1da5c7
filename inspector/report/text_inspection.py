"""`bninspect MODEL.onnx` on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inspector.facts.batchnorm import BatchNorm, Form, Origin, Range
from inspector.facts.count import Count, Role
from inspector.facts.inspection import InspectedNorm, Inspection
from inspector.report.page import BAD, DOUBT, FAINT, NAME, Page, Span
from inspector.report.text_remains import write_remains
from inspector.report.words import fitted, listed, many, number, printable, shortest, size, span

if TYPE_CHECKING:
    from inspector.facts.manifest import Manifest

_COLUMNS = ("scale", "B", "mean", "var", "slope")
_WIDTH = 9
_UNKNOWN = ("?".rjust(_WIDTH), DOUBT)
_LEAD = 35
"""Columns in front of the first range: channels, epsilon, momentum, min or max."""


def write_inspection(fact: Inspection, page: Page) -> None:
    """Write the report of one model."""
    page.line((printable(fact.path), NAME))
    page.pairs(_about(fact))
    _norms(fact, page)
    write_remains(fact, page)
    _totals(fact.count, page)
    _notes((*fact.notes, *fact.count.notes), page)


def _about(fact: Inspection) -> list[tuple[str, list[Span]]]:
    opsets = ", ".join(
        f"{printable(domain) or 'opset'} {version}" for domain, version in fact.opsets.items()
    )
    rows: list[tuple[str, list[Span]]] = [
        ("file", [f"{size(fact.size)}, {opsets or 'no opset'}, {many(fact.nodes, 'node')}"]),
        ("producer", [printable(fact.producer) or "not named"]),
    ]
    if fact.manifest is not None:
        rows += _origin(fact.manifest)
    return rows


def _origin(manifest: Manifest) -> list[tuple[str, list[Span]]]:
    name = f"{printable(manifest.framework)} {printable(manifest.framework_version)}"
    rows: list[tuple[str, list[Span]]] = [
        ("exported", [f"from {name} by {printable(manifest.tool)}"])
    ]
    if (check := manifest.verification) is not None:
        rows.append(
            (
                "verified",
                [
                    f"within {number(check.max_abs)} of the framework's own output, "
                    f"where rounding explains up to {number(check.tolerance)}"
                ],
            )
        )
    else:
        rows.append(("verified", [("no: the export was not run", DOUBT)]))
    return rows


def _norms(fact: Inspection, page: Page) -> None:
    if not fact.norms:
        page.heading("BatchNorm", "none found")
        return
    page.heading("BatchNorm", _how_many(fact))
    header = "".join(name.rjust(_WIDTH) for name in _COLUMNS)
    lead = f"{'channels':>8} {'epsilon':>9}   momentum"
    if any(each.norm.form is not Form.AFFINE for each in fact.norms):
        page.exact((lead.ljust(_LEAD) + header, FAINT))
    for each in fact.norms:
        if each.norm.form is Form.AFFINE:
            _affine(each, page)
        else:
            _norm(each, page)
    _conventions(fact, page)


def _conventions(fact: Inspection, page: Page) -> None:
    """What the table means, and where a number is nobody's statement."""
    norms = [each.norm for each in fact.norms]
    forms = {each.form for each in norms}
    if any(each.momentum is not None for each in norms):
        words = (
            "momentum: share of the old statistic that is kept (ONNX, Keras), or of the new one "
            "that is taken (PyTorch); a matter of training alone"
        )
        page.line((words, FAINT), indent=2, hang=2)
    if Form.AFFINE in forms:
        words = (
            "affine: y = slope · x + intercept is all that is left; scale, B, mean, var and "
            "epsilon are merged into the two and lost, the momentum is dropped"
        )
        page.line((words, DOUBT), indent=2, hang=2)
    if Form.DECOMPOSED in forms:
        words = (
            "decomposed: read off arithmetic that computes "
            "(x − mean) · scale / sqrt(var + epsilon) + B, which has no momentum"
        )
        page.line((words, FAINT), indent=2, hang=2)
    silent = sum(each.momentum is not None and not each.momentum_stated for each in norms)
    if silent:
        words = (
            f"{silent} of {many(len(norms), 'layer')} leave it out of the file: "
            "that is ONNX's default, not a value anyone chose"
        )
        page.line((words, DOUBT), indent=2, hang=2)


def _how_many(fact: Inspection) -> str:
    forms = [norm.norm.form for norm in fact.norms]
    parts = [f"{forms.count(form)} {form.value}" for form in Form if form in forms]
    return f"{many(len(forms), 'layer')}: {', '.join(parts)}"


def _norm(each: InspectedNorm, page: Page) -> None:
    norm, values = each.norm, each.values
    page.line(*_title(norm), indent=2, hang=4)
    ranges = (values.scale, values.bias, values.mean, values.var, values.slope)
    channels = "?" if norm.channels is None else str(norm.channels)
    page.exact(
        f"{channels:>8} ",
        _told(norm.epsilon, 9),
        " ",
        _told(norm.momentum, 6),
        " ONNX ",
        (" min", FAINT),
        *[_UNKNOWN if found is None else number(found.low).rjust(_WIDTH) for found in ranges],
    )
    page.exact(
        f"{'':>8} {'':>9} ",
        _told(norm.torch_momentum, 6),
        " torch",
        (" max", FAINT),
        *[_UNKNOWN if found is None else number(found.high).rjust(_WIDTH) for found in ranges],
    )
    if norm.nodes:
        _arithmetic(norm, page)
    _obstacle(norm, page)
    _remarks(norm, ranges, page)


def _told(value: float | None, width: int) -> Span:
    """An attribute, or that the file does not tell it."""
    return ("lost".rjust(width), DOUBT) if value is None else fitted(value, width).rjust(width)


def _remarks(norm: BatchNorm, ranges: Sequence[Range | None], page: Page) -> None:
    """What the table has no room or no number for."""
    if norm.momentum == 1.0:
        words = "momentum 1 is PyTorch's 0, or its None (a cumulative average)"
        page.line((words, FAINT), indent=9, hang=2)
    for label, value, room in (("epsilon", norm.epsilon, 9), ("momentum", norm.momentum, 6)):
        if value is not None and len(shortest(value)) > room:
            page.line((f"{label}: {shortest(value)} in full", FAINT), indent=9)
    for name, found in zip(_COLUMNS, ranges, strict=True):
        if found is not None and found.non_finite:
            words = f"{name}: {many(found.non_finite, 'value')} NaN or infinite"
            page.line((words, BAD), indent=9)
    parameters = norm.parameters
    for name, parameter in parameters:
        if parameter.reason:
            page.line((f"{name}: {printable(parameter.reason)}", DOUBT), indent=9, hang=2)
        elif parameter.origin is Origin.OVERRIDABLE:
            words = f"{name}: may be fed as an input instead of what the file holds"
            page.line((words, DOUBT), indent=9, hang=2)
    for remark in norm.remarks:
        page.line((printable(remark), DOUBT), indent=9, hang=2)
    if len({p.tensor.dims for _, p in parameters if p.tensor is not None}) > 1:
        lengths = {n: p.tensor.elements for n, p in parameters if p.tensor is not None}
        if len(set(lengths.values())) > 1:
            words = ", ".join(f"{name} has {count:,}" for name, count in lengths.items())
            page.line((f"numbers of channels disagree: {words}", BAD), indent=9, hang=2)


def _affine(each: InspectedNorm, page: Page) -> None:
    """A BatchNorm of which slope and intercept are left: the rest of the table would be empty."""
    norm, values = each.norm, each.values
    page.line(*_title(norm), indent=2, hang=4)
    page.line(
        f"{many(norm.channels or 0, 'channel')}; slope {span(values.slope)}, "
        f"intercept {span(values.intercept)}",
        indent=9,
        hang=2,
    )
    _arithmetic(norm, page)
    _obstacle(norm, page)


def _arithmetic(norm: BatchNorm, page: Page) -> None:
    """What a BatchNorm that is no node of its own was found in, and how that is known."""
    operators = ", ".join(printable(node.split(" ")[0]) for node in norm.nodes)
    parts = [f"{norm.form.value}: {operators} on axis {norm.axis}"]
    parts += [f"{norm.confidence.value} by {printable(told)}" for told in norm.evidence]
    page.line("; ".join(parts), indent=9, hang=2)


def _obstacle(norm: BatchNorm, page: Page) -> None:
    # Training mode and what is lost are shown already, and say as much.
    if norm.obstacle and not norm.training and norm.form is not Form.RUNTIME:
        page.line((f"not foldable: {printable(norm.obstacle)}", FAINT), indent=9, hang=2)


def _title(norm: BatchNorm) -> list[Span]:
    scope = "".join([f"{printable(part)} / " for part in norm.scope])
    around = f"{listed(norm.after) or '?'} → BatchNorm → {listed(norm.before) or '?'}"
    title: list[Span] = [(scope, FAINT), (printable(norm.name), NAME), "   ", around]
    if norm.training:
        title.append(("   training mode", BAD))
    if norm.foldable_into:
        title.append((f"   could fold into {printable(norm.foldable_into)}", FAINT))
    return title


def _totals(count: Count, page: Page) -> None:
    keras, torch, onnx = count.keras, count.torch, count.onnx
    page.heading("Parameters")
    lead = "total".rjust(26) + "trainable".rjust(16) + "statistics".rjust(16)
    page.exact((lead, FAINT))
    rows = (
        ("Keras", keras.total, keras.trainable, f"{keras.non_trainable:,}", "non-trainable"),
        ("PyTorch", torch.parameters, torch.trainable, f"{torch.buffers:,}", "in buffers"),
    )
    for name, total, trainable, statistics, where in rows:
        page.exact(
            f"  {name:<10}{total:>14,}{trainable:>16,}{statistics:>16}  ",
            (where, FAINT),
        )
    page.exact(
        f"  {'ONNX':<10}{onnx.float_initializer_elements:>14,}  ",
        ("float initializer elements", FAINT),
    )
    if torch.buffers:
        page.line(
            f"{keras.total:,} (Keras) = {torch.parameters:,} (PyTorch) + "
            f"{torch.buffers:,} running mean and var",
            indent=2,
        )
    if torch.trainable != torch.parameters:
        page.line(
            f"{torch.parameters - torch.trainable:,} of the weights are frozen, as the export's "
            "manifest says; ONNX keeps no such mark",
            indent=2,
            hang=2,
        )
    if torch.num_batches_tracked:
        page.line(
            f"PyTorch would also keep {torch.num_batches_tracked:,} num_batches_tracked, "
            "which ONNX never stores",
            indent=2,
        )
    _rest(count, page)


def _rest(count: Count, page: Page) -> None:
    """What the file stores that is no parameter, and what cannot be told."""
    made = [each for each in count.tensors if each.synthetic]
    if made:
        page.line(
            f"{many(sum(each.tensor.elements for each in made), 'element')} in "
            f"{many(len(made), 'tensor')} were written by the export (ones or zeros for an absent "
            "scale or B); the framework has no such tensor",
            indent=2,
            hang=2,
        )
    tensors = [e for e in count.tensors if e.role is Role.CONSTANT and not e.synthetic]
    if tensors:
        page.line(
            f"{many(sum(e.tensor.elements for e in tensors), 'element')} in "
            f"{many(len(tensors), 'tensor')} "
            "are constants (shapes, axes, scalars) and no parameters",
            indent=2,
            hang=2,
        )
    if count.unknown:
        unknown = [each for each in count.tensors if each.role is Role.UNKNOWN]
        page.line(
            (
                f"{many(count.unknown, 'element')} in {many(len(unknown), 'tensor')} "
                "have no role that the graph tells, and are in neither total: ",
                DOUBT,
            ),
            listed(f"{each.tensor.name} ({each.why})" for each in unknown[:4]),
            f" and {len(unknown) - 4} more" if len(unknown) > 4 else "",
            indent=2,
            hang=2,
        )


def _notes(notes: tuple[str, ...], page: Page) -> None:
    if notes:
        page.blank()
    for note in notes:
        page.line(("note: ", DOUBT), printable(note), hang=6)
