"""BN001: a BatchNorm that normalises by the batch."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.modes import why_not_inference, why_training
from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Sites
from inspector.check.subject import Subject
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN001",
    name="training-mode",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    summary="A BatchNorm is in training mode.",
    why="It normalises by the mean and variance of whatever is in the batch, and not by the "
    "statistics that were learned: what comes out for one input depends on the others beside it, "
    "and a batch of one gives something else altogether. The checker and the runtimes take it "
    "without a word. Up to opset 6 it is so unless is_test is set, from 7 to 13 where more than "
    "one output is asked for, and from 14 on where training_mode is not 0 "
    "(https://onnx.ai/onnx/operators/onnx__BatchNormalization.html). That nobody reads the further "
    "outputs changes nothing.",
    remedy="export in inference mode: model.eval() and training=TrainingMode.EVAL in torch, "
    "training=False in Keras",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y, running_mean, running_var = BatchNormalization <training_mode = 1> (x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    fix="Sets training_mode to 0 (is_test to 1 up to opset 6) and drops the further outputs, where "
    "the statistics are in the file, were updated and give finite results, and where nothing reads "
    "those outputs.",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    norms = subject.norms.batchnorms
    if not any(norm.training for norm in norms):
        return
    sites = Sites(subject.model)
    for layer in subject.layers():
        norm = layer.norm
        if not norm.training:
            continue
        node, site = sites.node(norm), sites.at(norm.scope)
        opset = subject.model.opset if site is None else site.opset
        told = why_training(node, opset)
        obstacle = why_not_inference(layer, sites)
        yield found(
            norm,
            f"it normalises by the batch and not by its statistics ({told})",
            remedy=f"{_INFO.remedy}; the file cannot be put right by itself, for {obstacle}"
            if obstacle
            else "",
            fixable=not obstacle,
            opset=opset,
            told_by=told,
            outputs=0 if node is None else sum(bool(name) for name in node.outputs),
        )


RULE = Rule(info=_INFO, find=_find)
