"""BN003: parameters that whoever runs the model may feed, or must."""

from __future__ import annotations

from collections.abc import Iterator

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Site, Sites
from inspector.check.subject import Subject
from inspector.check.words import listed
from inspector.facts.batchnorm import BatchNorm, Confidence, Origin
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import Model

_INFO = RuleInfo(
    code="BN003",
    name="overridable-parameters",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="A parameter of a BatchNorm is also an input of the graph.",
    why="From IR version 4 on an initializer that is listed among the graph's inputs is only a "
    "default, which whoever runs the model may override. Runtimes cannot take it for a constant: "
    "ONNX Runtime then folds no BatchNorm into its Conv and says so in a warning for each of them. "
    "An input without an initializer has no value in the file at all and must be fed each time. "
    "Before IR version 4 the format itself asked for every initializer among the inputs and none "
    "could be overridden (https://onnx.ai/onnx/repo-docs/IR.html#graphs), so nothing is said then.",
    remedy="take the parameters off the graph's inputs (keep_initializers_as_inputs=False in "
    "torch)",
    bad="""
agraph (float[N, 2] x, float[2] s, float[2] b, float[2] m, float[2] v) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    fix="Takes the inputs off the graph whose initializers are parameters of a BatchNorm; those "
    "initializers stay.",
)

_FED = "export the model with the parameters as initializers"


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    inputs = subject.inputs
    sites = Sites(subject.model)
    for norm in subject.norms.batchnorms:
        default = _from(norm, Origin.OVERRIDABLE)
        if default:
            stored = _stored(norm, subject.model, inputs)
            are = "are also inputs" if len(default) > 1 else "is also an input"
            yield found(
                norm,
                f"its {listed(default)} {are} of the graph, and may be overridden at run time",
                fixable=bool(stored),
                parameters=", ".join(default),
                inputs=", ".join(stored),
            )
        site = sites.at(norm.scope)
        fed = [
            name
            for name in _from(norm, Origin.GRAPH_INPUT)
            if site is not None and _outside(dict(norm.parameters)[name].value, site) in inputs
        ]
        if fed:
            some = len(fed) > 1
            values = "have no values in the file" if some else "has no values in the file"
            yield found(
                norm,
                f"its {listed(fed)} {values}, and must be fed as {'inputs' if some else 'an input'}"
                " of the graph",
                remedy=_FED,
                parameters=", ".join(fed),
                inputs=", ".join(dict(norm.parameters)[name].value for name in fed),
            )


def _from(norm: BatchNorm, origin: Origin) -> list[str]:
    return [name for name, each in norm.parameters if each.origin is origin]


def _stored(norm: BatchNorm, model: Model, inputs: frozenset[str]) -> list[str]:
    """The inputs that are overridable parameters of a layer; none where one cannot be told."""
    found = []
    for _, each in norm.parameters:
        if each.origin is not Origin.OVERRIDABLE:
            continue
        tensor = each.stored or each.tensor
        name = "" if tensor is None else tensor.name
        if name not in inputs or name not in model.graph.initializers:
            return []
        found.append(name)
    return list(dict.fromkeys(found))


def _outside(value: str, site: Site) -> str:
    """What a value is called in the main graph, seen out of functions and through Identity."""
    inner: Site | None = site
    while inner is not None:
        node = inner.producer(value)
        if node is not None:
            return ""
        value = _first(value, inner)
        if inner.arguments is not None:
            value = inner.arguments.get(value, "")
        inner = inner.outer
    return value


def _first(value: str, site: Site) -> str:
    """The name before the Identities in front of a value."""
    seen: set[str] = set()
    while value in site.wiring.producers and value not in seen:
        seen.add(value)
        value = site.wiring.producers[value].input(0)
    return value


RULE = Rule(info=_INFO, find=_find)
