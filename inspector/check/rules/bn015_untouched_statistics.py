"""BN015: statistics that were never updated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inspector.check.rule import Found, Rule, Thresholds, found
from inspector.check.subject import Layer, Subject
from inspector.check.together import about, divisible
from inspector.check.values import is_untouched
from inspector.facts.batchnorm import Confidence
from inspector.facts.finding import RuleInfo, Severity

_INFO = RuleInfo(
    code="BN015",
    name="untouched-statistics",
    severity=Severity.WARNING,
    confidence=Confidence.CERTAIN,
    summary="Mean is exactly 0 and variance exactly 1 in all channels.",
    why="Every framework begins with these values, and one batch in training mode changes them: "
    "the layer was never trained, its checkpoint was not loaded (load_state_dict with "
    "strict=False, renamed keys), or it trained with its statistics frozen. It then normalises "
    "nothing. A layer of which only slope and intercept are left cannot tell. Where it is so for "
    "all layers of a file with several, that is one finding.",
    remedy="load the trained checkpoint before exporting, and see that the statistics are among "
    "what it holds",
    bad="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.0, 0.0},
 float[2] v = {1.0, 1.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
    good="""
agraph (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] m = {0.25, 0.0},
 float[2] v = {1.0, 1.0}>
{ [bn] y = BatchNormalization(x, s, b, m, v) }
""",
)


def _find(subject: Subject, thresholds: Thresholds) -> Iterator[Found]:
    telling = [
        layer
        for layer in subject.layers()
        if layer.arrays.mean is not None and layer.arrays.var is not None
    ]
    untouched = [layer for layer in telling if is_untouched(layer.arrays)]
    if len(untouched) == len(telling) > 1:
        yield from divisible(untouched, [layer.norm.name for layer in untouched], _told)
        return
    for layer in untouched:
        yield _told([layer])


def _told(layers: Sequence[Layer]) -> Found:
    sizes = [0 if layer.arrays.mean is None else layer.arrays.mean.size for layer in layers]
    if len(layers) > 1:
        return about(
            [layer.norm for layer in layers],
            "mean is 0 and variance 1 in all channels of every layer: no statistics were updated",
            channels=sum(sizes),
        )
    size = sizes[0]
    where = f"in all {size} channels" if size > 1 else "in its one channel"
    return found(
        layers[0].norm,
        f"mean is 0 and variance 1 {where}: the statistics were never updated",
        channels=range(size),
        mean=0.0,
        var=1.0,
    )


RULE = Rule(info=_INFO, find=_find)
