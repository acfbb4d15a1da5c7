"""Keras' networks counted and listed from their ONNX files, as Keras itself does.

Truth is Keras' own: `count_params`, the weights' sizes, and the text that `model.summary()` prints.
Each network is exported once in a session.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from keras_networks import (
    APPLICATIONS,
    NETWORKS,
    WIDE,
    Layer,
    Made,
    Totals,
    application,
    layers_of,
    made,
    network,
    question,
)

from inspector.count.tables import STYLES, table
from inspector.facts.count import Role
from inspector.facts.summary import Source, Summary
from inspector.flows import inspect_file, summarise_file

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for _needed in ("keras", "tf2onnx"):
    pytest.importorskip(_needed, reason="this export needs it")

IN_ORDER = (
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "MobileNetV3Large",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "DenseNet121",
    "question",
    "sequential",
    "tied",
    "frozen",
    "operations",
    "unscaled",
    "dense",
)
"""Networks whose layers stand in the file in the order in which Keras lists them."""

BRANCHED = ("ResNet50", "InceptionV3")
"""The file has the branches in another order."""


@pytest.fixture(scope="session")
def keras_made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Made]]:
    """A network by its name, exported and read once."""
    folder = tmp_path_factory.mktemp("keras_networks")

    @cache
    def exported(name: str) -> Made:
        return made((application if name in APPLICATIONS else network)(name), folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(WIDE))  # Keras wraps its table at the terminal's width
        yield exported


def totals(summary: Summary) -> Totals:
    keras = summary.count.keras
    return Totals(keras.total, keras.trainable, keras.non_trainable)


def adds_up(summary: Summary) -> None:
    """The identities of every table in every style."""
    for style in STYLES:
        rows = table(summary, style)
        assert sum(row[-1] for row in rows.rows) == rows.totals[0][1], style
    _, *parts = (value for _, value in table(summary, "onnx").totals)
    assert sum(parts) == summary.count.onnx.elements
    keras = table(summary, "keras")
    assert tuple(value for _, value in keras.totals) == totals(summary)
    assert totals(summary).total == sum(totals(summary)[1:])


def doubtful(summary: Summary, role: Role) -> int:
    """Elements of a role that are listed as doubtful."""
    tensors = [each for each in summary.count.tensors if each.doubt and each.role is role]
    return sum(each.tensor.elements for each in tensors)


def weighted(layers: list[Layer]) -> list[tuple[str, str, int]]:
    """Layers that hold something, by name without the numbers that frameworks put behind it."""
    return [
        (re.sub(r"(_\d+)+$", "", each.name), each.kind, each.parameters)
        for each in layers
        if each.parameters
    ]


def test_the_networks_are_ten_and_half_of_them_have_statistics_of_training() -> None:
    assert len(APPLICATIONS) == 10
    assert Counter(each.drawn for each in APPLICATIONS.values()) == {True: 5, False: 5}


@pytest.mark.parametrize("name", [*APPLICATIONS, *NETWORKS])
def test_with_the_manifest_the_totals_are_those_of_keras(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    truth = found.truth
    assert totals(found.kept) == truth.counted
    assert truth.printed._replace(total=truth.printed.total - truth.optimizer) == truth.counted


@pytest.mark.parametrize("name", [*APPLICATIONS, *NETWORKS])
def test_each_column_adds_up_to_the_printed_total(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    adds_up(found.kept)
    adds_up(found.bare)


@pytest.mark.parametrize("name", [*APPLICATIONS, *NETWORKS])
def test_the_rows_are_those_that_keras_prints(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    assert found.kept.source is Source.MANIFEST
    assert layers_of(found.kept) == found.truth.layers


# Weights that the file holds in another form, which the manifest alone tells to be such.
NOT_STORED = ("recurrent", "slopes", "groups", "attention")


@pytest.mark.parametrize("name", [*APPLICATIONS, *(n for n in NETWORKS if n not in NOT_STORED)])
def test_without_it_doubtful_tensors_make_up_the_gap(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    truth, bare = found.truth.counted, totals(found.bare)
    missing, written = doubtful(found.bare, Role.UNKNOWN), doubtful(found.bare, Role.LEARNED)
    # Keras keeps one number more, of steps, for each pair of mean and variance.
    normalizations = sum(each.kind == "Normalization" for each in found.truth.layers)
    steps = normalizations if missing else 0
    gap = truth.total - bare.total
    assert gap in {0, missing + steps, -written}
    if gap:
        size = f"{gap:,} more, not trainable" if gap > 0 else f"{-gap:,} of the learned elements"
        assert any(size in each for each in found.bare.count.notes)
    # Only Keras knows what is frozen: to the file it is learned.
    learned = truth.trainable
    if name == "frozen":
        learned += sum(e.parameters for e in found.truth.layers if e.name == "held")
        learned += 2 * 4  # gamma and beta of the frozen norm
    assert bare.trainable == learned - min(gap, 0)
    assert bare.non_trainable == truth.total - learned - max(gap, 0)


def test_what_is_in_doubt_is_so_with_the_manifest_no_more(keras_made: Any) -> None:
    for name in ("EfficientNetB0", "EfficientNetV2B0", "adapted", "given", "unscaled"):
        found = keras_made(name)
        assert not [each for each in found.kept.count.tensors if each.doubt]


@pytest.mark.parametrize(("name", "gap"), [("EfficientNetB0", 7), ("EfficientNetV2B0", 0)])
def test_only_an_adapted_normalization_makes_a_gap(name: str, gap: int, keras_made: Any) -> None:
    found = keras_made(name)
    assert found.truth.counted.total - totals(found.bare).total == gap
    assert doubtful(found.bare, Role.UNKNOWN) == 6
    said = "6 elements may be the mean and variance of Keras' Normalization"
    assert any(each.startswith(said) for each in found.bare.count.notes)


@pytest.mark.parametrize("name", IN_ORDER)
def test_without_it_names_tell_the_layers_in_order(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    assert found.bare.source is Source.NAMES
    truth = [each for each in weighted(found.truth.layers) if each[1] != "Normalization"]
    assert weighted(layers_of(found.bare)) == truth


@pytest.mark.parametrize("name", BRANCHED)
def test_without_it_names_tell_the_layers_of_branches(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    assert found.bare.source is Source.NAMES
    assert Counter(weighted(layers_of(found.bare))) == Counter(weighted(found.truth.layers))


def test_a_model_in_a_model_is_listed_layer_by_layer_without_it(keras_made: Any) -> None:
    found = keras_made("nested")
    kinds = [(each.kind, each.parameters) for each in layers_of(found.bare) if each.parameters]
    assert kinds == [
        ("Conv2D", 112),
        ("BatchNormalization", 16),
        ("Conv2D", 185),
        ("BatchNormalization", 20),
        ("Dense", 12),
    ]


def test_inspect_counts_what_summary_counts(keras_made: Any, tmp_path: Path) -> None:
    from inspector.export import export_keras

    path = tmp_path / "kept.onnx"
    export_keras(question(), path)
    assert inspect_file(path).count == summarise_file(path).count
    assert totals(keras_made("question").kept) == totals(summarise_file(path))


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The question's net as tf2onnx writes it: the norm is a Mul and an Add."""
    import tf2onnx

    path = tmp_path_factory.mktemp("keras_stock") / "stock.onnx"
    tf2onnx.convert.from_keras(question(), output_path=str(path))
    return path


