"""Pairs: a network, a kind of change, what goes along with it, and files of both sides."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from . import (  # noqa: F401  # importing them lists their kinds
    harmful_data,
    harmful_norms,
    harmful_ops,
    harmful_weights,
    harmless_graph,
    harmless_norms,
    harmless_ops,
)
from .build import Base
from .edit import Graph
from .kinds import KINDS, Change, Fault, Kind
from .truth import Side

COMPANIONS = (
    "renamed",
    "reordered",
    "nhwc_input",
    "gemm_as_matmul",
    "constants_as_nodes",
    "opset_up",
    "bn_folded",
    "bn_as_mul_add",
    "bn_as_arithmetic",
    "identities",
    "relu_as_clip",
    "fixed_batch",
    "flatten_as_reshape",
    "conv_bias_as_add",
    "momentum",
)
"""Harmless changes that the other side of a harmful pair may have besides."""

ALONE = 0.6
"""The share of harmful pairs without one."""

IN_OTHER_FORM = ("bn_folded", "bn_as_mul_add", "bn_as_arithmetic")
"""Companions after which a BatchNorm's faults show in another form's parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A pair before it is made; its name says it all."""

    net: str
    kind: str
    turn: int

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.net}.{self.turn}"

    @classmethod
    def of(cls, name: str) -> Plan:
        kind, net, turn = name.rsplit(".", 2)
        return cls(net=net, kind=kind, turn=int(turn))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models with what is known of them; `turned` has the changed one on the left."""

    plan: Plan
    kind: Kind
    companion: str
    plain: Side
    changed: Side
    faults: tuple[Fault, ...]
    bounds: tuple[int, ...]
    turned: bool
    parts: tuple[Side, ...] = ()

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return (self.changed, self.plain) if self.turned else (self.plain, self.changed)


def plans(
    nets: Sequence[str],
    kinds: Sequence[str],
    rng: np.random.Generator,
    turns: int,
    fits: Callable[[Plan], bool],
) -> Iterator[Plan]:
    """Kinds in turn, each on its next network that it fits: however few are taken, all are there.

    That includes the kinds that a single network can take.
    """
    queues = {}
    for kind in kinds:
        order = [(turn, at) for turn in range(turns) for at in rng.permutation(len(nets))]
        all_of_it = (Plan(net=nets[at], kind=kind, turn=turn) for turn, at in order)
        queues[kind] = filter(fits, all_of_it)
    while queues:
        for kind in list(queues):
            plan = next(queues[kind], None)
            if plan is None:
                del queues[kind]
            else:
                yield plan


def make(plan: Plan, base: Base, seed: int) -> Pair | None:
    """The pair of a plan; None where its kind cannot be applied to its network."""
    kind = KINDS[plan.kind]
    rng = np.random.default_rng([seed, zlib.crc32(plan.name.encode())])
    try:
        change = kind.make(Graph(base.model, base), rng)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None  # the change is none that this network can take
    if change is None:
        return None
    companion, other = _companion(kind, base, rng)
    plain = Side(
        model=other.model, inputs=other.inputs, outputs=other.outputs, external=other.external
    )
    changed = Side(
        model=change.model, inputs=change.inputs, outputs=change.outputs, external=change.external
    )
    return Pair(
        plan=plan,
        kind=kind,
        companion=companion,
        plain=plain,
        changed=changed,
        faults=tuple(_seen(each, base, companion) for each in change.faults),
        bounds=base.bounds,
        turned=bool(rng.random() < 0.5),
        parts=tuple(replace(changed, model=each) for each in change.parts),
    )


def _companion(kind: Kind, base: Base, rng: np.random.Generator) -> tuple[str, Change]:
    """The other side: the network itself, or a harmless change of it."""
    plain = Change(model=base.model)
    if not kind.harmful or rng.random() < ALONE:
        return "", plain
    name = str(rng.choice(COMPANIONS))
    try:
        return name, KINDS[name].make(Graph(base.model), rng) or plain
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return "", plain


def _seen(fault: Fault, base: Base, companion: str) -> Fault:
    """A fault as it can be seen where the other side writes BatchNorms in another form."""
    if companion not in IN_OTHER_FORM:
        return fault
    g = Graph(base.model)
    norms = [n for n in g.nodes("BatchNormalization") if fault.where & g.names(n)]
    layers = [n for n in g.nodes("Conv", "Gemm", "ConvTranspose") if fault.where & g.names(n)]
    near = [g.producer(each.input[0]) for each in norms]
    near += [e for n in layers for e in g.consumers(n.output[0]) if "Norm" in e.op_type]
    more = g.names(*near)
    return Fault(
        causes=fault.causes | {"parameter", "folding"} if near else fault.causes,
        where=fault.where | more,
        first=fault.first | more,
        later=fault.later,
    )


def save(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """Write both sides as `left.onnx` and `right.onnx`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "left.onnx", folder / "right.onnx"
    for side, path in zip(pair.sides, paths, strict=True):
        if not side.external:
            path.write_bytes(side.model.SerializeToString())
            continue
        copy = onnx.ModelProto()
        copy.CopyFrom(side.model)
        data = f"{path.name}.data"
        (folder / data).unlink(missing_ok=True)  # onnx appends to what is there
        onnx.save(copy, path, save_as_external_data=True, location=data, size_threshold=0)
    return paths


def names(kinds: Mapping[str, Kind], harmful: bool) -> list[str]:
    return [each.name for each in kinds.values() if each.harmful is harmful]
