"""`bninspect compare` on a terminal."""

from __future__ import annotations

from inspector.facts.comparison import (
    ONE_VALUE,
    OTHERS,
    VALUES,
    Cause,
    CauseKind,
    Comparison,
    Coverage,
    PairedNorm,
    PairedOutput,
    ParameterMatch,
    Proof,
    Verdict,
)
from inspector.report.page import BAD, DOUBT, FAINT, GOOD, HEAD, NAME, Page, Span
from inspector.report.text_localisation import write_localisation
from inspector.report.words import listed, many, number, printable

_STYLES = {
    Verdict.IDENTICAL: GOOD,
    Verdict.EQUIVALENT: GOOD,
    Verdict.AGREES: DOUBT,
    Verdict.DIFFERENT: BAD,
    Verdict.UNDECIDED: DOUBT,
}

_MOST_HARMLESS = 20
_MOST_CAUSES = 40
"""Differences that are listed; what has more is read by a program."""


def write_comparison(fact: Comparison, page: Page) -> None:
    """Write the verdict first, then what it rests on."""
    page.pairs(
        [
            ("left", [(printable(fact.left), NAME), f"  {printable(fact.left_producer)}"]),
            ("right", [(printable(fact.right), NAME), f"  {printable(fact.right_producer)}"]),
        ],
        indent=0,
    )
    page.blank()
    page.line((fact.verdict.value, _STYLES[fact.verdict]), f": {printable(fact.reason)}", hang=2)
    if fact.causes:
        _causes(fact, page)
    _patched(fact, page)
    if fact.localisation is not None:
        write_localisation(fact.localisation, page)
    if fact.harmless:
        page.heading("Differences without effect on these outputs")
        for each in fact.harmless[:_MOST_HARMLESS]:
            page.line(*_sentence(each), indent=2, hang=2)
        _and_more(len(fact.harmless) - _MOST_HARMLESS, page)
    if fact.information:
        page.heading("For information")
        for line in fact.information:
            page.line(printable(line), indent=2, hang=2)
    if fact.outputs:
        _outputs(fact, page)
    _evidence(fact, page)


def _causes(fact: Comparison, page: Page) -> None:
    proved = sum(each.proof is Proof.NECESSARY for each in fact.causes)
    located = sum(each.proof is Proof.LOCATED for each in fact.causes)
    reasons = {each.reason for each in fact.causes}
    # One reason that holds for all is said once.
    shared = reasons.pop() if not proved and len(reasons) == 1 else ""
    if proved == len(fact.causes):
        page.heading("Causes", "each proved by patching it and running again")
    elif proved + located == len(fact.causes):
        page.heading("Causes", f"{proved} proved by patching, {located} by running it alone")
    elif proved:
        page.heading("Causes", f"{proved} of {len(fact.causes)} proved")
    else:
        page.heading("Differences found, none proved to be the cause")
    if shared:
        page.line((printable(shared), DOUBT), indent=2, hang=2)
    for at, each in enumerate(fact.causes[:_MOST_CAUSES], 1):
        page.line((f"{at} ", HEAD), *_sentence(each), indent=2, hang=2)
        _proof(each, page, said=bool(shared))
    _and_more(len(fact.causes) - _MOST_CAUSES, page)
    if fact.explained_to is not None:
        page.line(
            "with all of them patched on the right, the largest difference is ",
            (number(fact.explained_to), GOOD if fact.explained else BAD),
            indent=2,
        )
    elif fact.explained:
        page.line("with all of them mended on the right, ", ("the outputs agree", GOOD), indent=2)


def _patched(fact: Comparison, page: Page) -> None:
    """Whether the patched model was written, where that was asked for."""
    if fact.patched_to is not None:
        page.blank()
        page.line("patched model written to ", (printable(fact.patched_to), NAME), hang=2)
    elif fact.not_patched:
        page.blank()
        page.line((f"no patched model written: {printable(fact.not_patched)}", DOUBT), hang=2)


def _and_more(count: int, page: Page) -> None:
    if count > 0:
        page.line((f"and {count:,} more, in --format json", FAINT), indent=2)


def _proof(cause: Cause, page: Page, *, said: bool) -> None:
    """What speaks for a cause."""
    if cause.proof is Proof.LOCATED:
        text = "these layers differ though they are fed the same"
        if cause.effect is not None:
            text += f": by up to {number(cause.effect)}"
        page.line((text, FAINT), indent=4, hang=2)
    elif cause.effect is not None:
        text = f"this alone moves the outputs by {number(cause.effect)}"
        if cause.effect == float("inf"):
            text = "this alone gives outputs of another shape, or that are not finite"
        if cause.share is not None:
            text += f", and patching it alone takes away {_percent(cause.share)} of the difference"
        page.line((text, FAINT), indent=4, hang=2)
    elif cause.reason and not said:
        page.line((f"not proved: {printable(cause.reason)}", DOUBT), indent=4, hang=2)


def _percent(share: float) -> str:
    return "100 %" if share >= 0.9995 else f"{100 * share:.3g} %"


