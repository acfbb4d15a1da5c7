"""Models that this project did not make: the reader against onnx's own, and the manifest."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest
from same import Same

from inspector.errors import UnreadableError
from inspector.flows import inspect_file
from inspector.read import open as opening
from inspector.read.open import open_model


@pytest.mark.parametrize(
    ("whole", "kept"),
    [(opening.WHOLE, opening.KEPT_WHOLE), (0, opening.KEPT_WHOLE), (0, 16)],
    ids=["as users open it", "walked", "walked into every tensor"],
)
def test_graphs_and_tensors_are_onnxs_own(corpus: Path, corpus_rows, whole, kept, monkeypatch):
    monkeypatch.setattr(opening, "WHOLE", whole)
    monkeypatch.setattr(opening, "KEPT_WHOLE", kept)
    models = tensors = 0
    for row in corpus_rows:
        if row["load"] != "ok":
            continue
        path = corpus / row["file"]
        same = Same(open_model(path), onnx.load(path, load_external_data=False))
        same.check()
        models, tensors = models + 1, tensors + same.tensors
    assert models == sum(row["load"] == "ok" for row in corpus_rows)
    assert tensors > 15_000


def test_every_file_opens_or_says_why(corpus: Path, corpus_rows):
    """The manifest's judgement of what loads, but for two files that are models without a node."""
    slowest, disagreements, said = 0.0, [], ""
    for row in corpus_rows:
        started = time.perf_counter()
        try:
            fact = inspect_file(corpus / row["file"])
            opened = bool(fact.nodes)
        except UnreadableError as error:
            opened, said = False, str(error)
        slowest = max(slowest, time.perf_counter() - started)
        assert "\n" not in said
        if opened != (row["load"] == "ok"):
            disagreements.append(row["file"])
    assert not disagreements
    assert slowest < 60  # a loop without end, not a slow machine
