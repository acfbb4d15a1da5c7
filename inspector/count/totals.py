"""One count of a model's parameters, from which each framework's totals follow.

Keras counts running statistics as non-trainable weights
(https://keras.io/api/layers/normalization_layers/batch_normalization/); PyTorch keeps them as
buffers and counts none (https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspector.count.roles import Use, role_of
from inspector.count.uses import stored_tensors
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
    notes: list[str] = []
    counted = []
    elements = dict.fromkeys(Role, 0)
    float_initializers = 0
    for scope, name, tensor, uses in stored_tensors(model):
        use = role_of(uses)
        if tensor.key in read and use.role in (Role.UNKNOWN, Role.CONSTANT):
            use = read[tensor.key]
        source = known.get(name) if known and not scope else None
        if source is not None:
            use = _reconciled(source, use, notes)
        size = tensor.elements
        elements[use.role] += size
        if tensor.storage is Storage.INITIALIZER and tensor.is_float:
            float_initializers += size
        counted.append(
            CountedTensor(
                tensor=tensor,
                scope=scope,
                role=use.role,
                why=use.why,
                synthetic=source is not None and source.synthetic,
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
            elements=sum(elements.values()),
            float_initializer_elements=float_initializers,
        ),
        notes=tuple(notes),
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
