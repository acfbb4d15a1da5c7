"""One count of a model's parameters, from which each framework's totals follow.

Keras counts running statistics as non-trainable weights
(https://keras.io/api/layers/normalization_layers/batch_normalization/); PyTorch keeps them as
buffers and counts none (https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inspector.count.merged import ALONE, sharing
from inspector.count.roles import Use, role_of
from inspector.count.uses import stored_tensors
from inspector.count.written import written
from inspector.facts.batchnorm import Form, Norms
from inspector.facts.count import (
    Count,
    CountedTensor,
    KerasTotals,
    OnnxTotals,
    Role,
    TorchTotals,
)
from inspector.facts.model import Model, Storage

if TYPE_CHECKING:
    from inspector.facts.manifest import Manifest, SourceTensor


def count_parameters(model: Model, norms: Norms, manifest: Manifest | None = None) -> Count:
    """Count every stored tensor once, by its role.

    Parameters
    ----------
    norms
        The model's BatchNorms: PyTorch keeps one more number for each layer of them.
    manifest
        What the export knows; its roles come first and are checked against the roles by use.
    """
    known = {each.name: each for each in manifest.tensors} if manifest else {}
    read = _roles_read(norms)
    noted = _roles_noted(model)
    notes: list[str] = []
    counted = []
    elements = dict.fromkeys(Role, 0)
    merged = float_initializers = 0
    for scope, name, tensor, sites in stored_tensors(model):
        use = sites[0].use if len(sites) == 1 else role_of(tuple(each.use for each in sites))
        if tensor.key in read and use.role in (Role.UNKNOWN, Role.CONSTANT):
            use = read[tensor.key]
        if name in noted and not scope:
            use = _as_noted(name, noted[name], use, notes)
        elif use.role is Role.UNKNOWN and (named := _as_named(model, name)) is not None:
            use = named
        source = known.get(name) if known and not scope else None
        shared, synthetic, doubt = ALONE, False, ""
        if source is not None:
            use = _reconciled(source, use, notes)
            synthetic = source.synthetic
        elif manifest is None and use.role is Role.LEARNED and name not in noted:
            synthetic, doubt = written(tensor, name, sites[0], model)
            if synthetic:
                use = Use(role=Role.CONSTANT, why="written by the exporter for what is absent")
        if len(sites) > 1 and not synthetic and use.role in (Role.LEARNED, Role.STATISTIC):
            shared = sharing(tensor, sites, model)
            if source is not None:
                shared = replace(shared, again=())  # our own export merges nothing
        size = tensor.elements
        elements[use.role] += size
        for role in shared.again:
            elements[role] += size
            merged += size
        if tensor.storage is Storage.INITIALIZER and tensor.is_float:
            float_initializers += size
        counted.append(
            CountedTensor(
                tensor=tensor,
                scope=scope,
                value=name,
                role=use.role,
                why=use.why,
                synthetic=synthetic,
                doubt=doubt,
                again=shared.again,
                layers=shared.layers,
            )
        )
    learned, statistics = elements[Role.LEARNED], elements[Role.STATISTIC]
    if manifest:
        notes.extend(_against_framework(manifest, learned, statistics))
    return Count(
        tensors=tuple(counted),
        learned=learned,
        statistics=statistics,
        constants=elements[Role.CONSTANT],
        unknown=elements[Role.UNKNOWN],
        keras=KerasTotals(total=learned + statistics, trainable=learned, non_trainable=statistics),
        torch=TorchTotals(
            parameters=learned, buffers=statistics, num_batches_tracked=_layers(norms)
        ),
        onnx=OnnxTotals(
            tensors=len(counted),
            elements=sum(elements.values()) - merged,
            float_initializer_elements=float_initializers,
        ),
        merged=merged,
        notes=(*notes, *_on_sharing(counted, merged), *_on_doubts(counted)),
    )


def _roles_read(norms: Norms) -> dict[int, Use]:
    """Roles of the tensors that are a BatchNorm's by what the arithmetic on them computes."""
    found: dict[int, Use] = {}
    for norm in norms.batchnorms:
        for step in norm.steps:
            why = f"merged into slope and intercept of the BatchNorm {norm.name!r}"
            found.setdefault(step.tensor.key, Use(role=Role.UNKNOWN, why=why))
        if norm.form is Form.DECOMPOSED:
            for name, parameter in norm.parameters:
                tensor = parameter.stored or parameter.tensor
                if tensor is not None:
                    role = Role.LEARNED if name in ("scale", "B") else Role.STATISTIC
                    use = Use(role=role, why=f"{name} of the BatchNorm {norm.name!r}")
                    # What is learned anywhere is learned.
                    if role is Role.LEARNED or tensor.key not in found:
                        found[tensor.key] = use
    return found


