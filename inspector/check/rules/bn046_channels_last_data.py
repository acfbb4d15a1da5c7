"""BN046: data with its channels on the last axis goes into a BatchNorm that has them on axis 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.kernels import channels_given
from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.sites import Site, Sites
from inspector.check.subject import Subject
from inspector.facts.batchnorm import BatchNorm, Confidence
from inspector.facts.finding import RuleInfo, Severity
from inspector.facts.model import Dim

_INFO = RuleInfo(
    code="BN046",
    name="channels-last-data",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
    summary="The data has its channels on another axis than 1, where the operator looks for them.",
    why="BatchNormalization takes axis 1 for the channels, whatever the framework does. A "
    "converter that keeps NHWC and writes the operator all the same normalises rows of the image "
    "by statistics of channels. Where the height equals the number of channels, this runs without "
    "an error and gives wrong numbers.",
    remedy="put a Transpose to NCHW in front of the layer and one back behind it, or convert "
    "again with channels first (--inputs-as-nchw in tf2onnx)",
    bad="""
agraph (float[1, 3, 4, 4] x) => (float[1, 4, 4, 4] y)
<float[4, 3, 1, 1] w, float[4] s = {1.0, 2.0, 1.0, 2.0}, float[4] b = {0.5, -0.5, 0.5, 0.5},
 float[4] m = {0.25, -4.0, 0.5, 0.0}, float[4] v = {1.0, 9.0, 1.0, 4.0}>
{ [conv] h = Conv(x, w)
  [to_nhwc] t = Transpose <perm = [0, 2, 3, 1]> (h)
  [bn] y = BatchNormalization(t, s, b, m, v) }
""",
    good="""
agraph (float[1, 3, 4, 4] x) => (float[1, 4, 4, 4] y)
<float[4, 3, 1, 1] w, float[4] s = {1.0, 2.0, 1.0, 2.0}, float[4] b = {0.5, -0.5, 0.5, 0.5},
 float[4] m = {0.25, -4.0, 0.5, 0.0}, float[4] v = {1.0, 9.0, 1.0, 4.0}>
{ [conv] h = Conv(x, w)
  [to_nhwc] t = Transpose <perm = [0, 2, 3, 1]> (h)
  [to_nchw] u = Transpose <perm = [0, 3, 1, 2]> (t)
  [bn] y = BatchNormalization(u, s, b, m, v) }
""",
)

_THROUGH = frozenset(
    "Identity Cast Dropout Relu LeakyRelu Elu Selu Celu Clip Sigmoid HardSigmoid HardSwish Tanh "
    "Gelu Mish Softplus Abs Neg Exp Sqrt".split()
)
"""Operators that leave each number on its axis."""

_CHANNELS_SECOND = frozenset(
    "Conv ConvTranspose MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool "
    "InstanceNormalization BatchNormalization LRN DepthToSpace SpaceToDepth".split()
)
"""Operators that give their channels on axis 1."""

_FURTHEST = 16


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    sites = Sites(subject.model)
    for norm in subject.norms.batchnorms:
        site = sites.at(norm.scope)
        # Of arithmetic the axis is read off; only the operator takes it for granted.
        if site is None or norm.channels is None or norm.op_type != "BatchNormalization":
            continue
        each = _by_the_way(norm, site) or _by_lengths(norm, subject)
        if each is not None:
            yield each


def _by_the_way(norm: BatchNorm, site: Site) -> Found | None:
    """What the Transposes between an operator with channels on axis 1 and the layer tell."""
    axes: list[int] | None = None
    value = norm.entered
    for _ in range(_FURTHEST):
        node = site.wiring.producers.get(value)
        if node is None or not node.is_standard:
            return None
        if node.op_type == "Transpose":
            perm = node.ints_attribute("perm")
            if perm is None or sorted(perm) != list(range(len(perm))) or len(perm) < 3:
                return None
            if axes is not None and len(axes) != len(perm):
                return None
            axes = [perm[each] for each in axes] if axes is not None else list(perm)
        elif node.op_type not in _THROUGH:
            break
        value = node.input(0)
    else:
        return None
    if axes is None or node.op_type not in _CHANNELS_SECOND or axes[1] == 1:
        return None
    given = channels_given(node, site)
    # A layer for rows, of as many numbers as there are rows, is somebody's intention.
    if given is None or given != norm.channels:
        return None
    return found(
        norm,
        f"its {norm.channels} channels come from {node.op_type} {node.label} and a Transpose puts "
        f"them on axis {axes.index(1)}, where the operator takes axis 1",
        axis=axes.index(1),
        operator=node.label,
    )


def _by_lengths(norm: BatchNorm, subject: Subject) -> Found | None:
    """What the lengths of the data tell."""
    value = None if norm.scope else subject.value(norm.entered)
    dims: Sequence[Dim] = value.dims or () if value is not None else ()
    if len(dims) < 3:
        return None
    second, last = dims[1], dims[-1]
    if isinstance(second, int) and second != norm.channels and last == norm.channels:
        return found(
            norm,
            f"it has {norm.channels} channels, which is the length of the data's last axis; axis 1 "
            f"has {second}",
            shape=str(list(dims)),
        )
    fed = norm.entered in subject.inputs
    square = len(dims) == 4 and second == dims[2] == norm.channels != last
    if fed and square and last in (1, 3, 4):
        return found(
            norm,
            f"the input is {list(dims)}, as an image with its {last} channels last, and the layer "
            f"takes the {second} rows for channels",
            confidence=Confidence.POSSIBLE,
            shape=str(list(dims)),
        )
    return None


RULE = Rule(info=_INFO, find=_find)
