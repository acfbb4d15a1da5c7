"""What the arithmetic of one place amounts to: BatchNorms, affine maps, tails of other things."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from inspector.recognise.around import after, before, behind_moves, dims_of, fold_target
from inspector.recognise.decomposed import (
    LONGEST,
    Parts,
    Reading,
    has_root,
    lines,
    parts_of,
    reading,
)
from inspector.recognise.linear import is_linear
from inspector.recognise.lookalikes import lookalike, normalised, own_statistics, quantised
from inspector.recognise.names import witness_scope
from inspector.recognise.native import is_native
from inspector.recognise.place import Place
from inspector.recognise.runs import Link, Run, channel_axis, runs, written_axis

_COMPUTES = "what it computes"

MOST_LINKS = 20_000
"""Links of one run that are read as BatchNorms: 5,000 of them in a row, with nothing between."""

_CHANNELS_SECOND = frozenset({"Conv", "ConvTranspose", "BatchNormalization", "MaxPool"})
"""Operators that have the channels of what they give on its second axis."""

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
    """A run as the BatchNorms whose parameters can all be told, and what is left.

    A shift between two of them could belong to either: of all ways to cut a run the one counts
    that makes most of it BatchNorms, and then the one that leaves least over.
    """
    links = run.links
    if not has_root(links) or len(links) > MOST_LINKS:
        yield links, None
        return
    windows: dict[tuple[int, int], tuple[Reading, Algebra]] = {}
    for by_content in (False, True):
        covered = {each for at, end in windows for each in range(at, end)}
        for at in range(len(links)):
            if at not in covered:
                for end, found in _from(links, at, run.place, by_content=by_content):
                    windows.setdefault((at, end), found)
    best: list[tuple[int, int]] = [(0, 0)] * (len(links) + 1)
    ends: list[int] = [0] * len(links)
    for at in reversed(range(len(links))):
        count, left = best[at + 1]
        best[at], ends[at] = (count, left - 1), at
        for end in range(at + 1, min(at + LONGEST, len(links)) + 1):
            if (at, end) in windows:
                count, left = best[end]
                if (count + 1, left) > best[at]:
                    best[at], ends[at] = (count + 1, left), end
    at = 0
    while at < len(links):
        end = ends[at]
        parts = parts_of(*windows[at, end]) if end > at else None
        # What cannot be built after all is left as it is.
        end = max(end, at + 1)
        yield links[at:end], parts
        at = end


def _from(
    links: Links, at: int, place: Place, *, by_content: bool
) -> Iterator[tuple[int, tuple[Reading, Algebra]]]:
    """Each part of a run from `at` on that reads as a whole BatchNorm: its end, and how."""
    some = links[at : at + LONGEST]
    if not has_root(some):
        return
    channels = max(each.elements for each in some)
    axis = channel_axis(some, place)
    if channels > 1 and (
        axis is None
        or not _of_length(some, place, axis, channels)
        or _beside_channels(some, place, axis)
    ):
        return
    key = channels, by_content
    if key not in place.algebras:
        place.algebras[key] = Algebra(chains=place.chains, channels=channels, by_content=by_content)
    algebra = place.algebras[key]
    may_negate = at > 0 or not lacks_bias(some[0], place)
    for length, line in enumerate(lines(some, algebra), start=1):
        found = reading(*line, algebra, may_negate=may_negate)
        if found is not None:
            yield at + length, (found, algebra)


def _of_length(links: Links, place: Place, axis: int, channels: int) -> bool:
    """Whether the data may have so many channels, and is not stretched to them."""
    dims = dims_of(links[0].data, place)
    return dims is None or not isinstance(dims[axis], int) or dims[axis] == channels


def lacks_bias(link: Link, place: Place) -> bool:
    """Whether an addition may be the bias of the operator in front of it."""
    producer = behind_moves(link.data, place)
    if producer is None or not is_linear(producer):
        return False
    return link.op_type == "Add" and not producer.input(2)


def _maps(links: Links, place: Place) -> Iterator[Found]:
    """Affine maps, and what only looks like one."""
    if len(links) == 1 and not links[0].layer and lacks_bias(links[0], place):
        return  # most additions by far
    for unit in units(_without_bias(links, place)):
        first, last = unit[0], unit[-1].node
        if any(each.source.tensor is None for each in unit) and steps(unit, place.chains) is None:
            continue
        told, layer = evidence(unit)
        norm = _native_in_front(first, place)
        own = _own(unit)
        if norm is None and not own and is_per_channel(unit) and (why := quantised(unit, place)):
            yield _look(unit, place, "quantisation scale", why)
        elif norm is None and (tail := normalised(first.data, place, own)) is not None:
            if is_per_channel(unit):
                yield _look(unit, place, *tail)
        elif norm is None and layer:
            if is_whole(unit, place):
                yield Found(node=last, thing=_affine_norm(unit, place, told, layer))
        elif _on_channels(unit, place):
            remark = (
                norm and f"scales what BatchNorm {norm.label!r} gives, as Caffe writes one layer"
            )
            yield Found(node=last, thing=_affine(unit, place, remark or ""))


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
    if axis is None or not _of_length(unit, place, axis, _channels(unit)):
        return False
    if _beside_channels(unit, place, axis):
        return False
    if is_pair(unit):
        return is_per_channel(unit) or _channels(unit) == 1
    return dims is not None and len(dims) > 1 and not lacks_bias(unit[0], place)


def _beside_channels(links: Links, place: Place, axis: int) -> bool:
    """Whether numbers lie along another axis than the channels of the operator in front."""
    producer, dims = place.producer(links[0].data), dims_of(links[0].data, place)
    second = producer is not None and producer.op_type in _CHANNELS_SECOND
    return second and axis != 1 and dims is not None and len(dims) > 2


def _look(links: Links, place: Place, kind: str, why: str) -> Found:
    return Found(node=links[-1].node, thing=lookalike(links, place, kind, why))


def _decomposed(links: Links, parts: Parts, place: Place) -> BatchNorm:
    told, layer = evidence(links)
    return replace(
        _batchnorm(links, place, Form.DECOMPOSED, layer),
        scale=parts.scale,
        bias=parts.bias,
        mean=parts.mean,
        var=parts.var,
        epsilon=parts.epsilon,
        evidence=(_COMPUTES, *([told] if told else [])),
        remarks=parts.remarks,
    )


def _affine_norm(links: Links, place: Place, told: str, layer: str) -> BatchNorm:
    return replace(
        _batchnorm(links, place, Form.AFFINE, layer),
        steps=steps(links, place.chains) or (),
        evidence=(told,),
    )


_LOST = Parameter(
    value="", certainty=Certainty.LOST, origin=Origin.ABSENT, tensor=None, reason=_WHY_LOST
)


def _batchnorm(links: Links, place: Place, form: Form, layer: str) -> BatchNorm:
    """What is the same of all BatchNorms that arithmetic makes."""
    last, first = links[-1].node, links[0]
    into, obstacle = _fold_target(links, place)
    return BatchNorm(
        name=layer or last.label or last.op_type,
        scope=place.scope,
        form=form,
        channels=_channels(links),
        scale=_LOST,
        bias=_LOST,
        mean=_LOST,
        var=_LOST,
        epsilon=None,
        momentum=None,
        momentum_stated=False,
        training=False,
        after=after(first.data, place),
        before=before(last.outputs[0], place),
        foldable_into=into,
        output=last.outputs[0],
        entered=first.data,
        obstacle=obstacle,
        axis=_axis(links, place),
        op_type="",
        nodes=_nodes(links),
    )


def _fold_target(links: Links, place: Place) -> tuple[str | None, str]:
    """The operator that could take arithmetic in, or why none can."""
    if any(each.source.origin is Origin.OVERRIDABLE for each in links):
        return None, "its parameters may be fed as inputs"
    into, obstacle = fold_target(links[0].data, place)
    if into is not None and channel_axis(links, place) != 1:
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
        axis=_axis(links, place),
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


def _axis(links: Links, place: Place) -> int:
    """The axis of the channels, from the last one where the rank is not known."""
    told = channel_axis(links, place)
    if told is not None:
        return told
    written = written_axis(links)
    return 1 if written is None else written


def _nodes(links: Links) -> tuple[str, ...]:
    return tuple(f"{each.node.op_type} {each.node.label}".rstrip() for each in links)
