"""What the arithmetic of one place amounts to: BatchNorms, affine maps, tails of other things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from inspector.facts.model import Node, Tensor
from inspector.recognise.affine import evidence, is_pair, is_per_channel, steps, units
from inspector.recognise.around import after, before, dims_of, fold_target
from inspector.recognise.axes import beside_channels, channel_axis, of_length, written_axis
from inspector.recognise.linear import lacks_bias
from inspector.recognise.lookalikes import (
    lookalike,
    may_normalise,
    normalised,
    own_statistics,
    quantised,
)
from inspector.recognise.names import witness_scope
from inspector.recognise.native import is_native
from inspector.recognise.parts import Parts
from inspector.recognise.place import Place
from inspector.recognise.runs import Link, has_root, runs

_COMPUTES = "what it computes"

_WHY_LOST = "scale, mean, var and epsilon are merged into one slope and one intercept"


Links: TypeAlias = Sequence[Link]
Found: TypeAlias = BatchNorm | Affine | Lookalike


def found_in(place: Place) -> Iterator[Found]:
    """What the arithmetic of one place amounts to, run by run."""
    for run in runs(place):
        if not has_root(run):
            yield from _maps(run, place)
            continue
        from inspector.recognise.cuts import split

        rest: list[Link] = []
        for links, parts in split(run, place):
            if parts is None:
                rest += links
                continue
            yield from _maps(rest, place)
            rest = []
            yield _batchnorm(links, parts, place)
        yield from _maps(rest, place)


def _maps(links: Links, place: Place) -> Iterator[Found]:
    """Affine maps, and what only looks like one."""
    if len(links) == 1 and not links[0].layer and lacks_bias(links[0], place):
        return  # most additions by far
    for unit in units(_without_bias(links, place)):
        first = unit[0]
        if any(each.source.tensor is None for each in unit) and steps(unit, place.chains) is None:
            continue
        norm = _native_in_front(first, place)
        if norm is None and (why := _scale_of_integers(unit, place)):
            yield lookalike(unit, place, "quantisation scale", why)
        elif norm is None and (tail := _tail(unit, place)) is not None:
            if is_per_channel(unit):
                yield lookalike(unit, place, *tail, tensors=_stored(unit))
        elif norm is None and evidence(unit)[1]:
            if is_whole(unit, place):
                yield _batchnorm(unit, _ALL_LOST, place)
        elif _on_channels(unit, place):
            remark = (
                norm and f"scales what BatchNorm {norm.label!r} gives, as Caffe writes one layer"
            )
            yield _affine(unit, place, remark or "")


def _scale_of_integers(unit: Links, place: Place) -> str:
    """By what a map is known to belong to a quantisation; empty if it does not."""
    why = quantised(unit, place) if is_per_channel(unit) else ""
    return why if why and not _own(unit) else ""


def _tail(unit: Links, place: Place) -> tuple[str, str] | None:
    """The normalisation that a map is the end of, and by what that is known."""
    return normalised(unit[0].data, place, _own(unit)) if may_normalise(place) else None


def _stored(unit: Links) -> tuple[Tensor, ...]:
    """The constants of a map as they are stored."""
    from inspector.recognise.algebra import base

    found = (base(each.source).tensor for each in unit)
    return tuple(each for each in found if each is not None and each.elements > 1)


def _own(unit: Links) -> str:
    """The layer of a map where a name that nothing but a BatchNorm leaves tells it.

    Such a layer may stand behind another normalisation, and still be a BatchNorm.
    """
    names = (each.node.name for each in unit)
    return next((scope for name in names if (scope := witness_scope(name))), "")


def _without_bias(links: Links, place: Place) -> Links:
    """A run without the bias of the operator before it, where it is a map without that, too."""
    if not links or not lacks_bias(links[0], place) or evidence(links[:1])[1]:
        return links
    rest = links[1:]
    return rest if not rest or is_pair(rest) or evidence(rest)[1] else links


def is_whole(unit: Links, place: Place) -> bool:
    """Whether single numbers or a lone shift can be all that is left of the layer they name."""
    if not any(each.axis is not None for each in unit):
        return is_pair(unit) or channel_axis(unit, place) is not None
    return not (len(unit) == 1 and lacks_bias(unit[0], place))


def _on_channels(unit: Links, place: Place) -> bool:
    """Whether a map that no name speaks of is one by the axis that its numbers lie on.

    A pair says so by itself; of one operator alone the dims of the data have to bear it out.
    """
    axis, dims = channel_axis(unit, place), dims_of(unit[0].data, place)
    if axis is None or not of_length(unit, place, axis, _channels(unit)):
        return False
    if beside_channels(unit, place, axis):
        return False
    if is_pair(unit):
        return is_per_channel(unit) or _channels(unit) == 1
    return dims is not None and len(dims) > 1 and not lacks_bias(unit[0], place)


_LOST = Parameter(
    value="", certainty=Certainty.LOST, origin=Origin.ABSENT, tensor=None, reason=_WHY_LOST
)
_ALL_LOST = Parts(scale=_LOST, bias=_LOST, mean=_LOST, var=_LOST, epsilon=None, remarks=())


def _batchnorm(links: Links, parts: Parts, place: Place) -> BatchNorm:
    """A BatchNorm that arithmetic is, or of which it is all that is left."""
    told, layer = evidence(links)
    affine = parts is _ALL_LOST
    last, first = links[-1].node, links[0]
    channels = channel_axis(links, place)
    into, obstacle = _fold_target(links, channels, place)
    return BatchNorm(
        name=layer or last.label or last.op_type,
        scope=place.scope,
        form=Form.AFFINE if affine else Form.DECOMPOSED,
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
        entered=first.data,
        obstacle=obstacle,
        axis=_axis(links, channels),
        op_type="",
        nodes=_nodes(links),
        steps=(steps(links, place.chains) or ()) if affine else (),
        evidence=(*(() if affine else (_COMPUTES,)), *((told,) if told else ())),
        remarks=parts.remarks,
    )


def _fold_target(links: Links, axis: int | None, place: Place) -> tuple[str | None, str]:
    """The operator that could take arithmetic in, or why none can."""
    if any(each.source.origin is Origin.OVERRIDABLE for each in links):
        return None, "its parameters may be fed as inputs"
    into, obstacle = fold_target(links[0].data, place)
    if into is not None and axis != 1:
        return None, f"its numbers do not lie along the channels of {into!r}"
    return into, obstacle


def _native_in_front(link: Link, place: Place) -> Node | None:
    """The BatchNormalization with statistics of its own whose output a map takes."""
    producer = place.producer(link.data)
    if producer is None or not is_native(producer) or own_statistics(producer, place):
        return None
    return producer


def _affine(links: Links, place: Place, remark: str) -> Affine:
    last = links[-1].node
    return Affine(
        name=last.label or last.op_type,
        scope=place.scope,
        channels=_channels(links),
        axis=_axis(links, channel_axis(links, place)),
        nodes=_nodes(links),
        steps=steps(links, place.chains) or (),
        after=after(links[0].data, place),
        before=before(last.outputs[0], place),
        output=last.outputs[0],
        entered=links[0].data,
        remark=remark,
    )


def _channels(links: Links) -> int:
    return max(each.elements for each in links)


def _axis(links: Links, told: int | None) -> int:
    """The axis of the channels, from the last one where the rank is not known."""
    if told is not None:
        return told
    written = written_axis(links)
    return 1 if written is None else written


def _nodes(links: Links) -> tuple[str, ...]:
    return tuple(f"{each.node.op_type} {each.node.label}".rstrip() for each in links)
