"""Where networks come from: by hand, exported by frameworks, or from the corpus."""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from . import nets, nets_other
from .build import Base

HAND = {**nets.NETS, **nets_other.NETS}
EXPORTED, CORPUS = "exported_", "corpus_"

LARGEST = 200_000
"""Bytes of a model of the corpus that pairs are made from."""

MOST = 12
"""Models of the corpus that are taken."""


@lru_cache(maxsize=256)
def base_of(name: str, seed: int, exports: Path | None, corpus: Path | None) -> Base | None:
    """A network; exported ones and those of the corpus are the same for every seed."""
    if name in HAND:
        return Base(name=name, model=HAND[name](seed), bounds=nets_other.BOUNDS.get(name, ()))
    if name.startswith(EXPORTED) and exports is not None:
        return _exported(name, exports)
    if name.startswith(CORPUS) and corpus is not None:
        return Base(name=name, model=onnx.load(corpus_files(corpus)[name]))
    return None


def _exported(name: str, exports: Path) -> Base | None:
    path = exports / f"{name.removeprefix(EXPORTED)}.onnx"
    if not path.exists():
        return None
    network = path.stem.partition("-")[0]
    others = {
        each.stem: onnx.load(each)
        for each in sorted(exports.glob(f"{network}-*.onnx"))
        if each != path
    }
    return Base(name=name, model=onnx.load(path), others=others)


def exported_names(exports: Path | None) -> list[str]:
    if exports is None:
        return []
    return sorted(f"{EXPORTED}{each.stem}" for each in exports.glob("*.onnx"))


@lru_cache(maxsize=4)
def corpus_files(corpus: Path) -> dict[str, Path]:
    """Small trained models with BatchNorms that run and take images or signals, by name."""
    manifest = corpus / "manifest.csv"
    if not manifest.exists():
        return {}
    with manifest.open(newline="") as file:
        rows = [each for each in csv.DictReader(file) if _fits(each)]
    rows.sort(key=lambda each: (int(each["size"]), each["file"]))
    found: dict[str, Path] = {}
    for each in rows:
        path = corpus / each["file"]
        if len(found) < MOST and _plain(path):
            # One of each repository: the rest are the same network again.
            owner = each["repo"].replace("/", "_").replace(".", "_")
            found.setdefault(f"{CORPUS}{owner}", path)
    return found


def _fits(each: dict[str, str]) -> bool:
    small = int(each["size"]) <= LARGEST and int(each["bn_count"] or 0) >= 1
    return small and each["ort_run"] == "ok" and each["load"] == "ok"


def _plain(path: Path) -> bool:
    """Floats in, of known dimensions but the first, and a current form of BatchNorm."""
    model = onnx.load(path)
    opsets = {each.domain: each.version for each in model.opset_import}
    stored = {tensor.name for tensor in model.graph.initializer}
    fed = [each for each in model.graph.input if each.name not in stored]
    shapes = [each.type.tensor_type.shape.dim for each in fed]
    known = all(dim.dim_value for shape in shapes for dim in list(shape)[1:])
    small = all(np.prod([dim.dim_value or 1 for dim in shape]) < 200_000 for shape in shapes)
    floats = all(each.type.tensor_type.elem_type == TensorProto.FLOAT for each in fed)
    trained = not any(
        each.name == "training_mode" and each.i
        for node in model.graph.node
        for each in node.attribute
    )
    return bool(fed) and known and small and floats and trained and opsets.get("", 0) >= 9
