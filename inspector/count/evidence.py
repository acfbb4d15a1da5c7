"""What tells a tensor's role beside its use: recognition, exporters' notes, names, manifests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inspector.count.merged import is_named
from inspector.count.roles import Use
from inspector.facts.batchnorm import Form, Norms
from inspector.facts.count import Role
from inspector.facts.model import Model, Storage, Tensor

if TYPE_CHECKING:
    from inspector.facts.manifest import SourceTensor


def roles_read(norms: Norms) -> dict[int, Use]:
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
    for other in norms.lookalikes:
        for tensor in other.tensors:
            why = f"scale or shift of what is the tail of {other.kind}"
            found.setdefault(tensor.key, Use(role=Role.LEARNED, why=why))
    return found


def roles_noted(model: Model) -> dict[str, Role]:
    """Roles of initializers by the notes of torch's exporter: a buffer is no parameter."""
    if not model.producer.startswith("pytorch"):
        return {}
    kinds = {"PARAMETER": Role.LEARNED, "BUFFER": Role.STATISTIC}
    return {
        name: kinds[value.noted]
        for name, value in model.graph.values.items()
        if value.noted in kinds and name in model.graph.initializers
    }


def as_noted(name: str, role: Role, use: Use, notes: list[str]) -> Use:
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


_OWN = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_MADE = re.compile(r"val_\d+|onnx_\w+|ortshared_\w+")


def as_named(model: Model, tensor: Tensor, use: Use) -> Use | None:
    """The role of a tensor that its use leaves open, by the name that PyTorch gave it.

    TorchScript's exporter notes nothing, and keeps the names of the state_dict: what is called a
    weight or a bias there is a parameter, anything else a parameter or a buffer.
    """
    name = tensor.name
    stored = tensor.storage is Storage.INITIALIZER and not _MADE.fullmatch(name)
    if not model.producer.startswith("pytorch") or not stored:
        return None
    if use.role is Role.UNKNOWN and _STATE.fullmatch(name):
        return Use(role=Role.LEARNED, why=f"called {name.rpartition('.')[2]!r} in the state_dict")
    added = use.role is Role.LEARNED and use.why.startswith("the bias added") and not is_named(name)
    if (use.role is Role.CONSTANT or added) and _OWN.fullmatch(name):
        why = "named as in a state_dict: a parameter or a buffer, which the exporter does not tell"
        return Use(role=Role.UNKNOWN, why=f"{why}; {use.why}")
    return None


def reconciled(source: SourceTensor, use: Use, notes: list[str]) -> Use:
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
