"""What the stock exporters leave of BatchNorms, found, and proved against the kept export.

The networks are chains, so an operator of an exported file is told by its place alone: whatever it
is called, the third one that has weights is the third layer that has. What each exporter folds was
measured, and is written down in `LEFT`.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.export import export_keras, export_torch, source
from inspector.facts.batchnorm import Form
from inspector.facts.inspection import Inspection
from inspector.facts.traced import Fate
from inspector.flows import inspect_file
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms, load_values

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODELS = Path(__file__).resolve().parents[2] / "models"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ROUNDING = 2e-6
"""How far a slope or an intercept may be off, relative to the numbers that went into it."""

IMAGE = "image"
"""Stands for the layer before a BatchNorm that takes the input itself."""


@dataclass(frozen=True, kw_only=True)
class Left:
    """The layers whose BatchNorm is a node, is arithmetic, or went into the layer's weights."""

    native: tuple[str, ...] = ()
    affine: tuple[str, ...] = ()
    folded: tuple[str, ...] = ()

    @property
    def fates(self) -> dict[str, Fate]:
        return {
            **dict.fromkeys(self.native, Fate.KEPT),
            **dict.fromkeys(self.affine, Fate.ARITHMETIC),
            **dict.fromkeys(self.folded, Fate.FOLDED),
        }


# tf2onnx folds into a Conv that has no bias or one of zeros, as all are in a fresh Keras model;
# torch's TorchScript exporter into a Conv alone; its default one into all that is linear.
LEFT = {
    ("tf2onnx", "question"): Left(affine=("conv2d",)),
    ("tf2onnx", "stack"): Left(
        affine=(IMAGE, "biased", "up", "depth", "hidden"), folded=("bare", "zeroed", "again")
    ),
    ("tf2onnx", "fresh"): Left(
        affine=(IMAGE, "up", "depth", "hidden"), folded=("bare", "biased", "zeroed", "again")
    ),
    ("dynamo", "question"): Left(native=("conv",)),
    ("dynamo", "stack"): Left(
        native=(IMAGE,), folded=("bare", "biased", "zeroed", "again", "up", "depth", "hidden")
    ),
    ("dynamo", "fresh"): Left(
        native=(IMAGE,), folded=("bare", "biased", "zeroed", "again", "up", "depth", "hidden")
    ),
    ("TorchScript", "question"): Left(native=("conv",)),
    ("TorchScript", "stack"): Left(
        native=(IMAGE, "up", "hidden"), folded=("bare", "biased", "zeroed", "again", "depth")
    ),
    ("TorchScript", "fresh"): Left(
        native=(IMAGE, "up", "hidden"), folded=("bare", "biased", "zeroed", "again", "depth")
    ),
}
EXPORTERS = ("tf2onnx", "dynamo", "TorchScript")


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A BatchNorm as its framework has it."""

    name: str
    gamma: Any
    beta: Any
    mean: Any
    var: Any
    epsilon: float

    @property
    def four(self) -> list[Any]:
        return [self.gamma, self.beta, self.mean, self.var]

    @property
    def slope(self) -> Any:
        return self.gamma.astype(float) / np.sqrt(self.var.astype(float) + self.epsilon)

    @property
    def intercept(self) -> Any:
        return self.beta.astype(float) - self.mean.astype(float) * self.slope

    @property
    def terms(self) -> Any:
        """The size of what the intercept is the difference of."""
        return np.abs(self.beta.astype(float)) + np.abs(self.mean.astype(float) * self.slope)


class Network(NamedTuple):
    """A framework's model: layers with weights in the data's order, and the norm behind each."""

    model: Any
    layers: list[str]
    norms: dict[str, Norm]


def drawn(rng: Any, kind: str, shape: tuple[int, ...]) -> Any:
    """Values as training leaves them: no two equal, variances positive, a scale may be negative."""
    if kind == "var":
        return rng.uniform(0.3, 3.0, shape)
    if kind == "gamma":
        return rng.uniform(0.5, 1.5, shape) * np.where(np.arange(shape[0]) == 1, -1, 1)
    return rng.normal(0.0, 0.5, shape)


def question(framework: str, kind: type) -> Any:
    """The question's net of models/, small; its statistics are not those of a fresh layer."""
    where = source.parse(f"{MODELS / framework}_cnn.py:small")
    with source.opened(where, lambda each: isinstance(each, kind), "a model") as model:
        return model


