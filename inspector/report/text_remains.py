"""What is no BatchNorm but may be one, was one, or looks like one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from inspector.facts.batchnorm import Confidence, Fate, Range, Traced
from inspector.facts.inspection import InspectedAffine, Inspection, Reference
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, NAME, Page, Span
from inspector.report.words import listed, many, number, printable

_MOST = 6
"""Things of one kind that are shown one by one; JSON has them all."""

_COLOURS = {Fate.KEPT: GOOD, Fate.MISSING: BAD}

T = TypeVar("T")


def write_remains(fact: Inspection, page: Page) -> None:
    """Write what is left of BatchNorms beside the layers themselves."""
    if fact.affines:
        _affines(fact.affines, page)
    if fact.lookalikes:
        _lookalikes(fact, page)
    if fact.folded:
        _folded(fact, page)
    if fact.reference is not None:
        _reference(fact.reference, page)
    for words in _closing(fact):
        page.blank()
        page.line((words, DOUBT), indent=2, hang=2)


def _affines(found: Sequence[InspectedAffine], page: Page) -> None:
    page.heading("Per-channel affine", f"{many(len(found), 'map')}, y = slope · x + intercept")
    for each in _first(found, page):
        affine, values = each.affine, each.values
        operators = ", ".join(node.split(" ")[0] for node in affine.nodes)
        around = f"{listed(affine.after) or '?'} → {operators} → {listed(affine.before) or '?'}"
        name = "".join([f"{printable(part)} / " for part in affine.scope])
        remark: Span = (f"   {printable(affine.remark)}" if affine.remark else "", FAINT)
        page.line(
            (name, FAINT), (printable(affine.name), NAME), "   ", around, remark, indent=2, hang=4
        )
        page.line(
            f"{many(affine.channels, 'channel')} on axis {affine.axis}; "
            f"slope {_span(values.slope)}, intercept {_span(values.intercept)}",
            indent=9,
            hang=2,
        )


def _lookalikes(fact: Inspection, page: Page) -> None:
    kinds = Counter(each.kind for each in fact.lookalikes)
    page.heading("Not BatchNorm", ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    for kind in kinds:
        of_kind = [each for each in fact.lookalikes if each.kind == kind]
        why = printable(of_kind[0].why) + ("" if len(of_kind) == 1 else ", and so on")
        names = listed((each.name for each in of_kind), most=4)
        page.line(f"{kind}: ", (names, NAME), (f"   {why}", FAINT), indent=2, hang=4)


def _folded(fact: Inspection, page: Page) -> None:
    certain = many(len(fact.folded), "operator")
    page.heading("Probably folded", f"{certain} with traces of a BatchNorm in the weights")
    for each in _first(fact.folded, page):
        who = f" (BatchNorm {printable(each.batchnorm)})" if each.batchnorm else ""
        sure = DOUBT if each.confidence is Confidence.LIKELY else FAINT
        page.line(
            f"{each.op_type} ",
            (printable(each.name), NAME),
            f"{who}   ",
            (each.confidence.value, sure),
            f": {printable('; '.join(each.evidence))}",
            indent=2,
            hang=4,
        )
    if fact.reference is None:
        words = "names prove nothing; --against the model from before the folding does"
        page.line((words, FAINT), indent=2, hang=2)


def _reference(reference: Reference, page: Page) -> None:
    fates = Counter(each.fate for each in reference.traced)
    counts = ", ".join(f"{fates[fate]} {_FATES[fate]}" for fate in Fate if fates[fate])
    page.heading("Against", printable(reference.path))
    page.line(
        f"{many(len(reference.traced), 'BatchNorm')}: {counts or 'none to look for'}", indent=2
    )
    for each in reference.traced:
        _traced(each, page)


_FATES = {
    Fate.KEPT: "kept",
    Fate.ARITHMETIC: "left as arithmetic",
    Fate.FOLDED: "folded",
    Fate.UNTOLD: "that cannot be told",
    Fate.MISSING: "not found",
}
_PLACES = {Fate.KEPT: "kept as", Fate.ARITHMETIC: "left as", Fate.FOLDED: "folded into"}


def _traced(each: Traced, page: Page) -> None:
    name = "".join([f"{printable(part)} / " for part in each.scope])
    fate = _PLACES.get(each.fate, each.fate.value)
    spans: list[Span] = [(name, FAINT), (printable(each.name), NAME), "   "]
    spans += [(fate, _COLOURS.get(each.fate, DOUBT))]
    if each.where:
        spans.append(f" {printable(each.where)}")
    if each.detail:
        spans.append(f": {printable(each.detail)}")
    if each.error is not None and each.allowed is not None:
        said = f"within {number(each.error)} of its numbers" if each.error else "every bit the same"
        spans.append((f"   {said}, where rounding explains {number(each.allowed)}", FAINT))
    page.line(*spans, indent=2, hang=4)


def _closing(fact: Inspection) -> Iterator[str]:
    """What to do about BatchNorms that are not there, where some were or may have been."""
    lost = any(not each.norm.op_type and each.norm.steps for each in fact.norms)
    if fact.norms and not lost and not fact.folded:
        return
    layers = ", ".join(
        f"{each.with_bias:,} of {each.count:,} {each.op_type}" for each in fact.linear
    )
    again = f"to keep them, export again with {advice(fact)}"
    if fact.norms:
        yield f"not all BatchNorms are whole: {again}"
    elif fact.folded:
        yield f"no BatchNorm left: {layers} carry biases as a folded net does; {again}"
    elif fact.affines:
        yield f"no BatchNorm that can be told as one: if the affine maps were some, {again}"
    elif any(each.with_bias for each in fact.linear):
        yield (
            f"no BatchNorm: {layers} carry biases, as in a net that was folded without a trace, "
            f"or that never had any; if it had, {again}"
        )
    else:
        yield "no BatchNorm, and no trace of any"


def advice(fact: Inspection) -> str:
    """How the program that wrote a file is made to keep BatchNorms."""
    producer = fact.producer.lower()
    if any("ConvBnFusion" in "".join(each.evidence) for each in fact.folded):
        return "ONNX Runtime's optimisation left out: it folded them into this file"
    if producer.startswith("pytorch"):
        return (
            "`bninspect export torch`, or torch.onnx.export(model.eval(), …, dynamo=True, "
            "optimize=False)"
        )
    if producer.startswith("tf2onnx"):
        return "`bninspect export keras`; tf2onnx alone folds them or writes Mul and Add"
    return "`bninspect export keras` or `bninspect export torch`, or without constant folding"


def _first(found: Sequence[T], page: Page) -> Iterator[T]:
    """The first few of many, and behind them how many more there are."""
    yield from found[:_MOST]
    if len(found) > _MOST:
        page.line((f"and {len(found) - _MOST:,} more (all with --format json)", FAINT), indent=2)


def _span(found: Range | None) -> str:
    if found is None:
        return "not known"
    words = f"{number(found.low)} to {number(found.high)}"
    return f"{words} ({found.non_finite:,} NaN or infinite)" if found.non_finite else words
