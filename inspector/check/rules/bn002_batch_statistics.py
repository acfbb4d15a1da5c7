"""BN002: statistics that are computed at run time."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Site, Sites
from inspector.check.subject import Subject
from inspector.check.words import listed
from inspector.facts.batchnorm import BatchNorm, Confidence, Origin
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN002",
    name="batch-statistics",
    severity=Severity.ERROR,
    confidence=Confidence.LIKELY,
    summary="Mean or variance are computed at run time from what comes in.",
    why="That is a BatchNorm in training mode in other words, which some exporters write so: what "
    "comes out for one input depends on the others in its batch, and the learned statistics are "
    "gone. Where the statistics come from elsewhere at run time (a lookup by domain, a "
    "network that gives them), or where arithmetic alone normalises over the batch, it may be "
    "meant: then it is a warning.",
    remedy="export in inference mode, with the learned mean and variance as initializers",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}>
{ [mean] m = ReduceMean <axes = [0], keepdims = 0> (x)
  [centre] c = Sub(x, m)
  [square] q = Mul(c, c)
  [variance] v = ReduceMean <axes = [0], keepdims = 0> (q)
  [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)

BY_THE_BATCH = "normalisation by the batch's own statistics"
"""The kind under which arithmetic that does so is recognised."""

_REDUCTIONS = frozenset(
    "ReduceMean ReduceSum ReduceSumSquare ReduceL2 GlobalAveragePool AveragePool Einsum "
    "BatchNormalization InstanceNormalization MeanVarianceNormalization".split()
)
_MOVES = frozenset("Identity Cast Transpose Reshape Flatten Squeeze Unsqueeze".split())
_MOST = 64
"""Operators between a layer's input and its statistics, at most."""


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    for norm in subject.norms.batchnorms:
        computed = [
            (name, each)
            for name, each in (("mean", norm.mean), ("var", norm.var))
            if each.origin is Origin.COMPUTED and each.tensor is None
        ]
        # In training mode they are not gone by.
        if not computed or norm.training:
            continue
        what = listed([name for name, _ in computed])
        site = sites.at(norm.scope)
        by = "" if site is None else _reduced(computed[0][1].value, norm, site)
        are = "are" if len(computed) > 1 else "is"
        if by:
            yield found(
                norm,
                f"its {what} {are} computed at run time from its own input, by {by}: each output "
                "depends on the rest of the batch",
                parameters=what,
                operator=by,
            )
        else:
            reason = computed[0][1].reason or "computed at run time"
            yield found(
                norm,
                f"its {what} {are} not in the file ({reason})",
                severity=Severity.WARNING,
                confidence=Confidence.POSSIBLE,
                remedy="make sure that this is meant; if not, export with the learned mean and "
                "variance as initializers",
                parameters=what,
                operator=reason,
            )
    for other in subject.norms.lookalikes:
        if other.kind == BY_THE_BATCH:
            yield Found(
                message=f"{other.name}: arithmetic normalises by the mean and variance of the "
                "batch, as a BatchNorm in training mode does",
                scope=other.scope,
                layer=other.name,
                evidence={"parameters": "mean and var", "operator": other.kind},
                severity=Severity.WARNING,
                remedy="make sure that this is meant; if not, export in inference mode",
            )


def _reduced(value: str, norm: BatchNorm, site: Site) -> str:
    """The operator that reduces a layer's own input to `value`; empty where none is found."""
    own = _same(norm.entered, site)
    pending: list[tuple[str, str]] = [(value, "")]
    seen = {pending[0]}
    for name, by in pending:
        if name in own:
            if by:
                return by
            continue
        node = site.wiring.producers.get(name)
        if node is None or len(seen) > _MOST:
            continue
        passed = by or (node.op_type if node.op_type in _REDUCTIONS else "")
        fresh = [(each, passed) for each in node.inputs if each and (each, passed) not in seen]
        seen.update(fresh)
        pending += fresh
    return ""


def _same(value: str, site: Site) -> set[str]:
    """A value, and those that hold the same numbers before they were moved."""
    found = {value}
    for _ in range(_MOST):
        node = site.wiring.producers.get(value)
        if node is None or node.op_type not in _MOVES:
            break
        value = node.input(0)
        found.add(value)
    return found


RULE = Rule(info=_INFO, find=_find)
