"""From two sources to a verdict, in one command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from inspector.cli.verdicts import exit_code
from inspector.errors import UnreadableError, UsageError
from inspector.export import export_keras, export_torch
from inspector.facts.comparison import Verdict
from inspector.flows import compare_files
from inspector.pipelines import Side, export_compare

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for _needed in ("tf2onnx", "onnxscript"):
    pytest.importorskip(_needed, reason="both exports need it")

PAIRS = {
    "small_matched": Verdict.EQUIVALENT,
    "small": Verdict.DIFFERENT,
    "small_matched_no_relu": Verdict.DIFFERENT,
    "small_matched_wrong_flatten": Verdict.DIFFERENT,
}


@pytest.mark.parametrize(("name", "verdict"), PAIRS.items())
def test_the_verdict_and_the_exit_code_are_those_of_compare(
    name: str, verdict: Verdict, models: Path, run: Any, tmp_path: Path
) -> None:
    sources = f"{models}/keras_cnn.py:small", f"{models}/torch_cnn.py:{name}"
    export_keras(sources[0], tmp_path / "k.onnx")
    export_torch(sources[1], tmp_path / "t.onnx")
    compared = compare_files(tmp_path / "k.onnx", tmp_path / "t.onnx")
    assert compared.verdict is verdict
    found = export_compare(*sources)
    assert found.comparison.verdict is verdict
    assert found.comparison.causes == compared.causes
    ran = run("export-compare", *sources)
    assert ran.code == exit_code(verdict, strict=False)
    assert f"\n{verdict.value}: " in ran.out
    for source in sources:
        assert Path(source).name in ran.out.replace("\n", "").replace("  ", "")
    assert ran.err == ""


def test_a_file_on_one_side(models: Path, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "k.onnx"
    export_keras(f"{models}/keras_cnn.py:small", path)
    found = export_compare(str(path), f"{models}/torch_cnn.py:small_matched")
    assert found.exports[0] is None
    assert found.exports[1] is not None
    assert found.comparison.verdict is Verdict.EQUIVALENT
    assert found.comparison.left == str(path)
    same = export_compare(str(path), str(path))
    assert (same.exports, same.comparison.verdict) == ((None, None), Verdict.IDENTICAL)


def test_the_files_are_kept_where_asked(models: Path, run: Any, tmp_path: Path) -> None:
    sources = [f"{models}/torch_cnn.py:{name}" for name in ("small", "small_matched")]
    folder = tmp_path / "new" / "folder"
    found = export_compare(*sources, keep=folder)
    assert sorted(os.listdir(folder)) == ["torch_cnn.small.onnx", "torch_cnn.small_matched.onnx"]
    again = compare_files(*(each.path for each in found.exports if each is not None))
    assert again.verdict is found.comparison.verdict
    # One source twice: two files of their own.
    export_compare(sources[0], sources[0], keep=tmp_path / "twice")
    assert sorted(os.listdir(tmp_path / "twice")) == [
        "left.torch_cnn.small.onnx",
        "right.torch_cnn.small.onnx",
    ]


def test_nothing_is_left_without_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(os.listdir(models))
    found = export_compare(*[f"{models}/torch_cnn.py:small"] * 2)
    assert found.comparison.verdict is Verdict.IDENTICAL
    assert not list(tmp_path.glob("bninspect-*"))
    assert set(os.listdir(models)) == before


def test_json_has_both_exports_and_the_comparison(models: Path, run: Any) -> None:
    sources = f"{models}/keras_cnn.py:small", f"{models}/torch_cnn.py:small_matched"
    ran = run("export-compare", *sources, "--format", "json")
    body = json.loads(ran.out)
    assert (body["schema"], body["version"]) == ("bninspect.export-comparison", 1)
    assert [each["manifest"]["framework"] for each in body["exports"]] == ["keras", "torch"]
    assert body["comparison"]["verdict"] == "equivalent"
    assert tuple(body["sources"]) == sources


def test_weights_of_either_side(models: Path, tmp_path: Path) -> None:
    import torch

    from inspector.export import source

    spec = source.parse(f"{models}/torch_cnn.py:small_matched")
    wanted = torch.nn.Module
    with source.opened(spec, lambda each: isinstance(each, wanted), "a module") as module:
        assert isinstance(module, torch.nn.Module)
        torch.save(module.state_dict(), tmp_path / "weights.pt")
    text = f"{models}/torch_cnn.py:small_matched"
    side = Side(source=text, weights=tmp_path / "weights.pt")
    assert export_compare(text, side).comparison.verdict is Verdict.IDENTICAL


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("nothing.here", UnreadableError, "neither an ONNX file nor a source"),
        ("none.onnx", UnreadableError, "no such file"),
        ("none.py:net", UnreadableError, "no such file"),
        ("a b:c", UsageError, "neither a .py file nor a module's name"),
        ("none.keras", UnreadableError, "no such file"),
        ("none.pt2", UnreadableError, "no such file"),
    ],
)
def test_what_is_no_source(
    source: str, error: type[Exception], said: str, models: Path, run: Any
) -> None:
    good = f"{models}/torch_cnn.py:small"
    with pytest.raises(error, match=said):
        export_compare(source, good)
    ran = run("export-compare", source, good)
    assert ran.code in (2, 3)
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_weights_for_a_keras_model(models: Path, tmp_path: Path) -> None:
    side = Side(source=f"{models}/keras_cnn.py:small", weights=tmp_path / "w.pt")
    with pytest.raises(UsageError, match="weights of their own are for PyTorch"):
        export_compare(side, side)


def test_a_file_instead_of_a_folder(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="it is no folder"):
        export_compare(*[f"{models}/torch_cnn.py:small"] * 2, keep=tmp_path / "file")


def test_the_stages_are_told(models: Path) -> None:
    stages: list[str] = []
    export_compare(*[f"{models}/torch_cnn.py:small"] * 2, progress=stages.append)
    assert any(each.startswith("left: ") for each in stages)
    assert any(each.startswith("right: ") for each in stages)
    assert "reading both models" in stages


def test_what_a_source_lacks_is_said_of_its_side(run: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch.nn import BatchNorm1d\n\n\ndef build():\n    return BatchNorm1d(4)\n"
    )
    source = str(tmp_path / "net.py:build")
    ran = run("export-compare", source, source, "--left-input-shape", "2,4")
    assert ran.code == 2
    assert "no example input (right source)" in ran.err
    assert "give --right-input-shape or --right-example" in ran.err
    ran = run("export-compare", source, source, "--right-input-shape", "2,x")
    assert (ran.code, "--right-input-shape '2,x' is no shape" in ran.err) == (2, True)