def _roles_noted(model: Model) -> dict[str, Role]:
    """Roles of initializers by the notes of torch's exporter: a buffer is no parameter."""
    if not model.producer.startswith("pytorch"):
        return {}
    kinds = {"PARAMETER": Role.LEARNED, "BUFFER": Role.STATISTIC}
    return {
        name: kinds[value.noted]
        for name, value in model.graph.values.items()
        if value.noted in kinds and name in model.graph.initializers
    }


def _as_noted(name: str, role: Role, use: Use, notes: list[str]) -> Use:
    """The role that torch's exporter notes, with a note of ours where the graph contradicts it."""
    if use.role is role:
        return use
    if use.role in (Role.LEARNED, Role.STATISTIC):
        notes.append(
            f"torch's exporter notes {name!r} as {role}, but it is {use.role} by its use "
            f"({use.why})"
        )
    kind = "parameter" if role is Role.LEARNED else "buffer"
    return Use(role=role, why=f"a {kind} of the module, as torch's exporter notes")


_STATE = re.compile(r"(?:.*\.)?(?:\w+_)?(?:weight|bias)(?:_\w+)?$")
"""Names of weights in a state_dict: ``norm.weight``, ``in_proj_bias``, ``weight_ih_l0``."""


def _as_named(model: Model, name: str) -> Use | None:
    """The role of a tensor that its use leaves open, by the name that PyTorch gave it.

    TorchScript's exporter notes nothing, and keeps the names of the state_dict: what is called a
    weight or a bias there is a parameter, anything else may be a buffer as well.
    """
    if not model.producer.startswith("pytorch") or _STATE.fullmatch(name) is None:
        return None
    return Use(role=Role.LEARNED, why=f"called {name.rpartition('.')[2]!r} in the state_dict")


def _on_sharing(counted: Sequence[CountedTensor], merged: int) -> Iterator[str]:
    """What to say of tensors with several uses."""
    tied = [each for each in counted if each.layers > 1]
    if tied:
        yield (
            f"{len(tied)} {_tensors(tied)} shared by several operators and counted once: "
            f"{_named(tied)}"
        )
    several = [each for each in counted if each.again]
    if several:
        yield (
            f"the exporter merged equal tensors: {len(several)} {_tensors(several)} stored for "
            f"{sum(1 + len(each.again) for each in several)} of the framework, so {merged:,} "
            f"elements are counted that the file does not store: {_named(several)}"
        )


def _on_doubts(counted: Sequence[CountedTensor]) -> Iterator[str]:
    """What to say of tensors that may be no parameters of the framework."""
    doubtful = [each for each in counted if each.doubt]
    if doubtful:
        size = sum(each.tensor.elements for each in doubtful)
        yield (
            f"{size:,} of the learned elements are in doubt: {len(doubtful)} {_tensors(doubtful)} "
            "all ones or zeros under a name that tells nothing, and may stand for what a layer "
            f"does not have: {_named(doubtful)}"
        )


def _tensors(some: Sequence[CountedTensor]) -> str:
    return "tensor is" if len(some) == 1 else "tensors are"


_MOST_NAMED = 6


def _named(some: Sequence[CountedTensor]) -> str:
    names = [repr(each.value or each.tensor.name) for each in some[:_MOST_NAMED]]
    return ", ".join(names) + (f" and {len(some) - len(names)} more" if some[_MOST_NAMED:] else "")


def _reconciled(source: SourceTensor, use: Use, notes: list[str]) -> Use:
    """The manifest's role, with a note where the graph contradicts it."""
    role = Role.CONSTANT if source.synthetic else source.role
    definite = use.role in (Role.LEARNED, Role.STATISTIC)
    if definite and use.role is not role and not source.synthetic:
        notes.append(
            f"the export manifest calls {source.name!r} {role}, "
            f"but it is {use.role} by its use ({use.why})"
        )
    why = "written by the export; the framework has no such tensor" if source.synthetic else ""
    return Use(role=role, why=why or f"{source.source} in the framework")


def _against_framework(manifest: Manifest, learned: int, statistics: int) -> list[str]:
    """What the framework counted itself, where the file does not add up to it."""
    framework = manifest.totals.trainable + manifest.totals.other
    if framework == learned + statistics:
        return []
    return [
        f"{manifest.framework} counted {framework:,} when this was exported; "
        f"the file holds {learned + statistics:,}"
    ]


def _layers(norms: Norms) -> int:
    """Layers with running statistics: one layer called twice is two nodes on the same tensors."""
    stored = [(n.mean.tensor, n.var.tensor) for n in norms.batchnorms]
    return len({(m.key, v.key) for m, v in stored if m is not None and v is not None})
