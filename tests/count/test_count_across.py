"""One network written in Keras, with models inside of the model, and in PyTorch: the same layers.

Truth is what each framework counts of its own model, and that the two are one network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inspector.count.tables import table
from inspector.flows import explain_total, reconcile_files, summarise_file

for _needed in ("keras", "tf2onnx", "torch", "onnxscript"):
    pytest.importorskip(_needed, reason="both exports need it")


def nested(*, scale: bool = True, frozen: bool = False) -> Any:
    """Two convolutions in a Sequential inside of a Functional model."""
    import keras
    from keras import layers

    block = keras.Sequential(
        [
            keras.Input((16, 16, 8)),
            layers.Conv2D(16, 3, padding="same", use_bias=False, name="c2"),
            layers.BatchNormalization(name="b2"),
            layers.ReLU(name="r2"),
            layers.Conv2D(16, 3, padding="same", name="c3"),
            layers.BatchNormalization(scale=scale, name="b3"),
            layers.ReLU(name="r3"),
        ],
        name="block",
    )
    entry = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", name="c1", trainable=not frozen)(entry)
    x = layers.ReLU(name="r1")(layers.BatchNormalization(name="b1")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(block(x))
    return keras.Model(entry, layers.Dense(5, name="head")(x), name="outer")


def twin(*, frozen: bool = False) -> Any:
    """The same in PyTorch."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c2 = nn.Conv2d(8, 16, 3, padding=1, bias=False)
            self.b2 = nn.BatchNorm2d(16)
            self.c3 = nn.Conv2d(16, 16, 3, padding=1)
            self.b3 = nn.BatchNorm2d(16)

        def forward(self, x: Any) -> Any:
            return self.b3(self.c3(self.b2(self.c2(x)).relu())).relu()

    net = nn.Sequential()
    net.add_module("c1", nn.Conv2d(3, 8, 3, padding=1).requires_grad_(not frozen))
    net.add_module("b1", nn.BatchNorm2d(8))
    net.add_module("r1", nn.ReLU())
    net.add_module("block", Block())
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(16, 5))
    return net


def called_again() -> Any:
    """A model inside of a model that is called twice: its biases are equal to another's."""
    import keras
    from keras import layers

    def block(name: str, channels: int) -> Any:
        entry = keras.Input((16, 16, channels))
        x = layers.Conv2D(8, 3, padding="same", name=f"{name}_c")(entry)
        x = layers.ReLU(name=f"{name}_r")(layers.BatchNormalization(name=f"{name}_b")(x))
        return keras.Model(entry, x, name=name)

    first, second = block("first", 3), block("second", 8)
    entry = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D(name="pool")(second(second(first(entry))))
    return keras.Model(entry, layers.Dense(5, name="head")(x), name="again")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from inspector.export import export_keras, export_torch

    folder = tmp_path_factory.mktemp("across")

    def make(built: Any, name: str) -> Path:
        path = folder / f"{name}.onnx"
        if hasattr(built, "state_dict"):
            export_torch(built, path, input_shape=(1, 3, 16, 16))
        else:
            export_keras(built, path)
        return path

    return make


def weighted(path: Path) -> list[tuple[str, int]]:
    """Class and parameters of the rows of torch's style that hold any."""
    rows = table(summarise_file(path), "torch").rows
    return [(str(row[0]).rpartition("-")[0], row[-1]) for row in rows if row[-1]]


def test_a_model_inside_of_a_model_is_opened_for_those_who_know_pytorch(exported: Any) -> None:
    left, right = exported(nested(), "k"), exported(twin(), "t")
    assert weighted(left) == weighted(right)
    # Keras itself lists it as one layer.
    rows = table(summarise_file(left), "keras").rows
    assert ("block", "Sequential") in [row[:2] for row in rows]


def test_one_network_in_both_frameworks_differs_by_statistics_alone(exported: Any) -> None:
    keras, torch = nested(), twin()
    found = reconcile_files(exported(keras, "rk"), exported(torch, "rt"))
    assert found.is_explained
    assert not any(each.amounts.keras or each.amounts.torch for each in found.differences)
    printed = (keras.count_params(), sum(each.numel() for each in torch.parameters()))
    assert found.crossing is not None
    assert found.crossing.totals == printed
    (only,) = found.crossing.terms
    assert only.elements == printed[1] - printed[0] == -2 * (8 + 16 + 16)
    assert "running mean and var" in only.what


def test_a_scale_that_one_side_does_not_have(exported: Any) -> None:
    for paths in (
        (exported(nested(scale=False), "sk"), exported(twin(), "st")),
        (exported(twin(), "st"), exported(nested(scale=False), "sk")),
    ):
        found = reconcile_files(*paths)
        assert found.is_explained, found.unexplained_where
        (cause,) = [each for each in found.differences if "scale that" in each.what]
        assert abs(cause.amounts.keras) == abs(cause.amounts.torch) == 16
        assert found.crossing is not None
        start, end = found.crossing.totals
        assert start + sum(each.elements for each in found.crossing.terms) == end


def test_a_layer_called_again_stores_its_bias_once(exported: Any) -> None:
    model = called_again()
    found = summarise_file(exported(model, "again"))
    assert found.count.keras.total == model.count_params()
    assert (found.count.beyond.learned, found.count.beyond.statistics) == (0, 0)
    assert found.count.learned == sum(each.numpy().size for each in model.trainable_weights)


def test_what_is_frozen_is_not_trainable_in_keras(exported: Any) -> None:
    keras, torch = nested(frozen=True), twin(frozen=True)
    for built, name in ((keras, "fk"), (torch, "ft")):
        count = summarise_file(exported(built, name)).count
        assert count.keras.trainable == 3861 - 224
        assert count.keras.non_trainable == 80 + 224
        assert count.torch.trainable == 3861 - 224


def test_a_total_from_before_the_folding(exported: Any, tmp_path: Path) -> None:
    """Two stock exports, each with its BatchNorms folded, and what the frameworks printed."""
    import torch

    built = twin().eval()
    path = tmp_path / "stock.onnx"
    torch.onnx.export(built, (torch.zeros(1, 3, 16, 16),), path, dynamo=True, external_data=False)
    parameters = sum(each.numel() for each in built.parameters())
    for total in (parameters, parameters + 80):
        found = explain_total(path, total)
        assert found.is_explained
        assert any("swallowed" in each.what for each in found.terms)
    assert any("folded" in each for each in table(summarise_file(path), "torch").notes)
    assert not any(kind.startswith("BatchNorm") for kind, _ in weighted(path))
