"""What an export knows about its source, kept in the ONNX file's `metadata_props`.

The manifest travels with the model as JSON under `KEY`. It is written by `inspector.export` and
read back by any command; a file may come from anyone, so reading checks everything it uses.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from inspector.errors import UnreadableError
from inspector.facts.count import Role

KEY = "bninspect.manifest"
VERSION = 1

NO_WEIGHT = "no weight of the model"
"""What is said of a variable that the framework does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTensor:
    """A stored tensor of the ONNX file and the framework's tensor it holds.

    `synthetic` says that the framework has no such tensor: the export had to write one
    (ones for an absent scale, say), and no framework counts it.
    """

    name: str
    source: str
    role: Role
    synthetic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBatchNorm:
    """A BatchNorm layer under the framework's name; momentum as the framework writes it."""

    node: str
    source: str
    epsilon: float
    momentum: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLayer:
    """A layer as the framework's own summary lists it.

    `scopes` are what the names of its nodes begin with, one for each call; `dims` are those of its
    output as the framework writes them, None for what is free. `kind` is its class, and `weights`
    are the paths of its variables. A summary lists a model inside a model as one layer; what is in
    it is `within` it, by its name.
    """

    name: str
    kind: str
    scopes: tuple[str, ...] = ()
    dims: tuple[int | None, ...] | None = None
    weights: tuple[str, ...] = ()
    within: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotExported:
    """Something the framework holds and ONNX has no place for."""

    source: str
    elements: int
    why: str

    @property
    def is_weight(self) -> bool:
        """Whether the framework counts it: no state of a generator, and no count of steps."""
        steps = self.source.rpartition(".")[2] == "num_batches_tracked"
        return not steps and NO_WEIGHT not in self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkTotals:
    """Elements as the framework itself counts them: `count_params()` or `parameters()`.

    `other` is what it keeps beside: Keras' non-trainable weights, PyTorch's buffers. `frozen` are
    those of PyTorch's parameters that no gradient reaches; Keras has frozen weights in `other`.
    """

    trainable: int
    other: int
    frozen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far ONNX Runtime's outputs lie from the framework's own, over all outputs.

    `max_abs` and `tolerance` are absolute; `relative` is `max_abs` over the output's scale.
    `bitwise` of `of` BatchNorm tensors equal the framework's bit for bit.
    """

    batch_sizes: tuple[int, ...]
    max_abs: float
    relative: float
    floor: float
    tolerance: float
    bitwise: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything an export records about itself."""

    tool: str
    framework: str
    framework_version: str
    exporter: str
    tensors: tuple[SourceTensor, ...]
    batchnorms: tuple[SourceBatchNorm, ...]
    not_exported: tuple[NotExported, ...]
    totals: FrameworkTotals
    verification: Verification | None
    layers: tuple[SourceLayer, ...] = ()

    def to_json(self) -> str:
        """The manifest as it is stored: one versioned JSON object."""
        return json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises
        ------
        inspector.errors.UnreadableError
            The text is not such a manifest, or of a version this release does not know.
        """
        try:
            return cls._from_fields(json.loads(text))
        except _WRONG as error:
            raise UnreadableError(
                f"the export manifest is not readable ({type(error).__name__}: {error})",
                hint="counts rest on the graph alone",
            ) from error

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> Manifest:
        if (version := fields["version"]) != VERSION:
            raise ValueError(f"version {version!r} is not {VERSION}")
        check = fields["verification"]
        return cls(
            tool=str(fields["tool"]),
            framework=_framework(fields["framework"]),
            framework_version=str(fields["framework_version"]),
            exporter=str(fields["exporter"]),
            tensors=tuple(
                SourceTensor(
                    name=str(each["name"]),
                    source=str(each["source"]),
                    role=Role(each["role"]),
                    synthetic=bool(each["synthetic"]),
                )
                for each in fields["tensors"]
            ),
            batchnorms=tuple(
                SourceBatchNorm(
                    node=str(each["node"]),
                    source=str(each["source"]),
                    epsilon=float(each["epsilon"]),
                    momentum=None if each["momentum"] is None else float(each["momentum"]),
                )
                for each in fields["batchnorms"]
            ),
            not_exported=tuple(
                NotExported(
                    source=str(each["source"]),
                    elements=_size(each["elements"]),
                    why=str(each["why"]),
                )
                for each in fields["not_exported"]
            ),
            totals=FrameworkTotals(
                trainable=_size(fields["totals"]["trainable"]),
                other=_size(fields["totals"]["other"]),
                frozen=_size(fields["totals"].get("frozen", 0)),
            ),
            layers=tuple(
                SourceLayer(
                    name=str(each["name"]),
                    kind=str(each["kind"]),
                    scopes=tuple(map(str, each["scopes"])),
                    dims=_dims(each["dims"]),
                    weights=tuple(map(str, each.get("weights", ()))),
                    within=str(each.get("within", "")),
                )
                for each in fields.get("layers", ())  # files of 0.1 have none
            ),
            verification=None
            if check is None
            else Verification(
                batch_sizes=tuple(_size(size) for size in check["batch_sizes"]),
                max_abs=float(check["max_abs"]),
                relative=float(check["relative"]),
                floor=float(check["floor"]),
                tolerance=float(check["tolerance"]),
                bitwise=_size(check["bitwise"]),
                of=_size(check["of"]),
            ),
        )


_WRONG = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)
_LARGEST = 2**53
"""Of any number of elements: no model comes near, and every format can write it."""


def _size(given: Any) -> int:
    """A number of elements or a length, as a file may claim it."""
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _LARGEST:
        raise ValueError(f"{str(given)[:40]!r} is no number of elements")
    return given


def _framework(given: Any) -> str:
    if given not in ("keras", "torch"):
        raise ValueError(f"{str(given)[:40]!r} is no framework that is exported from")
    return str(given)


def _dims(given: Any) -> tuple[int | None, ...] | None:
    return None if given is None else tuple(None if e is None else _size(e) for e in given)