def _sentence(cause: Cause) -> list[Span]:
    """One difference in words."""
    left, right = printable(cause.left), printable(cause.right)
    names = list(filter(None, (printable(cause.left_where), printable(cause.right_where))))
    both = ", ".join(names)
    where = " / ".join(dict.fromkeys(names))
    place = f", in {where}" if where else ""
    what = printable(cause.what)
    match cause.kind:
        case _ if (cause.left, cause.right) == (VALUES, OTHERS):
            return [(f"{what}: other values on the right", HEAD), place]
        case _ if cause.left == ONE_VALUE:
            return [(f"other {what} on the right, {right}", HEAD), place]
        case CauseKind.MISSING:
            side = "right" if cause.right == "missing" else "left"
            return [(f"{what} missing on the {side}", HEAD), f": {both}" if both else ""]
        case CauseKind.OPERATOR:
            return [(what, HEAD), f": {' / '.join(names)}" if names else ""]
        case CauseKind.PREPROCESSING if "missing" in (cause.left, cause.right):
            side = "left" if cause.left == "missing" else "right"
            return [
                (f"preprocessing missing on the {side}: {what}", HEAD),
                f", {both}" if both else "",
            ]
        case CauseKind.PARAMETER | CauseKind.PERMUTATION | CauseKind.LAYOUT if (
            not cause.right.startswith("[")
        ):
            return [(f"{what} {left}: {right}", HEAD), place]
        case _:
            return [(f"{what} {left} against {right}", HEAD), f" in {where}" if where else ""]


def _outputs(fact: Comparison, page: Page) -> None:
    rows = sum(fact.batch_sizes)
    fed = f"{many(rows, 'random input')}, seed {fact.seed}"
    page.heading("Outputs", f"{printable(fact.data) or fed}, ONNX Runtime")
    for each in fact.outputs:
        page.line(*_title(each), indent=2, hang=2)
        page.pairs(_measures(each), indent=4)


def _title(each: PairedOutput) -> list[Span]:
    dims = "×".join(str(dim) for dim in each.difference.shape[1:]) or "scalar"
    name: list[Span] = [(printable(each.left), NAME)]
    if each.right != each.left:
        name += [" / ", (printable(each.right), NAME)]
    return [*name, f"  {dims} a row"]


def _measures(each: PairedOutput) -> list[tuple[str, list[Span]]]:
    far = each.difference
    style = GOOD if each.within else BAD
    place = "".join(f"[{at}]" for at in far.at)
    rows: list[tuple[str, list[Span]]] = [
        (
            "largest difference",
            [
                (number(far.max_abs), style),
                f"  at {place}: {far.left_at:.9g} against {far.right_at:.9g}"
                if far.max_abs
                else "",
            ],
        ),
        ("rounding floor", [f"{number(each.floor)}, tolerance {number(each.tolerance)}"]),
        (
            "spread",
            [
                f"{number(far.scale)} (standard deviation of the left output), "
                f"mean difference {number(far.mean_abs)}"
            ],
        ),
    ]
    if each.moved_by:
        count = many(each.moved_over, "element")
        rows.append(
            (
                "rounding alone",
                [f"moves {count} over a step of {printable(each.moved_by)}; all else agrees"],
            )
        )
    if far.top1 is not None:
        rows.append(("same largest class", [f"{far.top1:.0%} of rows"]))
    if far.left_non_finite or far.right_non_finite:
        counts = f"{far.left_non_finite:,} on the left, {far.right_non_finite:,} on the right"
        rows.append(("NaN or infinite", [(counts, BAD)]))
    return rows


def _evidence(fact: Comparison, page: Page) -> None:
    rows: list[tuple[str, list[Span]]] = []
    for each in fact.inputs:
        told = f", told by {printable(each.told_by)}" if each.told_by else ""
        rows.append(
            (
                "input",
                [
                    f"{printable(each.left)} {printable(each.left_dims)} ↔ "
                    f"{printable(each.right)} {printable(each.right_dims)}{told}"
                ],
            )
        )
    if fact.norms:
        rows.append(("BatchNorm", [_norms(fact.norms)]))
    if fact.coverage is not None and (fact.coverage.norms or fact.coverage.relus):
        rows.append(("not shown", [_coverage(fact.coverage)]))
    if fact.parameters is not None:
        rows.append(("parameters", [_parameters(fact.parameters)]))
    if rows:
        page.heading("How the two were paired")
        page.pairs(rows)


def _coverage(fact: Coverage) -> str:
    parts = []
    if fact.norms:
        parts.append(f"{fact.norms} of {many(fact.norm_channels, 'channel')} of BatchNorms")
    if fact.relus:
        parts.append(f"{fact.relus} of {many(fact.relu_channels, 'channel')} of ReLUs")
    where = "; ".join(printable(each) for each in fact.where)
    return (
        f"{' and '.join(parts)} never fire on these inputs, so that a difference there "
        f"cannot show ({where})"
    )


def _norms(norms: tuple[PairedNorm, ...]) -> str:
    whole = [each for each in norms if len(each.bitwise) == 4]
    text = f"{len(whole)} of {many(len(norms), 'pair')} with scale, B, mean and var equal in bits"
    if len(whole) < len(norms):
        rest = [each.left for each in norms if len(each.bitwise) < 4]
        text += f"; not in {listed(rest)}"
    return text


def _parameters(match: ParameterMatch) -> str:
    parts = [f"{many(match.bitwise, 'tensor')} equal in bits once layouts are undone"]
    if match.rounded:
        parts.append(f"{match.rounded} within rounding")
    if match.folded:
        parts.append(f"{match.folded} in other layers that come to the same")
    if match.differing:
        parts.append(f"{match.differing} different")
    if match.left_only:
        parts.append(f"{match.left_only} on the left only")
    if match.right_only:
        parts.append(f"{match.right_only} on the right only")
    return ", ".join(parts)
