"""Where the patched model goes: never over what is compared, and the report says whether."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from inspector.errors import ExitCode, UsageError
from inspector.facts.comparison import Verdict
from tests.compare.branches import changed, network
from tests.compare.conftest import Compare
from tests.compare.test_faults import FAULTS


def wrong() -> onnx.ModelProto:
    return changed(network(), FAULTS["alpha"][0])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    left, right = tmp_path / "left.onnx", tmp_path / "right.onnx"
    onnx.save(network(), left)
    onnx.save(wrong(), right)
    return left, right


def _itself(path: Path) -> Path:
    return path


def _another_spelling(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


def _symlink(path: Path) -> Path:
    made = path.with_name("symlink.onnx")
    made.symlink_to(path)
    return made


def _hard_link(path: Path) -> Path:
    made = path.with_name("link.onnx")
    os.link(path, made)
    return made


@pytest.mark.parametrize("spelt", [_itself, _another_spelling, _symlink, _hard_link])
@pytest.mark.parametrize("side", [0, 1])
def test_a_model_that_is_compared_is_never_written_over(
    side: int, spelt: Callable[[Path], Path], pair: tuple[Path, Path], compare: Compare
) -> None:
    before = [each.read_bytes() for each in pair]
    stages: list[str] = []
    with pytest.raises(UsageError, match="written over a file that is compared"):
        compare(*pair, patch_out=spelt(pair[side]), progress=stages.append)
    assert [each.read_bytes() for each in pair] == before
    assert not stages


def test_nor_is_its_data(tmp_path: Path, pair: tuple[Path, Path], compare: Compare) -> None:
    right = tmp_path / "apart.onnx"
    onnx.save(wrong(), right, save_as_external_data=True, location="apart.bin", size_threshold=0)
    data = tmp_path / "apart.bin"
    before = data.read_bytes()
    with pytest.raises(UsageError, match="written over a file that is compared"):
        compare(pair[0], right, patch_out=data)
    assert data.read_bytes() == before
    fixed = tmp_path / "fixed.onnx"
    assert compare(pair[0], right, patch_out=fixed).patched_to == str(fixed)
    assert data.read_bytes() == before
    assert compare(pair[0], fixed).verdict in (Verdict.EQUIVALENT, Verdict.IDENTICAL)


def test_nor_are_the_inputs(tmp_path: Path, pair: tuple[Path, Path], compare: Compare) -> None:
    data = tmp_path / "x.npz"
    np.savez(data, x=np.zeros((1, 2), np.float32))
    with pytest.raises(UsageError, match="written over a file that is compared"):
        compare(*pair, data=data, patch_out=data)


def test_the_command_refuses_in_one_line(pair: tuple[Path, Path], run: Callable) -> None:
    ran = run("compare", *pair, "--patch-out", pair[1])
    assert (ran.code, ran.out) == (ExitCode.USAGE, "")
    assert len(ran.err.splitlines()) == 1
    assert "name another file for --patch-out" in ran.err


def test_a_file_that_is_no_model_of_these_is_replaced(
    tmp_path: Path, pair: tuple[Path, Path], compare: Compare
) -> None:
    fixed = tmp_path / "fixed.onnx"
    fixed.write_bytes(b"what was there")
    assert compare(*pair, patch_out=fixed).patched_to == str(fixed)
    onnx.checker.check_model(fixed)


def test_the_report_says_where_it_was_written(
    tmp_path: Path, pair: tuple[Path, Path], run: Callable
) -> None:
    fixed = tmp_path / "fixed.onnx"
    ran = run("compare", *pair, "--patch-out", fixed)
    (at,) = (n for n, line in enumerate(ran.out.splitlines()) if "patched model written" in line)
    assert "".join(ran.out.splitlines()[at:]).replace(" ", "").find(str(fixed)) > 0
    assert ran.out.index("patched model written") > ran.out.index("Causes")
    found = json.loads(run("compare", *pair, "--patch-out", fixed, "--format", "json").out)
    assert (found["patched_to"], found["not_patched"]) == (str(fixed), "")


def test_nothing_is_said_where_nothing_was_asked(pair: tuple[Path, Path], run: Callable) -> None:
    assert "patched model" not in run("compare", *pair).out
    found = json.loads(run("compare", *pair, "--format", "json").out)
    assert (found["patched_to"], found["not_patched"]) == (None, "")


def test_the_report_says_why_nothing_was_written(
    tmp_path: Path, pair: tuple[Path, Path], run: Callable
) -> None:
    fixed = tmp_path / "fixed.onnx"
    ran = run("compare", pair[0], pair[0], "--patch-out", fixed)
    assert "no patched model written: the outputs agree" in ran.out
    assert not fixed.exists()


SHAPES = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[4, 4] x) => (float[N] y) <int64[1] a = {1}> {
        r = %s
        y = ReduceSum<keepdims = 0>(r, a)
    }"""


def test_so_it_does_where_nothing_is_proved(tmp_path: Path, compare: Compare) -> None:
    fixed = tmp_path / "fixed.onnx"
    found = compare(SHAPES % "Tanh(x)", SHAPES % "Concat<axis = 0>(x, x)", patch_out=fixed)
    assert found.verdict is Verdict.DIFFERENT
    assert found.patched_to is None
    assert found.not_patched == "no cause is proved by a patch of the right model"
    assert not fixed.exists()


def test_so_it_does_where_nothing_is_decided(tmp_path: Path, compare: Compare) -> None:
    strange = network()
    strange.graph.node[0].op_type = "NoSuchOperator"
    found = compare(network(), strange, patch_out=tmp_path / "fixed.onnx")
    assert found.verdict is Verdict.UNDECIDED
    assert found.not_patched == "nothing was decided"