def test_a_stock_export_adds_up_and_says_what_it_cannot_tell(stock: Path) -> None:
    summary = summarise_file(stock)
    adds_up(summary)
    assert summary.framework == "keras"
    # Conv 40, two Dense of 1542 and 21; slope and intercept of four channels are neither.
    assert totals(summary) == (1603, 1603, 0)
    assert summary.count.unknown == 8
    for style in STYLES:
        assert any(
            each.startswith("8 elements are of unknown role and in no total")
            for each in table(summary, style).notes
        )


def test_the_layers_of_a_stock_export_are_told_by_names(stock: Path) -> None:
    summary = summarise_file(stock)
    assert summary.source is Source.NAMES
    assert layers_of(summary) == [
        Layer("image", "InputLayer", "(None, 8, 8, 1)", 0),
        Layer("conv2d", "Conv2D", "(None, 8, 8, 4)", 40),
        Layer("batch_normalization", "BatchNormalization", "(None, 8, 8, 4)", 0),
        Layer("flatten", "Flatten", "(None, 256)", 0),
        Layer("dense", "Dense", "(None, 6)", 1542),
        Layer("dense_1", "Dense", "(None, 3)", 21),
    ]


@pytest.mark.parametrize("style", STYLES)
def test_a_stock_export_prints_in_each_style(style: str, stock: Path, run: Any) -> None:
    ran = run("summary", stock, "--style", style, columns=200)
    assert (ran.code, ran.err) == (0, "")
    text = " ".join(ran.out.split())
    assert ("1,622" if style == "onnx" else "1,603") in text
    assert "8 elements are of unknown role" in text
