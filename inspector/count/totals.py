"""One count of a model's parameters, from which each framework's totals follow.

Keras counts running statistics as non-trainable weights
(https://keras.io/api/layers/normalization_layers/batch_normalization/); PyTorch keeps them as
buffers and counts none (https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from inspector.count.evidence import as_named, as_noted, reconciled, roles_noted, roles_read
from inspector.count.merged import ALONE, COUNTED, Layers
from inspector.count.owners import told_layer
from inspector.count.remarks import on_doubts, on_framework, on_sharing
from inspector.count.roles import Use, role_of
from inspector.count.uses import stored_tensors
from inspector.count.written import adapted, written
from inspector.facts.batchnorm import Norms
from inspector.facts.count import (
    Beyond,
    Count,
    CountedTensor,
    KerasTotals,
    OnnxTotals,
    Role,
    TorchTotals,
)
from inspector.facts.model import Model, Storage

if TYPE_CHECKING:
    from inspector.facts.manifest import Manifest


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
    read = roles_read(norms)
    noted = roles_noted(model)
    notes: list[str] = []
    counted = []
    elements = dict.fromkeys(Role, 0)
    float_initializers = 0
    stored = list(stored_tensors(model))
    layers = Layers(stored, model)
    for scope, name, tensor, sites in stored:
        use = sites[0].use if len(sites) == 1 else role_of(tuple(each.use for each in sites))
        if tensor.key in read and use.role in (Role.UNKNOWN, Role.CONSTANT):
            use = read[tensor.key]
        source, synthetic, doubt = known.get(name) if known and not scope else None, False, ""
        if source is not None:
            use, synthetic = reconciled(source, use, notes), source.synthetic
        elif name in noted and not scope:
            use = as_noted(name, noted[name], use, notes)
        elif use.role is Role.UNKNOWN:
            use = as_named(model, name) or use
            doubt = adapted(tensor, name, sites[0]) if sites and manifest is None else ""
        elif use.role is Role.LEARNED:
            synthetic, doubt = written(tensor, name, sites[0], model)
            if not synthetic and manifest is not None:
                doubt = ""  # what a framework has, its manifest lists
                synthetic = manifest.framework == "torch" and not scope
            if synthetic:
                use = Use(role=Role.CONSTANT, why="written by the exporter: no framework has it")
        shared = ALONE
        if len(sites) > 1 and not synthetic and use.role in COUNTED:
            shared = layers.sharing(tensor, name, sites)
            if source is not None:
                shared = replace(shared, again=())  # our own export merges nothing
        size = tensor.elements
        for role in (use.role, *shared.again):
            elements[role] += size
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
    beyond = _beyond(manifest, learned, statistics)
    merged = sum(len(each.again) * each.tensor.elements for each in counted)
    return Count(
        tensors=tuple(counted),
        learned=learned,
        statistics=statistics,
        constants=elements[Role.CONSTANT],
        unknown=elements[Role.UNKNOWN],
        keras=_keras(manifest, learned + beyond.learned, statistics + beyond.statistics),
        torch=TorchTotals(
            parameters=learned + beyond.learned,
            buffers=statistics + beyond.statistics,
            num_batches_tracked=_steps(manifest) or _layers(norms, model),
        ),
        onnx=OnnxTotals(
            tensors=len(counted),
            elements=sum(elements.values()) - merged,
            float_initializer_elements=float_initializers,
        ),
        merged=merged,
        beyond=beyond,
        notes=(
            *notes,
            *on_framework(manifest, beyond),
            *on_sharing(counted, merged),
            *on_doubts(counted),
        ),
    )


def _keras(manifest: Manifest | None, learned: int, statistics: int) -> KerasTotals:
    """Keras' totals; only Keras itself knows which layers are frozen."""
    totals = manifest.totals if manifest is not None and manifest.framework == "keras" else None
    whole = learned + statistics
    if totals is None or totals.trainable + totals.other != whole:
        return KerasTotals(total=whole, trainable=learned, non_trainable=statistics)
    return KerasTotals(total=whole, trainable=totals.trainable, non_trainable=totals.other)


def _beyond(manifest: Manifest | None, learned: int, statistics: int) -> Beyond:
    """What the framework counted and the file does not hold, or the other way round."""
    if manifest is None:
        return Beyond(learned=0, statistics=0)
    totals = manifest.totals
    missing = totals.trainable + totals.other - learned - statistics
    if manifest.framework == "torch":
        return Beyond(learned=totals.trainable - learned, statistics=totals.other - statistics)
    # Keras counts frozen weights with the others that are not trained: what is missing is on the
    # side that does not add up by itself.
    in_statistics = totals.trainable == learned and totals.other != statistics
    return Beyond(
        learned=0 if in_statistics else missing, statistics=missing if in_statistics else 0
    )


def _steps(manifest: Manifest | None) -> int:
    """Elements of num_batches_tracked, which the manifest lists among what is not exported."""
    listed = manifest.not_exported if manifest is not None else ()
    return sum(e.elements for e in listed if e.source.rpartition(".")[2] == "num_batches_tracked")


def _layers(norms: Norms, model: Model) -> int:
    """Layers with running statistics: one that is called twice is two nodes."""
    found = set()
    for norm in norms.batchnorms:
        mean, var = norm.mean.tensor, norm.var.tensor
        if mean is not None and var is not None:
            node = None if norm.scope else model.graph.wiring.producers.get(norm.output)
            told = told_layer(node) if node is not None else None
            found.add(told or (mean.key, var.key))
    return len(found)
