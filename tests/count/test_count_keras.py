"""Keras' networks counted and listed from their ONNX files, as Keras itself does.

Truth is Keras' own: `count_params`, the weights' sizes, and the text that `model.summary()` prints.
Each network is exported once in a session.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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
    "question_full",
    "sequential",
    "tied",
    "frozen",
    "operations",
    "unscaled",
    "dense",
    "permuted",
)
"""Networks whose layers stand in the file in the order in which Keras lists them."""

BRANCHED = ("ResNet50", "InceptionV3", "Xception", "separable")
"""The file has the branches in another order."""

UNNAMED = ("conv1d", "conv3d", "multiplied", "upsampling", "channels_first")
"""Of some of their nodes the exporter keeps no name, or they are of another class in the file."""


@pytest.fixture(scope="session")
def keras_made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A network by its name, exported and read once."""
    folder = tmp_path_factory.mktemp("keras_networks")

    @cache
    def exported(name: str) -> Made:
        model = (application if name in APPLICATIONS else network)(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", str(WIDE))  # Keras wraps its table at the terminal's width
            return made(model, folder)

    return exported


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


class Weighted(NamedTuple):
    """A layer that holds something, by its name without the numbers that frameworks put behind."""

    name: str
    kind: str
    parameters: int


def weighted(layers: list[Layer]) -> list[Weighted]:
    return [
        Weighted(re.sub(r"(_\d+)+$", "", each.name), each.kind, each.parameters)
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
    truth = found.truth.layers
    several = {each.name for each in truth if each.shape.startswith("[")}  # of several outputs

    def shapes_of_one(layers: list[Layer]) -> list[Layer]:
        return [each._replace(shape="") if each.name in several else each for each in layers]

    assert found.kept.source is Source.MANIFEST
    assert shapes_of_one(layers_of(found.kept)) == shapes_of_one(truth)


@pytest.mark.parametrize("which", ["kept", "bare"])
def test_the_question_in_the_style_of_keras(which: str, keras_made: Any) -> None:
    summary = getattr(keras_made("question_full"), which)
    assert layers_of(summary) == [
        Layer("image", "InputLayer", "(None, 64, 64, 1)", 0),
        Layer("conv2d", "Conv2D", "(None, 64, 64, 32)", 320),
        Layer("batch_normalization", "BatchNormalization", "(None, 64, 64, 32)", 128),
        Layer("flatten", "Flatten", "(None, 131072)", 0),
        Layer("dense", "Dense", "(None, 100)", 13_107_300),
        Layer("dense_1", "Dense", "(None, 10)", 1_010),
    ]
    assert totals(summary) == (13_108_758, 13_108_694, 64)


@pytest.mark.parametrize("which", ["kept", "bare"])
def test_the_question_in_the_style_of_torch(which: str, keras_made: Any) -> None:
    """Activations are modules there, and the two of the dense layers are Keras' own."""
    found = table(getattr(keras_made("question_full"), which), "torch")
    assert [(name, dims, size) for name, _, dims, size in found.rows] == [
        ("Conv2d-1", (-1, 32, 64, 64), 320),
        ("ReLU-2", (-1, 32, 64, 64), 0),
        ("BatchNorm2d-3", (-1, 32, 64, 64), 64),
        ("Flatten-4", (-1, 131072), 0),
        ("Linear-5", (-1, 100), 13_107_300),
        ("ReLU-6", (-1, 100), 0),
        ("Linear-7", (-1, 10), 1_010),
        ("Softmax-8", (-1, 10), 0),
    ]
    *parameters, fed, passed, stored, whole = (value for _, value in found.totals)
    assert parameters == [13_108_694, 13_108_694, 0]
    assert [f"{each:.2f}" for each in (fed, passed, stored, whole)] == [
        *("0.02", "4.00", "50.01", "54.02")
    ]


ARITHMETIC = ("slopes", "groups", "attention")
"""Networks with weights that the file holds in arithmetic, or in another form."""
COUNTED_ALIKE = [*APPLICATIONS, *(n for n in NETWORKS if n not in ARITHMETIC)]


@pytest.mark.parametrize("name", COUNTED_ALIKE)
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


@pytest.mark.parametrize("name", ARITHMETIC)
def test_without_it_arithmetic_makes_up_the_gap(name: str, keras_made: Any) -> None:
    """No role is guessed: what nothing tells is in no total, and a note says so."""
    found = keras_made(name)
    gap = found.truth.counted.total - totals(found.bare).total
    assert gap in {0, found.bare.count.unknown}
    if gap:
        said = f"{gap:,} elements are of unknown role and in no total"
        assert any(each.startswith(said) for each in table(found.bare, "keras").notes)


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
    truth = [each for each in weighted(found.truth.layers) if each.kind != "Normalization"]
    assert weighted(layers_of(found.bare)) == truth


@pytest.mark.parametrize("name", BRANCHED)
def test_without_it_names_tell_the_layers_of_branches(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    assert found.bare.source is Source.NAMES
    assert Counter(weighted(layers_of(found.bare))) == Counter(weighted(found.truth.layers))


@pytest.mark.parametrize("name", UNNAMED)
def test_without_it_the_sizes_of_layers_are_in_order(name: str, keras_made: Any) -> None:
    found = keras_made(name)
    truth = [each.parameters for each in weighted(found.truth.layers)]
    assert [each.parameters for each in weighted(layers_of(found.bare))] == truth


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
