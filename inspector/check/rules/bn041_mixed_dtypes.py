"""BN041: parameters and data of types that the operator's version does not take together."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Site, Sites
from inspector.check.subject import Subject
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import FLOAT_DTYPES

_ALL = ("X", "scale", "B", "mean", "var")

_INFO = RuleInfo(
    code="BN041",
    name="mixed-dtypes",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    summary="X, scale, B, mean and var have types that the opset does not allow together.",
    why="Up to opset 13 all five are of one float type. Opset 14 lets mean and var have another "
    "one than X, scale and B; opset 15 lets scale and B, too, have one of their own "
    "(https://onnx.ai/onnx/operators/onnx__BatchNormalization.html). ONNX Runtime refuses to load "
    "anything else. float16 data with float32 parameters is therefore right from opset 15 on, and "
    "wrong before. float64 beside another type is allowed from then on, too, but ONNX Runtime has "
    "no kernel for it on a CPU: that is of severity warning.",
    remedy="convert the file to opset 15, or cast the parameters that differ",
    bad="""
<ir_version: 7, opset_import: ["": 13]>
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, double[2] m = {0.25, -4.0},
 double[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
<ir_version: 8, opset_import: ["": 15]>
agraph (float16[N, 2] x) => (float16[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    for norm in subject.norms.batchnorms:
        site = sites.at(norm.scope)
        if site is None or norm.op_type != "BatchNormalization":
            continue
        known = _dtypes(norm, site, subject)
        listed = ", ".join(f"{name} {dtype}" for name, dtype in known.items())
        severity: Severity | None = None
        if any(each not in FLOAT_DTYPES for each in known.values()):
            what = f"the operator takes floats alone, and its inputs are {listed}"
        elif any(len({known[n] for n in some if n in known}) > 1 for some in _alike(site.opset)):
            what = f"opset {site.opset} does not allow these types together: {listed}"
        elif len(set(known.values())) > 1 and "float64" in known.values():
            what = f"ONNX Runtime has no kernel for these types together: {listed}"
            severity = Severity.WARNING
        else:
            continue
        yield found(norm, what, severity=severity, opset=site.opset, dtypes=listed)


def _alike(opset: int) -> tuple[tuple[str, ...], ...]:
    """Inputs that have to be of one type."""
    if opset < 14:
        return (_ALL,)
    return (_ALL[:3], _ALL[3:]) if opset < 15 else (_ALL[1:3], _ALL[3:])


def _dtypes(norm: BatchNorm, site: Site, subject: Subject) -> dict[str, str]:
    """The types of the inputs, as far as they are known."""
    found = {}
    names = (norm.entered, *(each.value for _, each in norm.parameters))
    tensors = (None, *(each.tensor for _, each in norm.parameters))
    for role, value, tensor in zip(_ALL, names, tensors, strict=True):
        stored = tensor or site.tensor(value)
        known = None
        if stored is None:
            known = site.values.get(value) if norm.scope else subject.value(value)
        dtype = stored.dtype if stored is not None else known.dtype if known is not None else None
        if dtype is not None:
            found[role] = dtype
    return found


RULE = Rule(info=_INFO, find=_find)
