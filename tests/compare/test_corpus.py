"""Comparisons of real models that this project did not make; skipped where they are absent.

A quick choice of them by default; ``BNINSPECT_LONG=1`` takes all, which is a matter of minutes.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from inspector.errors import InspectorError
from inspector.facts.comparison import CauseKind, Verdict
from inspector.flows import compare_files

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
LONG = bool(os.environ.get("BNINSPECT_LONG"))
QUICK = 60_000
"""Bytes of a model that is compared by default."""

WIDE = ("BatchNorm3D_15", "debug_4700", "example_big_compute", "gemmgelu")
"""Small files with inputs or outputs of millions of elements."""

AS_GOOD = (Verdict.IDENTICAL, Verdict.EQUIVALENT)

pytestmark = pytest.mark.skipif(
    not (CORPUS / "manifest.csv").exists(), reason="the corpus of real models is not there"
)


def rows(name: str) -> list[dict[str, str]]:
    path = CORPUS / name
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def runs(row: dict[str, str]) -> bool:
    return row["ort_run"].startswith("ok")


def quick(row: dict[str, str]) -> bool:
    return LONG or (int(row["size"]) < QUICK and not any(each in row["file"] for each in WIDE))


MODELS = [row for row in rows("manifest.csv") if runs(row) and quick(row)]
OTHERS = [row for row in rows("manifest.csv") if not runs(row) and quick(row)]
PAIRS = rows("pairs.csv")


@pytest.mark.parametrize("row", MODELS, ids=lambda row: Path(row["file"]).name)
def test_a_model_that_runs_is_identical_to_itself_or_says_why_not(row: dict[str, str]) -> None:
    path = CORPUS / row["file"]
    found = compare_files(path, path)
    assert found.causes == found.harmless == ()
    if found.verdict is Verdict.UNDECIDED:
        why = ("NaN or infinity", "not a dense tensor", "fails while running")
        assert any(words in found.reason for words in why), found.reason
    else:
        assert found.verdict is Verdict.IDENTICAL


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: Path(row["file"]).name)
def test_a_model_that_does_not_run_is_no_other_error(row: dict[str, str]) -> None:
    path = CORPUS / row["file"]
    try:
        found = compare_files(path, path)
    except InspectorError as error:
        reason = str(error)
    else:
        assert found.verdict in (Verdict.UNDECIDED, Verdict.IDENTICAL)
        reason = found.reason
    assert reason
    assert "\n" not in reason


def expected(row: dict[str, str]) -> tuple[Verdict, ...]:
    """What a pair's relation, as others noted it, allows."""
    noted = f"{row['relation']} {row['evidence']}"
    if "NEGATIVE" in noted:
        return (Verdict.DIFFERENT,)
    if "differ" in row["evidence"] or "NaN" in noted:
        return (Verdict.DIFFERENT, Verdict.UNDECIDED)
    if "candy" in noted:  # one side names no opset, which ONNX Runtime does not load
        return (Verdict.UNDECIDED,)
    return (*AS_GOOD, Verdict.AGREES)


@pytest.mark.parametrize("row", PAIRS, ids=lambda row: row["relation"][:40])
def test_pairs_have_the_verdict_of_their_relation(row: dict[str, str]) -> None:
    left, right = (CORPUS / row[side] for side in ("a", "b"))
    if not LONG and left.stat().st_size + right.stat().st_size > 1_000_000:
        pytest.skip("large: compared with BNINSPECT_LONG=1")
    found = compare_files(left, right)
    assert found.verdict in expected(row), found.reason
    if LONG:
        assert compare_files(right, left).verdict is found.verdict


@pytest.mark.skipif(not LONG, reason="a matter of minutes: compared with BNINSPECT_LONG=1")
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2])
def test_another_epsilon_is_never_equivalent(epsilon: float, tmp_path: Path) -> None:
    import onnx

    for row in MODELS:
        if not int(row["bn_count"] or 0) or row["ort_run"] != "ok" or int(row["size"]) > 3_000_000:
            continue
        model = onnx.load(CORPUS / row["file"])
        norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
        if not norms:
            continue
        kept = [each for each in norms[0].attribute if each.name != "epsilon"]
        had = [each.f for each in norms[0].attribute if each.name == "epsilon"] or [1e-5]
        if np.float32(had[0]) == np.float32(epsilon):
            continue
        del norms[0].attribute[:]
        norms[0].attribute.extend([*kept, onnx.helper.make_attribute("epsilon", epsilon)])
        path = tmp_path / "changed.onnx"
        onnx.save(model, path)
        found = compare_files(CORPUS / row["file"], path)
        assert found.verdict not in AS_GOOD, row["file"]
        listed = {each.kind for each in (*found.causes, *found.harmless)}
        assert found.verdict is Verdict.UNDECIDED or listed == {CauseKind.EPSILON}, row["file"]