def keras_stack() -> Any:
    """All convolutions have four channels, so that shapes do not tell one from another."""
    import keras
    from keras import layers as L  # noqa: N812  # as the tests of the export call it

    def normed(layer: Any) -> list[Any]:
        return [layer, L.BatchNormalization(name=f"after_{layer.name}"), L.ReLU()]

    image = x = keras.Input((8, 8, 3), name=IMAGE)
    for layer in [
        L.BatchNormalization(name=f"after_{IMAGE}"),
        *normed(L.Conv2D(4, 3, padding="same", use_bias=False, name="bare")),
        *normed(L.Conv2D(4, 3, padding="same", name="biased")),
        *normed(L.Conv2D(4, 3, padding="same", name="zeroed")),
        *(L.Conv2D(4, 3, padding="same", name="plain"), L.ReLU()),
        *normed(L.Conv2D(4, 3, padding="same", use_bias=False, name="again")),
        *normed(L.Conv2DTranspose(4, 3, name="up")),
        *normed(L.DepthwiseConv2D(3, use_bias=False, name="depth")),
        L.GlobalAveragePooling2D(),
        *normed(L.Dense(6, name="hidden")),
        L.Dense(3, name="out"),
    ]:
        x = layer(x)
    return keras.Model(image, x)


def keras_filled(model: Any, *, trained: bool) -> Any:
    """A fresh model has Keras' own zeros for biases, and nothing but its kernels is drawn."""
    rng = np.random.default_rng(7)
    kinds = {"moving_variance": "var", "gamma": "gamma"}
    for variable in model.variables:
        layer, _, name = variable.path.rpartition("/")
        if (trained and not (layer == "zeroed" and name == "bias")) or name == "kernel":
            variable.assign(drawn(rng, kinds.get(name, name), variable.shape))
    return model


