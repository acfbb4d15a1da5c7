"""BN042: forms of the operator that runtimes have given up."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds
from inspector.check.sites import Sites
from inspector.check.subject import Subject
from inspector.check.together import about
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import Node

_GONE = {"consumed_inputs": 6, "is_test": 7, "spatial": 9}
"""Attributes, and the opset from which on the operator does not have them."""

_INFO = RuleInfo(
    code="BN042",
    name="deprecated-form",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="A BatchNormalization is of a form that current runtimes refuse.",
    why="Before opset 7 the operator trained unless is_test said otherwise: ONNX Runtime has no "
    "kernel for it. An attribute that the opset no longer has (consumed_inputs, is_test, spatial) "
    "makes checkers and runtimes refuse the file; spatial = 0, one statistic for each place, is "
    "gone without a successor since opset 9. Drafts of opsets 12 and 14 took training_mode as a "
    "sixth input, or gave five outputs; no released version does.",
    remedy="convert the file to opset 15 (onnx.version_converter), or export it again",
    bad="""
<ir_version: 3, opset_import: ["": 6]>
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization <is_test = 1> (x, s, b, m, v) }
""",
    good="""
<ir_version: 3, opset_import: ["": 9]>
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization (x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    forms: dict[tuple[str, int], list[BatchNorm]] = {}
    for norm in subject.norms.batchnorms:
        site, node = sites.at(norm.scope), sites.node(norm)
        if site is None or node is None or norm.op_type != "BatchNormalization":
            continue
        for what in _outdated(node, site.opset):
            forms.setdefault((what, site.opset), []).append(norm)
    for (what, opset), norms in forms.items():
        yield about(norms, what, opset=opset)


def _outdated(node: Node, opset: int) -> Iterator[str]:
    """What is outdated in one node."""
    if opset < 7:
        yield f"the operator is of opset {opset}, and runtimes take it from opset 7 on"
    for name, since in _GONE.items():
        if name in node.attributes and opset >= since:
            yield f"the attribute {name} is gone since opset {since}, and this is opset {opset}"
    if opset in (7, 8) and node.int_attribute("spatial", 1) == 0:
        yield "spatial = 0, one statistic for each place of the input, is gone since opset 9"
    if node.input(5):
        yield "it takes training_mode as a sixth input, as only a draft of the operator did"
    elif opset >= 14 and sum(map(bool, node.outputs)) > 3:
        yield f"it gives {len(node.outputs)} outputs, and has three since opset 14"


RULE = Rule(info=_INFO, find=_find)
