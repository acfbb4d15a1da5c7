"""One count of a model's parameters, from which each framework's totals follow.

Keras counts running statistics as non-trainable weights
(https://keras.io/api/layers/normalization_layers/batch_normalization/); PyTorch keeps them as
buffers and counts none (https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inspector.count.evidence import as_named, as_noted, reconciled, roles_noted, roles_read
from inspector.count.merged import ALONE, COUNTED, Layers, is_uniform, stored_again
from inspector.count.remarks import on_doubts, on_framework, on_sharing
from inspector.count.roles import Use, role_of
from inspector.count.uses import Site, stored_tensors
from inspector.count.written import adapted, padding, written
from inspector.facts.batchnorm import BatchNorm, Norms
from inspector.facts.count import (
    Beyond,
    Count,
    CountedTensor,
    KerasTotals,
    OnnxTotals,
    Role,
    TorchTotals,
)
from inspector.facts.model import Model, Scope, Storage, Tensor

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
    judge = _Judge(model, norms, manifest)
    counted = [judge.counted(*each) for each in judge.stored]
    elements = dict.fromkeys(Role, 0)
    float_initializers = merged = 0
    for each in counted:
        size = each.tensor.elements - each.padding
        elements[each.role] += size
        elements[Role.CONSTANT] += each.padding
        for role in each.again:
            elements[role] += size
            merged += size
        if each.tensor.storage is Storage.INITIALIZER and each.tensor.is_float:
            float_initializers += size + each.padding
    learned, statistics = elements[Role.LEARNED], elements[Role.STATISTIC]
    beyond = _beyond(manifest, learned, statistics)
    return Count(
        tensors=tuple(counted),
        learned=learned,
        statistics=statistics,
        constants=elements[Role.CONSTANT],
        unknown=elements[Role.UNKNOWN],
        keras=_keras(manifest, learned + beyond.learned, statistics + beyond.statistics),
        torch=TorchTotals(
            parameters=learned + beyond.learned,
            trainable=learned + beyond.learned - _frozen(manifest, learned + beyond.learned),
            buffers=statistics + beyond.statistics,
            num_batches_tracked=_steps(manifest) or _layers(norms, model, judge.layers),
        ),
        onnx=OnnxTotals(
            tensors=len(counted),
            elements=sum(elements.values()) - merged,
            float_initializer_elements=float_initializers,
        ),
        merged=merged,
        beyond=beyond,
        notes=(
            *judge.notes,
            *on_framework(manifest, beyond),
            *on_sharing(counted, merged),
            *on_doubts(counted),
        ),
    )


class _Judge:
    """Finds the role of each stored tensor of one model.

    `notes` collects contradictions between what is noted of a tensor and what uses it.
    """

    def __init__(self, model: Model, norms: Norms, manifest: Manifest | None) -> None:
        self.stored = list(stored_tensors(model))
        self.notes: list[str] = []
        self._model = model
        self._manifest = manifest
        self._known = {each.name: each for each in manifest.tensors} if manifest else {}
        self._read = roles_read(norms)
        self._noted = roles_noted(model)
        self.layers = Layers(self.stored, model)
        # TorchScript's exporter notes nothing, and keeps the names of the state_dict.
        self._keeps_names = (
            model.producer.startswith("pytorch") and not self._noted and manifest is None
        )
        self._of_keras = (
            manifest.framework == "keras" if manifest else model.producer.startswith("tf2onnx")
        )
        self._copies = stored_again(self.stored, model)

    def counted(
        self, scope: Scope, name: str, tensor: Tensor, sites: Sequence[Site]
    ) -> CountedTensor:
        """A tensor with its role, and how often it counts."""
        use = sites[0].use if len(sites) == 1 else role_of(tuple(each.use for each in sites))
        if tensor.key in self._read and use.role in (Role.UNKNOWN, Role.CONSTANT):
            use = self._read[tensor.key]
        source = self._known.get(name) if self._known and not scope else None
        synthetic, doubt = False, ""
        copy_of = "" if source is not None else self._copies.get(tensor.key, "")
        if source is not None:
            use, synthetic = reconciled(source, use, self.notes), source.synthetic
        elif name in self._noted and not scope:
            use = as_noted(name, self._noted[name], use, self.notes)
        elif copy_of:
            use = Use(role=Role.CONSTANT, why=f"tied weights stored again: those of {copy_of!r}")
        elif sites:
            use, synthetic, doubt = self._by_evidence(
                use, name, tensor, sites[0], inner=bool(scope)
            )
        shared = ALONE
        if len(sites) > 1 and not synthetic and use.role in COUNTED:
            buffer = not scope and self._noted.get(name) is Role.STATISTIC
            shared = self.layers.sharing(tensor, name, sites, buffer=buffer)
        return CountedTensor(
            tensor=tensor,
            scope=scope,
            value=name,
            role=use.role,
            why=use.why,
            synthetic=synthetic,
            doubt=doubt,
            # Our own export merges nothing.
            again=() if source is not None else shared.again,
            layers=shared.layers,
            copy_of=copy_of if use.role is Role.CONSTANT else "",
            padding=self._padding(tensor, sites, use) if self._of_keras else 0,
        )

    def _padding(self, tensor: Tensor, sites: Sequence[Site], use: Use) -> int:
        if use.role is not Role.LEARNED or not sites:
            return 0
        return padding(tensor, sites[0], self._model)

    def _by_evidence(
        self, use: Use, name: str, tensor: Tensor, site: Site, *, inner: bool
    ) -> tuple[Use, bool, str]:
        """What names and values add to the use of a tensor that nobody has noted.

        Gives the use, whether an exporter wrote the tensor, and why it may have.
        """
        if use.role is Role.UNKNOWN:
            doubt = adapted(tensor, name, site) if self._manifest is None else ""
            return as_named(self._model, tensor, use) or use, False, doubt
        if self._keeps_names and not inner:
            use = as_named(self._model, tensor, use) or use
        if use.role is not Role.LEARNED:
            return use, False, ""
        synthetic, doubt = written(tensor, name, site, self._model)
        if self._manifest is not None:
            # What a framework has, its manifest lists; Keras' exporter splits some tensors.
            doubt = ""
            synthetic = synthetic or (self._manifest.framework == "torch" and not inner)
        return (_WRITTEN if synthetic else use), synthetic, doubt


_WRITTEN = Use(role=Role.CONSTANT, why="written by the exporter: no framework has it")


def _keras(manifest: Manifest | None, learned: int, statistics: int) -> KerasTotals:
    """Keras' totals: what is frozen is not trainable there, and only a framework knows it."""
    totals = manifest.totals if manifest is not None and manifest.framework == "keras" else None
    whole = learned + statistics
    if totals is None or totals.trainable + totals.other != whole:
        frozen = _frozen(manifest, learned) if totals is None else 0
        return KerasTotals(
            total=whole, trainable=learned - frozen, non_trainable=statistics + frozen
        )
    return KerasTotals(total=whole, trainable=totals.trainable, non_trainable=totals.other)


def _frozen(manifest: Manifest | None, learned: int) -> int:
    """Learned elements that are not trained, which frameworks alone know."""
    if manifest is None:
        return 0
    if manifest.framework == "torch":
        return manifest.totals.frozen
    return max(learned - manifest.totals.trainable, 0)


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


def _layers(norms: Norms, model: Model, layers: Layers) -> int:
    """Layers with running statistics: one that is called twice is two nodes on the same tensors.

    So are two layers whose statistics an exporter merged; names tell these apart.
    """
    calls: dict[tuple[int, int], list[BatchNorm]] = {}
    for norm in norms.batchnorms:
        mean, var = norm.mean.tensor, norm.var.tensor
        if mean is not None and var is not None:
            calls.setdefault((mean.key, var.key), []).append(norm)
    found = len(calls)
    for some in calls.values():
        mean = some[0].mean.tensor
        if len(some) > 1 and mean is not None and is_uniform(mean, model):
            nodes = [model.graph.wiring.producers.get(e.output) for e in some if not e.scope]
            told = [layers.layer(e, some[0].mean.value) for e in nodes if e is not None]
            found += max(len({each for each in told if each is not None}), 1) - 1
    return found
