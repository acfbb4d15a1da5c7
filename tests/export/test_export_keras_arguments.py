"""What a Keras model is called with, and what its inputs and outputs are called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspector.errors import UnreadableError
from inspector.export import export_keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras", reason="this export needs it")
pytest.importorskip("tf2onnx", reason="this export needs it")
L = keras.layers

SOURCE = """
import keras, numpy as np
from keras import layers as L

class Two(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.ids = (L.BatchNormalization(name=n) for n in "abc")
        self.table = L.Embedding(7, 6)

    def call(self, a, b=None, ids=None, training=None, mask=None):
        x = self.first(a)
        if b is not None:
            x = x + self.second(b) * 3.0
        if ids is not None:
            x = x + self.ids(self.table(ids))
        return x

def made(*args, **kwargs):
    model = Two()
    model(*args, **kwargs)
    rng = np.random.default_rng(1)
    for each in model.weights:
        each.assign(rng.uniform(0.5, 1.5, each.shape).astype("f4"))
    return model

ones = np.ones((2, 6), "f4")
def alone(): return made(ones)
def by_position(): return made(ones, ones)
def by_name(): return made(ones, b=ones)
def past_one(): return made(ones, ids=np.zeros((2,), "i4"))
def never(): return Two()
"""


@pytest.fixture
def source(tmp_path: Path) -> Any:
    (tmp_path / "net.py").write_text(SOURCE)
    return lambda name: f"{tmp_path / 'net.py'}:{name}"


@pytest.mark.parametrize(
    ("name", "shapes", "norms", "left_out"),
    [
        ("alone", None, ["a"], ["b", "ids"]),
        ("by_position", None, ["a", "b"], ["ids"]),
        ("by_name", None, ["a", "b"], ["ids"]),
        ("past_one", None, ["a", "c"], ["b"]),
        ("by_position", [(2, 6), (2, 6)], ["a", "b"], ["ids"]),
        ("never", (2, 6), ["a"], ["b", "ids"]),
        ("never", [(2, 6), (2, 6)], ["a", "b"], ["ids"]),
    ],
)
def test_inputs_that_a_call_may_leave_out(
    name: str,
    shapes: Any,
    norms: list[str],
    left_out: list[str],
    source: Any,
    read: Any,
    tmp_path: Path,
) -> None:
    made = export_keras(source(name), tmp_path / "x.onnx", input_shape=shapes)
    assert sorted(each.source for each in made.manifest.batchnorms) == norms
    inputs = read(made.path).model.graph.input
    assert len(inputs) == len(norms)
    # Token ids stay what they were called with: integers.
    assert [each.type.tensor_type.elem_type for each in inputs] == [1, 6 if "c" in norms else 1][
        : len(norms)
    ]
    (note,) = made.notes
    assert note.startswith(f"call's optional {', '.join(map(repr, left_out))} ")


def test_two_inputs_really_count(source: Any, run: Any, tmp_path: Path) -> None:
    made = export_keras(source("by_position"), tmp_path / "x.onnx")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 6)).astype("f4")
    (one,) = run(made.path, {"input_0": a, "input_1": b})
    (other,) = run(made.path, {"input_0": a, "input_1": b + 1})
    assert np.abs(one - other).min() > 0.1


def test_a_model_that_is_no_source(tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    exec(SOURCE, space)  # noqa: S102  # this test's own code
    model = space["by_position"]()
    made = export_keras(model, tmp_path / "x.onnx")
    assert "'b', 'ids' are left out" in made.notes[0]
    made = export_keras(model, tmp_path / "y.onnx", input_shape=[(2, 6), (2, 6)])
    assert len(made.manifest.batchnorms) == 2


class Several(keras.Model):
    """Takes and gives dicts, or whatever it is asked for."""

    def __init__(self, give: Any) -> None:
        super().__init__()
        self.norm, self.give = L.BatchNormalization(), give

    def call(self, inputs: Any) -> Any:
        return self.give(self.norm(inputs["x"]), inputs["x"])


@pytest.mark.parametrize(
    ("give", "names"),
    [
        (lambda y, x: {"z": y, "b": x + 1}, ["b", "z"]),
        (lambda y, x: {"z": [y, {"k": x * 2}], "b": x}, ["b", "z_0", "z_1_k"]),
        (lambda y, x: [y, {"k": x * 2}], ["output_0", "output_1_k"]),
        (lambda y, x: (y, x * 2), ["output_0", "output_1"]),
        (lambda y, x: {"y": y, "again": y, "loss": None}, ["again", "y"]),
        (lambda y, x: {"x": y}, ["x_1"]),
        (lambda y, x: y, ["output"]),
    ],
)
def test_outputs_are_called_like_their_keys(
    give: Any, names: list[str], fill: Any, read: Any, run: Any, tmp_path: Path
) -> None:
    model = Several(give)
    model({"x": np.zeros((2, 6), "f4")})
    made = export_keras(fill(model), tmp_path / "x.onnx")
    graph = read(made.path).model.graph
    assert [each.name for each in graph.input] == ["x"]
    assert [each.name for each in graph.output] == names
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("f4")
    wanted = [each for each in keras.tree.flatten(model({"x": x})) if each is not None]
    for got, each in zip(run(made.path, {"x": x}), wanted, strict=True):
        assert np.allclose(got, each, atol=1e-5)


def test_keys_of_a_functional_model(fill: Any, read: Any, run: Any, tmp_path: Path) -> None:
    a, b = keras.Input((6,), name="p"), keras.Input((4,), name="q")
    x, y = L.BatchNormalization(name="n")(L.Dense(3)(a)), L.Dense(3)(b)
    model = fill(keras.Model({"p": a, "q": b}, {"z": x, "s": L.Add(name="sum")([x, y])}))
    made = export_keras(model, tmp_path / "x.onnx")
    graph = read(made.path).model.graph
    assert [each.name for each in graph.input] == ["p", "q"]
    assert [each.name for each in graph.output] == ["s", "z"]
    feeds = {"p": np.ones((2, 6), "f4"), "q": np.ones((2, 4), "f4")}
    wanted = model(feeds, training=False)
    got = dict(zip(["s", "z"], run(made.path, feeds), strict=True))
    assert all(np.allclose(got[key], wanted[key], atol=1e-5) for key in wanted)


def test_layers_name_what_has_no_key(fill: Any, read: Any, tmp_path: Path) -> None:
    a = keras.Input((6,), name="a")
    x = L.BatchNormalization(name="n")(a)
    model = fill(keras.Model(a, [L.Dense(2, name="d")(x), {"k": x}]))
    made = export_keras(model, tmp_path / "x.onnx")
    assert [each.name for each in read(made.path).model.graph.output] == ["d", "output_1_k"]


def test_an_output_that_is_no_tensor(tmp_path: Path) -> None:
    model = Several(lambda y, x: (y, 3.0))
    model({"x": np.zeros((2, 6), "f4")})
    with pytest.raises(UnreadableError, match=r"among its outputs is 3\.0, which is no tensor"):
        export_keras(model, tmp_path / "x.onnx")


def test_tf_keras_records_every_argument(read: Any, tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="this model is of it")

    class Two(tf_keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = tf_keras.layers.BatchNormalization()
            self.second = tf_keras.layers.BatchNormalization()

        def call(self, a: Any, b: Any = None, c: Any = None, training: Any = None) -> Any:
            x = self.first(a, training=training)
            x = x if b is None else x + self.second(b, training=training)
            return {"q": x if c is None else x * c, "p": x}

    given = np.ones((2, 6), "f4")
    for args, kwargs, count, norms in (
        ((given,), {}, 1, 1),
        ((given, given), {}, 2, 2),
        ((given,), {"b": given}, 2, 2),
        ((given, None, given), {}, 2, 1),
        ((given,), {"c": given}, 2, 1),
    ):
        model = Two()
        model(*args, **kwargs)
        made = export_keras(model, tmp_path / "x.onnx")
        graph = read(made.path).model.graph
        assert (len(graph.input), len(made.manifest.batchnorms)) == (count, norms)
        assert [each.name for each in graph.output] == ["p", "q"]
        assert "left out" in made.notes[0]
