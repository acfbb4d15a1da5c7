"""Outputs that have another shape on each side, and the cause of it, proved all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from inspector.facts.comparison import Proof, Verdict
from tests.compare.conftest import Compare
from tests.compare.test_arguments import KERNEL, LAST
from tests.compare.test_told_apart import ONE, model


def net(text: str, **stored: Any) -> onnx.ModelProto:
    around = f"c = Conv <pads = [1, 1, 1, 1]> (x, k) {text} z = Relu (m) y = Conv (z, last)"
    integers = {name: np.array(each) for name, each in stored.items()}
    return model(around, (2, 3, 8, 8), k=KERNEL, last=LAST, **integers)


def sliced(end: int) -> onnx.ModelProto:
    return net("m = Slice (c, starts, ends, axes)", starts=[0], ends=[end], axes=[2])


def tiled(*times: int) -> onnx.ModelProto:
    return net("m = Tile (c, times)", times=times)


def flat(axis: int) -> onnx.ModelProto:
    text = f"c = Conv (x, k) f = Flatten <axis = {axis}> (c) y = Relu (f)"
    return model(text, (2, 3, 8, 8), k=KERNEL)


def blocks(size: int) -> onnx.ModelProto:
    return model(f"s = SpaceToDepth <blocksize = {size}> (x) y = Relu (s)", (2, 3, 8, 8))


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (sliced(5), sliced(6), "ends"),
        (tiled(1, 1, 1, 2), tiled(1, 1, 2, 1), "repeats"),
        (flat(1), flat(2), "shape"),
        (blocks(2), blocks(4), "blocksize"),
    ],
)
def test_what_gives_outputs_another_shape_is_patched(
    compare: Compare, tmp_path: Path, one: Any, other: Any, what: str
) -> None:
    for left, right in ((one, other), (other, one)):
        fixed = tmp_path / "fixed.onnx"
        found = compare(left, right, patch_out=fixed)
        assert found.verdict is Verdict.DIFFERENT
        assert [(each.what, each.proof) for each in found.causes] == [(what, Proof.NECESSARY)]
        assert not found.harmless
        onnx.checker.check_model(fixed, full_check=True)
        assert compare(left, fixed).verdict in ONE
        fixed.unlink()


def test_two_causes_of_other_shapes_are_proved_together(compare: Compare) -> None:
    def both(end: int, times: int) -> onnx.ModelProto:
        text = "s = Slice (c, starts, ends, axes) m = Tile (s, times)"
        return net(text, starts=[0], ends=[end], axes=[2], times=[1, 1, 1, times])

    found = compare(both(5, 1), both(6, 2))
    assert {(each.what, each.proof) for each in found.causes} == {
        ("ends", Proof.NECESSARY),
        ("repeats", Proof.NECESSARY),
    }


def test_what_no_patch_mends_is_not_proved(compare: Compare) -> None:
    found = compare(sliced(5), flat(1))
    assert found.verdict is Verdict.DIFFERENT
    assert all(each.proof is Proof.UNTESTED for each in found.causes)


@pytest.mark.parametrize(
    ("left", "right"), [((0, 24), (0, 6, 4)), ((0, 6, 4), (0, 24)), ((0, 2, 12), (0, 3, 8))]
)
def test_the_patched_file_declares_what_it_gives_out(
    compare: Compare, tmp_path: Path, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    def reshaped(target: tuple[int, ...]) -> onnx.ModelProto:
        dims = ",".join(["N", *map(str, target[1:])])
        numbers = ",".join(map(str, target))
        return onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 4, 6] x) => (float[{dims}] y) <int64[{len(target)}] t = {{{numbers}}}>
            {{ r = Relu (x) y = Reshape (r, t) }}"""
        )

    fixed = tmp_path / "fixed.onnx"
    compare(reshaped(left), reshaped(right), patch_out=fixed)
    made = onnx.load(fixed)
    onnx.checker.check_model(made, full_check=True)
    assert made.graph.output == reshaped(left).graph.output
