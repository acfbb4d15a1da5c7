"""BN033: layers that could be folded into the operator in front of them, and are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.subject import Subject
from inspector.check.together import about, divisible
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN033",
    name="foldable",
    severity=Severity.INFO,
    confidence=Confidence.CERTAIN,
    summary="BatchNorms stand right behind a Conv, ConvTranspose or Gemm that could take them in.",
    why="At inference such a layer is one multiplication and one addition for each element, which "
    "the weights in front could do for nothing. ONNX Runtime folds it on each load, and other "
    "runtimes may not. Folding for good cannot be undone from the file, so it is a choice, and no "
    "mistake if it is left.",
    remedy="fold them for a runtime that does not do it (bninspect check --fix --select BN033), "
    "and keep the file with the BatchNorms",
    fix="folds the layers into the operators in front of them, where the rule is asked for by its "
    "whole code",
    bad="""
agraph (float[1, 3, 8, 8] x) => (float[1, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [bn] y = BatchNormalization(h, s, b, m, v) }
""",
    good="""
agraph (float[1, 3, 8, 8] x) => (float[1, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] c = {0.5, -0.5}>
{ [conv] y = Conv(x, w, c) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    norms = [norm for norm in subject.norms.batchnorms if norm.foldable_into is not None]
    names = [norm.name for norm in norms]
    yield from divisible(norms, names, lambda some: _told(some, subject))


def _told(norms: Sequence[BatchNorm], subject: Subject) -> Found:
    stored = sum(_stored(norm) for norm in norms)
    sizes = [_size(norm, subject) for norm in norms]
    known = [each for each in sizes if each is not None]
    cost = f"{stored:,} stored numbers"
    if known and len(known) == len(sizes):
        cost += f" and {sum(known):,} multiplications a sample at inference"
    into = norms[0].foldable_into or ""
    where = f" into {into}" if len(norms) == 1 else " into the operators in front"
    return about(
        norms,
        f"could be folded{where}, which would save {cost}",
        fixable=True,
        stored=stored,
        multiplications=sum(known),
        sizes_known=len(known),
    )


def _stored(norm: BatchNorm) -> int:
    """Elements of what is stored for a layer."""
    tensors = [each.tensor for _, each in norm.parameters] + [each.tensor for each in norm.steps]
    return sum(each.elements for each in tensors if each is not None)


def _size(norm: BatchNorm, subject: Subject) -> int | None:
    """Elements of what a layer gives for one sample; None where that is not known."""
    if norm.scope:
        return None
    value = subject.value(norm.output)
    lengths = value.dims[1:] if value is not None and value.dims else ()
    whole = [each for each in lengths if isinstance(each, int) and each > 0]
    return prod(whole) if whole and len(whole) == len(lengths) else None


RULE = Rule(info=_INFO, find=_find)