def keras_network(name: str) -> Network:
    """The model, with what its layers say through `get_weights`."""
    import keras

    model = question("keras", keras.Model) if name == "question" else keras_stack()
    if name != "question":
        keras_filled(model, trained=name == "stack")
    layers, norms = [IMAGE], {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, var = layer.get_weights()
            norms[layers[-1]] = Norm(
                name=layer.name, gamma=gamma, beta=beta, mean=mean, var=var, epsilon=layer.epsilon
            )
        elif layer.weights:
            layers.append(layer.name)
    return Network(model, layers, norms)


def torch_stack() -> Any:
    """As `keras_stack`."""
    from torch import nn

    def normed(name: str, layer: Any, norm: Any) -> list[tuple[str, Any]]:
        return [(name, layer), (f"after_{name}", norm), (f"{name}_relu", nn.ReLU())]

    return nn.Sequential(
        OrderedDict(
            [
                (f"after_{IMAGE}", nn.BatchNorm2d(3)),
                *normed("bare", nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
                *normed("biased", nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
                *normed("zeroed", nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
                *(("plain", nn.Conv2d(4, 4, 3, padding=1)), ("plain_relu", nn.ReLU())),
                *normed("again", nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)),
                *normed("up", nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4)),
                *normed("depth", nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.BatchNorm2d(4)),
                ("pool", nn.AdaptiveAvgPool2d(1)),
                ("flat", nn.Flatten()),
                *normed("hidden", nn.Linear(4, 6), nn.BatchNorm1d(6)),
                ("out", nn.Linear(6, 3)),
            ]
        )
    )


def torch_filled(module: Any, *, trained: bool) -> Any:
    """A fresh module has random biases: torch draws them, too."""
    import torch

    rng = np.random.default_rng(7)
    for path, values in module.state_dict().items():
        layer, _, name = path.partition(".")
        kind = {"running_var": "var", "weight": "gamma" if values.dim() == 1 else "kernel"}
        if values.is_floating_point() and (trained or not layer.startswith("after_")):
            values.copy_(torch.from_numpy(drawn(rng, kind.get(name, name), values.shape)))
    module.zeroed.bias.data.zero_()
    return module


def torch_network(name: str) -> Network:
    """The module, with what its `state_dict` says."""
    from torch import nn

    module = question("torch", nn.Module) if name == "question" else torch_stack()
    if name != "question":
        torch_filled(module, trained=name == "stack")
        module.eval()
    layers, norms = [IMAGE], {}
    for path, layer in module.named_children():
        state = {key: values.numpy().copy() for key, values in layer.state_dict().items()}
        if "running_var" in state:
            norms[layers[-1]] = Norm(
                name=path,
                gamma=state["weight"],
                beta=state["bias"],
                mean=state["running_mean"],
                var=state["running_var"],
                epsilon=layer.eps,
            )
        elif state:
            layers.append(path)
    return Network(module, layers, norms)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.onnx prints its progress, and warns that its older exporter is the older one."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def torch_shape(network: Network) -> tuple[int, ...]:
    example = getattr(network.model, "example_input_array", None)
    return (1, 3, 8, 8) if example is None else tuple(example.shape)


def stock_export(exporter: str, network: Network, path: Path) -> None:
    """What a user runs: no option but the one that asks for the older exporter of torch."""
    with quiet():
        if exporter == "tf2onnx":
            import tf2onnx

            tf2onnx.convert.from_keras(network.model, output_path=str(path))
            return
        import torch

        options = {"dynamo": False} if exporter == "TorchScript" else {}
        torch.onnx.export(network.model, (torch.zeros(torch_shape(network)),), path, **options)


def kept_export(framework: str, network: Network, path: Path) -> None:
    """The reference: the project's own export of the same weights."""
    if framework == "keras":
        export_keras(network.model, path)
    else:
        export_torch(network.model, path, input_shape=torch_shape(network))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    """Each network is built and kept once, and exported once by each exporter."""
    folder = tmp_path_factory.mktemp("stock")

    @cache
    def reference(framework: str, name: str) -> tuple[Network, Path]:
        network = (keras_network if framework == "keras" else torch_network)(name)
        path = folder / f"{framework}_{name}_kept.onnx"
        kept_export(framework, network, path)
        return network, path

    @cache
    def exported(exporter: str, name: str) -> Any:
        framework = "keras" if exporter == "tf2onnx" else "torch"
        for each in ("keras", "tf2onnx") if framework == "keras" else ("torch", "onnxscript"):
            pytest.importorskip(each, reason="this export needs it")
        network, kept = reference(framework, name)
        stock = folder / f"{exporter}_{name}.onnx"
        stock_export(exporter, network, stock)
        return SimpleNamespace(
            stock=stock,
            kept=kept,
            norms=network.norms,
            spots=spots(stock, network.layers),
            left=LEFT[exporter, name],
        )

    return exported


def spots(path: Path, layers: list[str]) -> dict[str, str]:
    """For each node of a file, the last layer with weights that the data has passed."""
    ahead = iter(layers)
    at, found = next(ahead), {}
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        if node.op_type in WEIGHTED:
            at = next(ahead)
        assert node.name
        assert node.name not in found
        found[node.name] = at
    assert not list(ahead), "a layer is not in the file"
    return found


def node_of(said: str) -> str:
    """The last node's name, of "Mul a, Add b", "Conv c" or a bare name."""
    return said.rpartition(", ")[2].rpartition(" ")[2]


def scaled(kept: Path, norm: str, channels: slice, path: Path) -> Path:
    """The kept export with one BatchNorm's gamma larger by one percent in these channels."""
    model = onnx.load(str(kept))
    (node,) = (each for each in model.graph.node if each.name == norm)
    (stored,) = (each for each in model.graph.initializer if each.name == node.input[1])
    gamma = numpy_helper.to_array(stored).copy()
    gamma[channels] *= np.float32(1.01)
    stored.CopyFrom(numpy_helper.from_array(gamma, stored.name))
    onnx.save(model, str(path))
    return path


def fates(case: Any, against: Path) -> dict[str, tuple[Fate, str]]:
    """For each BatchNorm of a reference, by the layer before it: its fate, and where it is."""
    reference = inspect_file(case.stock, against=against).reference
    assert reference is not None
    before = {norm.name: layer for layer, norm in case.norms.items()}
    assert sorted(each.name for each in reference.traced) == sorted(before)
    return {
        before[each.name]: (each.fate, case.spots[node_of(each.where)] if each.where else "")
        for each in reference.traced
    }


def in_order(case: Any, layers: tuple[str, ...]) -> list[str]:
    return [layer for layer in case.norms if layer in layers]


@pytest.fixture(params=LEFT, ids=" ".join)
def case(request: pytest.FixtureRequest, made: Any) -> Any:
    return made(*request.param)


@pytest.fixture
def inspection(case: Any) -> Inspection:
    return inspect_file(case.stock)


def test_the_table_speaks_of_every_batchnorm(case: Any) -> None:
    assert sorted(case.left.fates) == sorted(case.norms)


def test_no_batchnorm_is_found_but_those_that_are_there(case: Any, inspection: Inspection) -> None:
    found: dict[Form, list[str]] = {}
    for each in inspection.norms:
        node = node_of(each.norm.nodes[-1]) if each.norm.nodes else each.norm.name
        found.setdefault(each.norm.form, []).append(case.spots[node])
    wanted = {Form.NATIVE: case.left.native, Form.AFFINE: case.left.affine}
    assert found == {form: in_order(case, some) for form, some in wanted.items() if some}
    assert inspection.affines == ()
    assert inspection.lookalikes == ()


def test_the_traces_are_on_what_was_folded(case: Any, inspection: Inspection) -> None:
    found = [case.spots[each.name] for each in inspection.folded]
    assert found == in_order(case, case.left.folded)


def test_what_names_a_layer_names_the_right_one(case: Any, inspection: Inspection) -> None:
    norms = [each.norm for each in inspection.norms if each.norm.nodes]
    named = [(node_of(norm.nodes[-1]), norm.name) for norm in norms]
    named += [(each.name, each.batchnorm) for each in inspection.folded if each.batchnorm]
    for node, name in named:
        assert case.norms[case.spots[node]].name in name


def test_the_numbers_are_the_frameworks(case: Any) -> None:
    model = open_model(case.stock)
    for norm in find_batchnorms(model).batchnorms:
        true = case.norms[case.spots[node_of(norm.nodes[-1]) if norm.nodes else norm.name]]
        loaded = load_values(norm, model)
        assert (np.abs(loaded.slope - true.slope) <= ROUNDING * np.abs(true.slope)).all()
        assert (np.abs(loaded.intercept - true.intercept) <= ROUNDING * true.terms).all()
        if norm.form is Form.NATIVE:
            four = (loaded.scale, loaded.bias, loaded.mean, loaded.var)
            assert [each.tobytes() for each in four] == [each.tobytes() for each in true.four]
            assert np.float32(norm.epsilon) == np.float32(true.epsilon)


def test_against_the_kept_export_every_batchnorm_is_found_in_its_place(case: Any) -> None:
    wanted = {layer: (fate, layer) for layer, fate in case.left.fates.items()}
    assert fates(case, case.kept) == wanted


def test_the_errors_are_within_what_rounding_explains(case: Any) -> None:
    reference = inspect_file(case.stock, against=case.kept).reference
    assert reference is not None
    for each in reference.traced:
        if each.fate is Fate.KEPT:
            assert each.error == 0  # the exporter copied the bits
        elif each.fate in (Fate.ARITHMETIC, Fate.FOLDED):  # the others have no numbers
            assert each.error <= each.allowed < 1e-5


@pytest.mark.parametrize(
    ("key", "layer"),
    [(key, layer) for key, left in LEFT.items() for layer in left.fates],
    ids=lambda each: each if isinstance(each, str) else " ".join(each),
)
@pytest.mark.parametrize("channels", [slice(None), slice(-1, None)], ids=["all", "last"])
def test_a_batchnorm_with_another_gamma_is_not_found(
    key: tuple[str, str], layer: str, channels: slice, made: Any, tmp_path: Path
) -> None:
    case = made(*key)
    other = scaled(case.kept, case.norms[layer].name, channels, tmp_path / "other.onnx")
    wanted = {each: (fate, each) for each, fate in case.left.fates.items()}
    assert fates(case, other) == {**wanted, layer: (Fate.MISSING, "")}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_text_says_what_became_of_them_and_what_to_do(
    exporter: str, made: Any, run: Any
) -> None:
    case = made(exporter, "stack")
    ran = run(case.stock, "--against", case.kept, columns=200)
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    text = " ".join(lines)
    assert any(line.startswith("Probably folded") for line in lines)
    assert any(line.startswith("Against ") for line in lines)
    counts = f"{len(case.left.folded)} folded"
    assert any(line.startswith("8 BatchNorms: ") and counts in line for line in lines)
    for layer in case.left.folded:
        assert any(line.startswith(f"after_{layer} folded into ") for line in lines)
    again = "keras" if exporter == "tf2onnx" else "torch"
    assert f"to keep them, export again with `bninspect export {again}`" in text


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_convolution_without_batchnorm_is_named_nowhere(
    exporter: str, made: Any, run: Any
) -> None:
    case = made(exporter, "stack")
    (plain,) = (
        node.name
        for node in onnx.load(str(case.stock), load_external_data=False).graph.node
        if node.op_type == "Conv" and case.spots[node.name] == "plain"
    )
    assert plain not in run(case.stock, "--against", case.kept, columns=500).out
    assert plain not in run(case.stock, columns=500).out
