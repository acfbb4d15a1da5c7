"""What `bninspect export` says, from facts written by hand."""

from dataclasses import replace

import pytest

from inspector.facts.count import Role
from inspector.facts.export import Export
from inspector.facts.manifest import (
    FrameworkTotals,
    Manifest,
    NotExported,
    SourceBatchNorm,
    SourceTensor,
    Verification,
)
from inspector.report import render

EXPORT = Export(
    path="out/\x1b[31mnet.onnx",
    size=52_444_383,
    opset=18,
    manifest=Manifest(
        tool="bninspect 1",
        framework="torch",
        framework_version="2.13.0",
        exporter="torch.onnx 2.13.0",
        tensors=(SourceTensor(name="bn.weight", source="bn.weight", role=Role.LEARNED),),
        batchnorms=(SourceBatchNorm(node="bn", source="bn", epsilon=1e-5, momentum=0.1),),
        not_exported=(NotExported(source="bn.count", elements=1, why="no place for it"),),
        totals=FrameworkTotals(trainable=13_108_694, other=64),
        verification=Verification(
            batch_sizes=(1, 5),
            max_abs=3.64e-06,
            relative=3.37e-06,
            floor=8.3e-07,
            tolerance=1.5e-05,
            bitwise=4,
            of=4,
        ),
    ),
    notes=("the batch is fixed",),
)


@pytest.mark.parametrize("width", [80, 120])
def test_the_golden_pages(width, golden):
    golden(f"export_{width}.txt", render(EXPORT, "text", width=width))


def test_a_manifest_survives_its_file():
    assert Manifest.from_json(EXPORT.manifest.to_json()) == EXPORT.manifest


def test_no_batchnorm_is_no_zero_of_zero():
    check = EXPORT.manifest.verification
    none = replace(EXPORT.manifest, batchnorms=(), verification=replace(check, bitwise=0, of=0))
    text = render(replace(EXPORT, manifest=none), "text")
    assert "none with stored statistics in this model" in text
    assert "0 of 0" not in text
