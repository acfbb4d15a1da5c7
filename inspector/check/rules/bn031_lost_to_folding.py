"""BN031: operators that have probably swallowed a BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.sites import Site, Sites
from inspector.check.subject import Subject
from inspector.check.together import about, cut, divisible
from inspector.facts.batchnorm import Confidence, FoldedEvidence
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import Node, Scope

_INFO = RuleInfo(
    code="BN031",
    name="lost-to-folding",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="Operators hold weights into which a BatchNorm was probably folded.",
    why="Inference gives the same, and is faster. But the layer is gone: the file cannot be "
    "trained on, counted or compared with its framework's layers, and the count of its parameters "
    "is not the network's. What was folded leaves only names and numbers behind, so this can be "
    "likely and never certain. Where a single trace might have another reason, the finding is of "
    "severity info; a bias where the others of its kind have a BatchNorm is no trace in a gate or "
    "in front of the model's output.",
    remedy="where the BatchNorms are needed, export again without folding (bninspect export; "
    "training=TrainingMode.PRESERVE or do_constant_folding=False in torch); where they are not, "
    "ignore this rule for the file, with that as the reason",
    bad="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] b = {0.5, -0.5}>
{ ["layer1/bn1/FusedBatchNormV3"] y = Conv(x, w, b) }
""",
    good="""
agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y)
<float[2, 3, 3, 3] w, float[2] b = {0.5, -0.5}>
{ ["layer1/conv1"] y = Conv(x, w, b) }
""",
)


_GATES = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softmax"})
_BETWEEN = frozenset({"Add", "Reshape", "Transpose", "Squeeze", "Identity", "Cast"})


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    folded = subject.norms.folded
    other = _gates_and_heads([each for each in folded if _stands_out(each)], subject)
    for confidence in Confidence:
        some = [each for each in folded if each.confidence is confidence and each not in other]
        yield from divisible(some, [each.name for each in some], _told)


def _stands_out(each: FoldedEvidence) -> bool:
    """Whether nothing tells of it but that its like have a BatchNorm and it has a bias."""
    return len(each.evidence) == 1 and each.evidence[0].startswith("it has a bias and")


def _gates_and_heads(some: Sequence[FoldedEvidence], subject: Subject) -> list[FoldedEvidence]:
    """Those that are a gate, as of squeeze-and-excitation, or give what the model gives.

    Networks with a BatchNorm behind each other Conv have none there.
    """
    if not some:
        return []
    sites = Sites(subject.model)
    outputs = {each.name for each in subject.model.graph.outputs}
    nodes: dict[Scope, dict[str, Node]] = {}
    found = []
    for each in some:
        site = sites.at(each.scope)
        if site is None:
            continue
        if each.scope not in nodes:
            nodes[each.scope] = {node.label: node for node in site.wiring.nodes}
        node = nodes[each.scope].get(each.name)
        if node is not None and _ends(node, site, outputs):
            found.append(each)
    return found


def _ends(node: Node, site: Site, outputs: set[str]) -> bool:
    """Whether a gate's activation alone reads an operator, or an activation gives its output.

    Where a Mul reads it beside a Sigmoid, that is x · sigmoid(x), as between any two layers.
    """
    behind = [reader for reader, _ in site.wiring.users.get(node.outputs[0], ())]
    while len(behind) == 1 and behind[0].op_type in _BETWEEN:
        behind = [reader for reader, _ in site.wiring.users.get(behind[0].outputs[0], ())]
    if len(behind) != 1:
        return False
    return behind[0].op_type in _GATES or not outputs.isdisjoint(behind[0].outputs)


def _told(some: Sequence[FoldedEvidence]) -> Found:
    confidence = some[0].confidence
    possible = confidence is Confidence.POSSIBLE
    word = "may have been" if possible else "was probably"
    told = cut("; ".join(some[0].evidence), 200)
    layers = [each.batchnorm for each in some if each.batchnorm]
    called = f", {cut(layers[0])!r}," if len(some) == 1 and layers else ""
    return about(
        some,
        f"a BatchNorm{called} {word} folded into {'each' if len(some) > 1 else 'it'}"
        + (f" (of the first: {told})" if len(some) > 1 else f" ({told})"),
        kind="operators",
        severity=Severity.INFO if possible else None,
        confidence=confidence,
        told_by=told,
    )


RULE = Rule(info=_INFO, find=_find)
