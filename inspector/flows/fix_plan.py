"""Which changes would answer which findings, and why some findings have none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from inspector.facts.batchnorm import BatchNorm, Form, Origin
from inspector.facts.finding import Finding
from inspector.facts.fix import (
    Change,
    FixOptions,
    Fold,
    NewTensor,
    Refused,
    SetInference,
    SetNumber,
    Unlist,
    WriteNative,
)
from inspector.facts.model import FLOAT_DTYPES, Function, Scope, Storage
from inspector.flows.fix_around import NoFixError, axis_of, held, in_function, links_of, operator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inspector.check.sites import Sites
    from inspector.check.subject import Subject
    from inspector.recognise.place import Place

GROUPS = (("BN003", "BN032", "BN045"), ("BN001", "BN043", "BN044"), ("BN033",))
"""What is fixed together and verified together, in this order.

The second group changes what a model computes. Folding comes last: what it folds has to be right.
"""

CHANGING = frozenset(GROUPS[1])

_NUMBERS = {"BN043": "epsilon", "BN044": "epsilon", "BN045": "momentum"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planned:
    """One change, the finding that it answers, and what it does in words."""

    finding: Finding
    change: Change
    words: str


@dataclass(slots=True, kw_only=True)
class Plan:
    """All changes that can be made to a model as it is, and what cannot be fixed."""

    planned: list[Planned] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def wanted(finding: Finding, options: FixOptions) -> bool:
    """Whether a finding is one that a fix is asked for."""
    match finding.rule:
        case "BN001" | "BN003" | "BN032":
            return finding.fixable
        case "BN033":
            return options.fold
        case "BN043" | "BN044":
            return options.epsilon is not None
        case "BN045":
            return options.momentum is not None
        case _:
            return False


def plan(subject: Subject, findings: Sequence[Finding], options: FixOptions) -> Plan:
    """What can be changed at once to answer `findings`.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    made, planner = Plan(), _Planner(subject, options)
    for finding in findings:
        if not wanted(finding, options):
            continue
        for planned in planner.of(finding):
            if isinstance(planned, Refused):
                made.refused.append(planned)
            else:
                made.planned.append(planned)
    return made


def native_changes(subject: Subject, norms: Sequence[BatchNorm]) -> tuple[WriteNative, ...]:
    """What writes BatchNorms as nodes in the place of arithmetic, those of `norms` that can be.

    Raises
    ------
    inspector.errors.UnreadableError
        A tensor's bytes are damaged.
    """
    planner, made = _Planner(subject, FixOptions()), []
    for norm in norms:
        try:
            made.append(planner.native(norm)[0])
        except NoFixError:
            continue  # it stays as it is, and is compared as arithmetic
    return tuple(made)


