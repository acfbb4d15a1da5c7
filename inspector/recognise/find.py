"""Find every BatchNorm of a model, and what could be taken for one."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

from inspector.facts.batchnorm import Affine, BatchNorm, FoldedEvidence, Linear, Lookalike, Norms
from inspector.facts.model import Model, Node, Scope
from inspector.recognise.folded import Traces
from inspector.recognise.lookalikes import disguised
from inspector.recognise.native import NATIVE, is_native, native
from inspector.recognise.operators import ARITHMETIC
from inspector.recognise.place import Place
from inspector.recognise.scopes import places


def find_batchnorms(model: Model) -> Norms:
    """Every BatchNorm of every scope, with its parameters traced to where they lie.

    A function's body is reported once for each call, with that call's arguments.

    Raises
    ------
    inspector.errors.UnreadableError
        The model's functions call each other in a circle.
    """
    with _without_collector():
        return _found(model)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python from looking for cycles among what is being built, all of which is kept.

    It would look at all of it again and again: as much time as the finding takes itself.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _found(model: Model) -> Norms:
    norms: list[BatchNorm] = []
    affines: list[Affine] = []
    lookalikes: list[Lookalike] = []
    folded: list[FoldedEvidence] = []
    linear: list[Linear] = []
    for place in places(model):
        found = []
        for node in place.nodes:
            if node.op_type not in _NORMS:
                continue
            if is_native(node):
                other = disguised(node, place)
                if other is None:
                    found.append(native(node, place))
                else:
                    lookalikes.append(_lookalike(node, place, *other))
            elif node.op_type == _GRAD:
                lookalikes.append(_lookalike(node, place, *_GRADIENT))
        arithmetic = _arithmetic(place)
        computed = [each for each in arithmetic if isinstance(each, BatchNorm)]
        norms += _in_order(found, computed, place) if computed else found
        affines += [each for each in arithmetic if isinstance(each, Affine)]
        lookalikes += [each for each in arithmetic if isinstance(each, Lookalike)]
        traces = Traces(place)
        folded += traces.found()
        linear += traces.linear()
    return Norms(
        batchnorms=tuple(_named_apart(norms)),
        affines=tuple(affines),
        lookalikes=tuple(lookalikes),
        folded=tuple(folded),
        linear=_together(linear),
    )


_GRAD = "BatchNormalizationGrad"
_NORMS = NATIVE | {_GRAD}
_GRADIENT = "gradient of a BatchNorm", "this is a training graph"


def _lookalike(node: Node, place: Place, kind: str, why: str) -> Lookalike:
    return Lookalike(name=node.label, scope=place.scope, kind=kind, why=why)


def _together(found: Iterable[Linear]) -> tuple[Linear, ...]:
    """The counts of all places, one for each kind of operator."""
    total: dict[str, Linear] = {}
    for each in found:
        known = total.get(each.op_type, Linear(op_type=each.op_type, count=0, with_bias=0))
        total[each.op_type] = Linear(
            op_type=each.op_type,
            count=known.count + each.count,
            with_bias=known.with_bias + each.with_bias,
        )
    return tuple(total.values())


def _in_order(
    found: Iterable[BatchNorm], computed: Iterable[BatchNorm], place: Place
) -> list[BatchNorm]:
    """Both in the order of the file."""
    positions = {output: at for at, node in enumerate(place.nodes) for output in node.outputs}
    return sorted((*found, *computed), key=lambda each: positions.get(each.output, 0))


def _arithmetic(place: Place) -> list[BatchNorm | Affine | Lookalike]:
    """What the arithmetic of a place amounts to, where there is any."""
    if not place.operators & ARITHMETIC:
        return []
    from inspector.recognise.arithmetic import found_in

    return list(found_in(place))


def _called(norm: BatchNorm, name: str) -> BatchNorm:
    """The same under another name; `dataclasses.replace` takes three times as long."""
    known = {each: getattr(norm, each) for each in _FIELDS}
    known["name"] = name
    return BatchNorm(**known)


_FIELDS = tuple(each.name for each in fields(BatchNorm))


def _named_apart(found: Sequence[BatchNorm]) -> Iterable[BatchNorm]:
    """Norms under names that are unique within their scopes.

    Those that repeat go by the output, and are numbered where that repeats as well.
    """
    own = [(norm.scope, norm.name) for norm in found]
    times = Counter(own)
    if len(times) == len(own):
        return found
    taken = {key for key, count in times.items() if count == 1}
    tried: dict[tuple[Scope, str], int] = {}
    apart = []
    for norm, (scope, called) in zip(found, own, strict=True):
        if times[scope, called] == 1:
            apart.append(norm)
            continue
        base = name = f"{called} ({norm.output})"
        again = tried.get((scope, base), 1)
        while (scope, name) in taken:
            again += 1
            name = f"{base} #{again}"
        tried[scope, base] = again
        taken.add((scope, name))
        apart.append(_called(norm, name))
    return apart
