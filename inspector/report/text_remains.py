"""What is no BatchNorm but may be one, was one, or looks like one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from inspector.facts.batchnorm import Confidence, Form
from inspector.facts.inspection import InspectedAffine, Inspection, Reference
from inspector.facts.traced import Fate, Traced
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, NAME, Page, Span
from inspector.report.words import listed, many, number, printable, span

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
        remark: Span = (f"   {printable(affine.remark)}" if affine.remark else "", FAINT)
        page.line(
            (_path(affine.scope), FAINT),
            (printable(affine.name), NAME),
            "   ",
            around,
            remark,
            indent=2,
            hang=4,
        )
        page.line(
            f"{many(affine.channels, 'channel')} on axis {affine.axis}; "
            f"slope {span(values.slope)}, intercept {span(values.intercept)}",
            indent=9,
            hang=2,
        )


def _lookalikes(fact: Inspection, page: Page) -> None:
    kinds = Counter(each.kind for each in fact.lookalikes)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    page.heading("Looks like BatchNorm, and is none", found)
    for kind, why in dict.fromkeys((each.kind, each.why) for each in fact.lookalikes):
        of_kind = [each for each in fact.lookalikes if (each.kind, each.why) == (kind, why)]
        names = listed((" / ".join((*each.scope, each.name)) for each in of_kind), most=4)
        page.line(f"{kind}: ", (names, NAME), (f"   {printable(why)}", FAINT), indent=2, hang=4)


def _folded(fact: Inspection, page: Page) -> None:
    likely = sum(each.confidence is Confidence.LIKELY for each in fact.folded)
    title = "Probably folded" if likely else "Traces of folding"
    page.heading(title, f"{many(len(fact.folded), 'operator')} with traces of a BatchNorm")
    for each in _first(fact.folded, page):
        who = f" (BatchNorm {printable(each.batchnorm)})" if each.batchnorm else ""
        sure = DOUBT if each.confidence is Confidence.LIKELY else FAINT
        page.line(
            (_path(each.scope), FAINT),
            f"{each.op_type} ",
            (printable(each.name), NAME),
            f"{who}   ",
            (each.confidence.value, sure),
            f": {printable('; '.join(each.evidence))}",
            indent=2,
            hang=4,
        )
    if fact.reference is None:
        words = (
            "traces are no proof; --against the model from before the folding checks the numbers"
        )
        page.line((words, FAINT), indent=2, hang=2)


def _path(scope: Sequence[str]) -> str:
    return "".join([f"{printable(part)} / " for part in scope])


def _reference(reference: Reference, page: Page) -> None:
    fates = Counter(each.fate for each in reference.traced)
    counts = ", ".join(f"{fates[fate]} {_FATES[fate]}" for fate in Fate if fates[fate])
    page.heading("Against", printable(reference.path))
    words = f"{many(len(reference.traced), 'BatchNorm')}: {counts or 'none to look for'}"
    page.line(words, indent=2)
    compared = [(e.error, e.allowed) for e in reference.traced if e.error is not None]
    if compared:
        worst, allowed = max(compared, key=lambda each: (each[0] or 0.0) / (each[1] or 1.0))
        words = (
            f"largest difference {number(worst or 0.0)} of the numbers that go in; rounding "
            f"explains {number(allowed or 0.0)}"
        )
        page.line((words, FAINT), indent=2, hang=2)
    if reference.lost:
        page.line((f"{reference.lost}; only the rest could be looked for", DOUBT), indent=2, hang=2)
    same = [each for each in reference.traced if each.fate is Fate.KEPT and each.name == each.where]
    for each in reference.traced:
        if each not in same or len(same) <= _MOST:
            _traced(each, page)
    if len(same) > _MOST:
        page.line((f"and {len(same):,} kept under the same name", FAINT), indent=2)


_FATES = {
    Fate.KEPT: "kept",
    Fate.ARITHMETIC: "left as arithmetic",
    Fate.FOLDED: "folded",
    Fate.UNTOLD: "that cannot be told",
    Fate.MISSING: "not found",
}
_PLACES = {Fate.KEPT: "kept as", Fate.ARITHMETIC: "left as", Fate.FOLDED: "folded into"}


def _traced(each: Traced, page: Page) -> None:
    fate = _PLACES.get(each.fate, each.fate.value)
    spans: list[Span] = [(_path(each.scope), FAINT), (printable(each.name), NAME), "   "]
    spans += [(fate, _COLOURS.get(each.fate, DOUBT))]
    if each.where:
        spans.append(f" {printable(each.where)}")
    if each.detail:
        spans.append(f": {printable(each.detail)}")
    if each.error:
        spans.append((f"   {number(each.error)}", FAINT))
    page.line(*spans, indent=2, hang=4)


def _closing(fact: Inspection) -> Iterator[str]:
    """What to do about BatchNorms that are not there, where some were or may have been."""
    layers = ", ".join(
        f"{each.with_bias:,} of {each.count:,} {each.op_type}" for each in fact.linear
    )
    again = f"to keep them, export again with {advice(fact)}"
    likely = any(each.confidence is Confidence.LIKELY for each in fact.folded)
    if fact.reference is not None and fact.reference.traced:
        yield from _after_proof(fact.reference, again)
    elif fact.norms:
        if likely or any(each.norm.form is Form.AFFINE for each in fact.norms):
            yield f"not all BatchNorms are whole: {again}"
    elif fact.folded:
        yield f"no BatchNorm left: {layers} carry biases as a folded net does; {again}"
    elif fact.affines:
        yield f"no BatchNorm that is known as one: if the affine maps were some, {again}"
    elif any(each.with_bias for each in fact.linear):
        yield (
            f"no BatchNorm: {layers} carry biases, as in a net that was folded without a trace, "
            f"or that never had any; if it had, {again}"
        )
    elif not fact.lookalikes:
        yield "no BatchNorm, and no trace of any"


def _after_proof(reference: Reference, again: str) -> Iterator[str]:
    """What the numbers say, which is more than traces do."""
    fates = Counter(each.fate for each in reference.traced)
    gone, total = fates[Fate.FOLDED] + fates[Fate.ARITHMETIC], len(reference.traced)
    if fates[Fate.MISSING] == total and not any(each.detail for each in reference.traced):
        yield "none of them was found: is the reference the same network, with the same weights?"
    elif gone:
        yield f"{gone} of {many(total, 'BatchNorm')} no longer whole: {again}"


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