class _Planner:
    def __init__(self, subject: Subject, options: FixOptions) -> None:
        self._subject = subject
        self._options = options

    @cached_property
    def _places(self) -> dict[Scope, Place]:
        from inspector.recognise.scopes import places

        return {each.scope: each for each in places(self._subject.inferred)}

    @cached_property
    def _sites(self) -> Sites:
        from inspector.check.sites import Sites

        return Sites(self._subject.model)

    def of(self, finding: Finding) -> Iterator[Planned | Refused]:
        """The changes that answer a finding, or why there are none."""
        make: Callable[[BatchNorm], tuple[Change, str]]
        match finding.rule:
            case "BN001":
                norms, make = self._named(finding), self._inference
            case "BN003":
                norms, make = self._named(finding), self._unlisted
            case "BN032":
                norms, make = self._named(finding), self.native
            case "BN033":
                norms, make = self._foldable(finding), self._folded
            case _:
                yield from self._numbers(finding)
                return
        for norm in norms:
            try:
                change, words = make(norm)
            except NoFixError as error:
                yield Refused(finding=finding, why=f"{norm.name}: {error}")
            else:
                yield Planned(finding=finding, change=change, words=words)

    def _named(self, finding: Finding) -> list[BatchNorm]:
        norms = self._subject.norms.batchnorms
        return [e for e in norms if (e.scope, e.name) == (finding.scope, finding.layer)]

    def _foldable(self, finding: Finding) -> list[BatchNorm]:
        return [each for each in self._told(finding) if each.foldable_into is not None]

    def _told(self, finding: Finding) -> list[BatchNorm]:
        """The layers that a finding is about: those of them that are ignored are left alone."""
        names = finding.layers or (finding.layer,)
        return [each for each in self._subject.norms.batchnorms if each.name in names]

    def _inference(self, norm: BatchNorm) -> tuple[Change, str]:
        if self._unfixable_elsewhere(norm):
            raise NoFixError("another call of the function that it stands in cannot be fixed")
        change = SetInference(scope=norm.scope, output=norm.output)
        return change, f"{norm.name} set to inference"

    def _unfixable_elsewhere(self, norm: BatchNorm) -> bool:
        """Whether the same node, in another call of its function, has to go on training."""
        from inspector.check.modes import why_not_inference

        own = self._node_of(norm)
        if own is None:
            return False
        return any(
            layer.norm.training
            and self._node_of(layer.norm) == own
            and why_not_inference(layer, self._sites)
            for layer in self._subject.layers()
        )

    def _node_of(self, norm: BatchNorm) -> tuple[object, ...] | None:
        """What tells a function's node, whichever call it is seen in; None outside of functions."""
        site, key = self._sites.at(()), tuple[object, ...]()
        for at, part in enumerate(norm.scope):
            if site is None or part not in site.inner:
                return None
            body = site.inner[part][1]
            key = (id(body),) if isinstance(body, Function) else (*key, part)
            site = self._sites.at(norm.scope[: at + 1])
        return (*key, norm.output) if any(isinstance(each, int) for each in key) else None

    def _unlisted(self, norm: BatchNorm) -> tuple[Change, str]:
        graph = self._subject.model.graph
        inputs = {value.name for value in graph.inputs}
        names = []
        for _, each in norm.parameters:
            tensor = each.stored or each.tensor
            if each.origin is Origin.OVERRIDABLE and tensor is not None:
                names.append(tensor.name)
        names = list(dict.fromkeys(names))
        if not names or any(e not in inputs or e not in graph.initializers for e in names):
            raise NoFixError("its initializers are not found among the graph's inputs")
        words = f"the parameters of {norm.name} taken off the graph's inputs"
        return Unlist(names=tuple(names)), words

    def _numbers(self, finding: Finding) -> Iterator[Planned | Refused]:
        """Another epsilon or momentum for all layers that a finding is about."""
        from inspector.check.siblings import by_value, told_epsilon

        name = _NUMBERS[finding.rule]
        epsilon = name == "epsilon"
        value = self._options.epsilon if epsilon else self._options.momentum
        assert value is not None  # else the fix is not wanted
        own = finding.evidence.get(name)
        norms = self._told(finding)
        groups = by_value(norms, told_epsilon if epsilon else lambda norm: norm.momentum)
        for number, some in groups.items():
            if str(number) != str(own):  # NaN is itself here
                continue
            for norm in some:
                if norm.op_type != "BatchNormalization":
                    why = f"{norm.name}: it is no BatchNormalization node"
                    yield Refused(finding=finding, why=why)
                elif np.float32(number) != np.float32(value):
                    change = SetNumber(scope=norm.scope, output=norm.output, name=name, value=value)
                    words = f"{name} of {norm.name} set from {number:.4g} to {value:.4g}"
                    yield Planned(finding=finding, change=change, words=words)

    def native(self, norm: BatchNorm) -> tuple[WriteNative, str]:
        """Arithmetic as one node."""
        place = self._places[norm.scope]
        if self._sites.at(norm.scope) is None or in_function(norm, self._sites):
            raise NoFixError("it stands in a function, whose body all of its calls share")
        if place.opset < 7:
            raise NoFixError(f"opset {place.opset} has another BatchNormalization")
        if not norm.epsilon:
            raise NoFixError("no epsilon is told: it may be in the variance already")
        links, constants = links_of(norm, place)
        axis, rank = axis_of(norm, links[0][1], place)
        parameters = self._parameters(norm, place)
        dtype = parameters[0].values.dtype.name
        for value in constants:
            if place.source(value).origin is Origin.OVERRIDABLE:
                raise NoFixError("its numbers may be fed as inputs")
            tensor = place.binding(value).tensor
            if tensor is None or tensor.dtype != dtype:
                raise NoFixError("its numbers are of several types")
            if len(tensor.dims) > rank:
                raise NoFixError("its numbers have more axes than the data")
        change = WriteNative(
            scope=norm.scope,
            output=norm.output,
            name=norm.name,
            links=links,
            axis=axis,
            rank=rank,
            epsilon=norm.epsilon,
            parameters=parameters,
        )
        return change, f"{norm.name} written as a node in the place of {len(links)} operators"

    def _parameters(self, norm: BatchNorm, place: Place) -> tuple[NewTensor, ...]:
        arrays = self._subject.arrays(norm)
        four = (arrays.scale, arrays.bias, arrays.mean, arrays.var)
        found = []
        for (part, each), values in zip(norm.parameters, four, strict=True):
            if values is None or values.dtype.name not in FLOAT_DTYPES:
                raise NoFixError(f"its {part} is not known")
            if values.shape != (norm.channels,):
                raise NoFixError(f"its {part} has another length")
            own = held(each.tensor, place)
            found.append(NewTensor(name=f"{norm.name}.{part}", values=values, held=own))
        if len({each.values.dtype for each in found}) > 1:
            raise NoFixError("its parameters are of several types")
        return tuple(found)

    def _folded(self, norm: BatchNorm) -> tuple[Change, str]:
        """A BatchNormalization folded into what stands in front of it."""
        from inspector.recognise.linear import channels_of
        from inspector.write.fix_fold import folded

        if norm.form is not Form.NATIVE or norm.op_type != "BatchNormalization":
            raise NoFixError("it is no BatchNormalization node")
        place = self._places[norm.scope]
        arrays = self._subject.arrays(norm)
        into, node = operator(norm, place)
        weights = self._stored(node.input(1), place)
        bias = self._stored(node.input(2), place) if node.input(2) else None
        slope, intercept = arrays.slope, arrays.intercept
        if slope is None or intercept is None:
            raise NoFixError("its parameters are not known")
        if channels_of(node, weights.shape) != slope.size:
            raise NoFixError(f"{node.op_type} {node.label!r} gives another number of channels")
        made, offset = folded(node, weights, bias, slope, intercept)
        if not (np.isfinite(made).all() and np.isfinite(offset).all()):
            raise NoFixError("folded, its numbers would not be finite")
        change = Fold(scope=norm.scope, output=norm.output, into=into, weights=made, bias=offset)
        return change, f"{norm.name} folded into {node.op_type} {node.label}"

    def _stored(self, value: str, place: Place) -> NDArray[Any]:
        source = place.source(value)
        tensor = source.tensor
        if tensor is None or source.recipe is not None or not tensor.is_float:
            raise NoFixError(f"{value!r} is computed from other constants")
        if tensor.storage not in (Storage.INITIALIZER, Storage.ATTRIBUTE):
            raise NoFixError(f"{value!r} is a {tensor.storage}")
        values = self._subject.model.values(tensor)
        if values is None:
            raise NoFixError(f"the data file of {value!r} is missing")
        return values
