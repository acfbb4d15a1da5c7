"""BN040: parameters of lengths that disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.kernels import channels_given
from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Site, Sites
from inspector.check.subject import Subject
from inspector.check.words import listed
from inspector.facts.batchnorm import BatchNorm, Confidence, Origin
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import Dim

_OPERATORS = frozenset({"BatchNormalization", "BatchNormInternal"})

_INFO = RuleInfo(
    code="BN040",
    name="parameter-lengths",
    severity=Severity.ERROR,
    confidence=Confidence.CERTAIN,
    summary="Scale, B, mean and var differ in length from each other or from the data's channels.",
    why="Each of them is a vector of one number for each channel. onnx.checker takes other lengths "
    "without a word (https://github.com/onnx/onnx/issues/3629). ONNX Runtime refuses them on "
    "loading or at the first run, unless it has fused the layer away and with it the question; a "
    "runtime that does not look reads past the end.",
    remedy="find out which of them is another layer's or was cut, and export the model again",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[3] m = {0.25, -4.0, 0.0},
 float[3] v = {1.0, 9.0, 1.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, -4.0},
 float[2] v = {1.0, 9.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    for norm in subject.norms.batchnorms:
        site, node = sites.at(norm.scope), sites.node(norm)
        if site is None or node is None or node.op_type not in _OPERATORS:
            continue
        if site.opset < 9 and node.int_attribute("spatial", 1) == 0:
            continue  # one number for each place of the input
        absent = [name for name, each in norm.parameters if each.origin is Origin.ABSENT]
        if absent:
            why = dict(norm.parameters)[absent[0]].reason
            what = f"{listed(absent)} {'are' if len(absent) > 1 else 'is'} missing: {why}"
            yield found(norm, what, missing=", ".join(absent))
            continue
        known = _dims(norm, site, subject)
        flat = {name: dims for name, dims in known.items() if len(dims) == 1}
        lengths = {dims[0] for dims in flat.values()}
        if len(flat) < len(known):
            shapes = ", ".join(f"{name} is {list(dims)}" for name, dims in known.items())
            yield found(
                norm,
                f"the parameters are to be vectors of one length, and {shapes}",
                shapes=shapes,
            )
        elif len(lengths) > 1:
            each = ", ".join(f"{dims[0]} in {name}" for name, dims in flat.items())
            yield found(norm, f"the parameters differ in length: {each}", lengths=each)
        elif lengths:
            yield from _against_data(norm, lengths.pop(), site, subject)


def _against_data(norm: BatchNorm, length: int, site: Site, subject: Subject) -> Iterator[Found]:
    given, confidence = _channels(norm, site, subject)
    if given is not None and given != length:
        yield found(
            norm,
            f"the data has {given} channels and the parameters have {length}",
            confidence=confidence,
            channels_of_data=given,
            length=length,
        )


def _dims(norm: BatchNorm, site: Site, subject: Subject) -> dict[str, tuple[int, ...]]:
    """Dims of the parameters, as far as they are known."""
    found = {}
    for name, each in norm.parameters:
        tensor = each.tensor or site.tensor(each.value)
        dims = tensor.dims if tensor is not None else _declared(each.value, norm, subject)
        if dims is not None and all(isinstance(dim, int) for dim in dims):
            found[name] = tuple(int(dim or 0) for dim in dims)
    return found


def _declared(value: str, norm: BatchNorm, subject: Subject) -> Sequence[Dim] | None:
    known = subject.value(value) if not norm.scope else None
    return None if known is None else known.dims


def _channels(norm: BatchNorm, site: Site, subject: Subject) -> tuple[int | None, Confidence]:
    """How many channels the data has, and how sure that is.

    The weights in front tell, or an input's declaration; what a file says of a value in between
    may be out of date.
    """
    producer = site.producer(norm.entered)
    if producer is not None:
        given = channels_given(producer, site)
        if given is not None:
            return given, Confidence.CERTAIN
    dims = _declared(norm.entered, norm, subject)
    if dims is None or len(dims) < 2:
        return None, Confidence.CERTAIN
    second = dims[1]
    graph = subject.model.graph
    stated = norm.entered in graph.values and norm.entered not in subject.inputs
    confidence = Confidence.LIKELY if stated else Confidence.CERTAIN
    return (second if isinstance(second, int) else None), confidence


RULE = Rule(info=_INFO, find=_find)
