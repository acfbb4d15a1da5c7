"""What the arithmetic of one place amounts to: BatchNorms, affine maps, and tails of other things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from inspector.facts.batchnorm import (
    Affine,
    BatchNorm,
    Certainty,
    Form,
    Lookalike,
    Origin,
    Parameter,
)
from inspector.facts.model import Node
from inspector.recognise.affine import evidence, is_pair, is_per_channel, steps, units
from inspector.recognise.algebra import Algebra
from inspector.recognise.around import after, before, fold_target
from inspector.recognise.decomposed import LONGEST, Parts, has_root, parts_of
from inspector.recognise.lookalikes import lookalike, normalised, quantised
from inspector.recognise.native import is_native
from inspector.recognise.place import Place
from inspector.recognise.runs import Link, Run, runs

_LINEAR: dict[str, int] = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": 2}
"""Operators that may lack a bias, which then is added behind them; and the input that it is."""

_WHY_LOST = "scale, mean, var and epsilon are merged into one slope and one intercept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that was found, and the node that its name and place in the file come from."""

    node: Node
    thing: BatchNorm | Affine | Lookalike


Links: TypeAlias = Sequence[Link]


def found_in(place: Place) -> Iterator[Found]:
    """What the arithmetic of one place amounts to, run by run."""
    for run in runs(place):
        rest: list[Link] = []
        for links, parts in _split(run):
            if parts is None:
                rest += links
                continue
            yield from _maps(rest, place)
            rest = []
            yield Found(node=links[-1].node, thing=_decomposed(links, parts, place))
        yield from _maps(rest, place)


def _split(run: Run) -> Iterator[tuple[Links, Parts | None]]:
    """A run as the BatchNorms whose parameters can all be told, longest first, and what is left."""
    links = run.links
    if not has_root(links):
        yield links, None
        return
    at = 0
    while at < len(links):
        for end in range(min(at + LONGEST, len(links)), at, -1):
            part = links[at:end]
            channels = max(each.elements for each in part)
            algebra = Algebra(chains=run.place.chains, channels=channels)
            bias_first = at == 0 and lacks_bias(part[0], run.place)
            parts = parts_of(part, algebra, bias_first=bias_first) if has_root(part) else None
            if parts is not None:
                yield part, parts
                at = end
                break
        else:
            yield links[at : at + 1], None
            at += 1


def lacks_bias(link: Link, place: Place) -> bool:
    """Whether an addition may be the bias of the operator in front of it."""
    producer = place.producer(link.data)
    for _ in range(8):
        if producer is None or producer.op_type not in ("Identity", "Cast", "Transpose", "Reshape"):
            break
        producer = place.producer(producer.input(0))
    if producer is None or producer.op_type not in _LINEAR or not producer.is_standard:
        return False
    return link.op_type == "Add" and not producer.input(_LINEAR[producer.op_type])


def _maps(links: Links, place: Place) -> Iterator[Found]:
    """Affine maps, and what only looks like one."""
    if links and lacks_bias(links[0], place) and not evidence(links[:1])[1]:
        links = links[1:]
    for unit in units(links):
        name, layer = evidence(unit)
        channelled = any(each.axis is not None for each in unit)
        if not (channelled or (layer and _is_one_channel(unit))):
            continue
        if why := quantised(unit, place):
            yield _look(unit, place, "quantisation scale", why)
        elif (norm := _native_in_front(unit[0], place)) is not None:
            if is_per_channel(unit):
                remark = f"the scale and shift of {norm.label!r}, as Caffe writes a BatchNorm"
                yield Found(node=unit[-1].node, thing=_affine(unit, place, remark))
        elif layer and not (lacks_bias(unit[0], place) and len(unit) == 1):
            yield Found(node=unit[-1].node, thing=_affine_norm(unit, place, name, layer))
        elif is_per_channel(unit):
            told = normalised(unit[0].data, place)
            if told is not None:
                yield _look(unit, place, *told)
            elif is_pair(unit):
                yield Found(node=unit[-1].node, thing=_affine(unit, place, ""))


def _look(links: Links, place: Place, kind: str, why: str) -> Found:
    return Found(node=links[-1].node, thing=lookalike(links, place, kind, why))


def _is_one_channel(links: Links) -> bool:
    """Whether a map of single numbers could be that of a layer of one channel."""
    return is_pair(links)


def _decomposed(links: Links, parts: Parts, place: Place) -> BatchNorm:
    last, first = links[-1].node, links[0]
    told, layer = evidence(links)
    into, obstacle = fold_target(first.data, place)
    return BatchNorm(
        name=layer or last.label or last.op_type,
        scope=place.scope,
        form=Form.DECOMPOSED,
        channels=_channels(links),
        scale=parts.scale,
        bias=parts.bias,
        mean=parts.mean,
        var=parts.var,
        epsilon=parts.epsilon,
        momentum=None,
        momentum_stated=False,
        training=False,
        after=after(first.data, place),
        before=before(last.outputs[0], place),
        foldable_into=into,
        output=last.outputs[0],
        obstacle=obstacle,
        axis=_axis(links),
        op_type="",
        nodes=_nodes(links),
        evidence=("it computes (x − mean) · scale / sqrt(var + epsilon) + B", *_named(told)),
        remarks=parts.remarks,
    )


def _affine_norm(links: Links, place: Place, told: str, layer: str) -> BatchNorm:
    last, first = links[-1].node, links[0]
    lost = Parameter(
        value="", certainty=Certainty.LOST, origin=Origin.ABSENT, tensor=None, reason=_WHY_LOST
    )
    into, obstacle = fold_target(first.data, place)
    return BatchNorm(
        name=layer,
        scope=place.scope,
        form=Form.AFFINE,
        channels=_channels(links),
        scale=lost,
        bias=lost,
        mean=lost,
        var=lost,
        epsilon=None,
        momentum=None,
        momentum_stated=False,
        training=False,
        after=after(first.data, place),
        before=before(last.outputs[0], place),
        foldable_into=into,
        output=last.outputs[0],
        obstacle=obstacle,
        axis=_axis(links),
        op_type="",
        nodes=_nodes(links),
        steps=steps(links),
        evidence=_named(told),
    )


def _native_in_front(link: Link, place: Place) -> Node | None:
    """The BatchNormalization whose output a map takes."""
    producer = place.producer(link.data)
    return producer if producer is not None and is_native(producer) else None


def _affine(links: Links, place: Place, remark: str) -> Affine:
    last = links[-1].node
    return Affine(
        name=last.label or last.op_type,
        scope=place.scope,
        channels=_channels(links),
        axis=_axis(links),
        nodes=_nodes(links),
        steps=steps(links),
        after=after(links[0].data, place),
        before=before(last.outputs[0], place),
        output=last.outputs[0],
        remark=remark,
    )


def _named(name: str) -> tuple[str, ...]:
    return (f"the name {name!r}",) if name else ()


def _channels(links: Links) -> int:
    return max(each.elements for each in links)


def _axis(links: Links) -> int:
    return next((each.axis for each in links if each.axis is not None), 1)


def _nodes(links: Links) -> tuple[str, ...]:
    return tuple(f"{each.node.op_type} {each.node.label}".rstrip() for each in links)
