"""PyTorch's totals and layer table, from what its exporters write, against the module itself.

What an exporter does to a network was measured and is written down in `HELD`. From that and the
module alone follows, to the element, what a count of the file has to be: nothing may be left over.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.count.tables import STYLES, table
from inspector.facts.count import Count, CountedTensor, Role
from inspector.facts.manifest import KEY
from inspector.facts.summary import Source, Summary
from inspector.facts.table import Table
from inspector.facts.traced import Fate
from inspector.flows import inspect_file, summarise_file

MODELS = Path(__file__).resolve().parents[2] / "models"
STATES = ("trained", "fresh")
EXPORTERS = ("kept", "bare", "dynamo", "TorchScript", "unfolded")
"""Ours with its manifest and without, torch's two as they are, and the older one told to keep."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """How a file differs from the module it was made from, in names of the module's state.

    Attributes
    ----------
    folded
        BatchNorms that are in the weights of the layer before them, in all their calls.
    gone
        What the file does not hold: `forward` does not use it, or the exporter computed with it.
    again
        What counts twice: the file holds it twice, or does not tell two calls from two layers.
    untold
        Elements of unknown role; the note of the count says how many.
    constant
        Buffers that look like any number the exporter may have written.
    """

    folded: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()


ALL = Held()
"""Every parameter and every statistic, each once."""

RESNET = Held(
    folded=(
        "bn1",
        *("layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1", "layer2.0.bn2", "layer2.0.downsample.1"),
        *("layer2.1.bn1", "layer2.1.bn2"),
    )
)
MOBILENET = Held(
    folded=("1", *(f"{block}.conv.{at}" for block in (3, 4) for at in (1, 4, 7))),
)
DENSENET = Held(folded=("1", "3.norm2", "4.norm2"))
FIRST = Held(folded=("1",))
STATE = ("weight", "bias", "running_mean", "running_var")
IDLE = Held(
    gone=("lonely", "idle.weight", "idle.bias", *(f"idle_bn.{each}" for each in STATE)),
)
LOOKED_UP = ("kind.weight",)
"""An embedding of fixed numbers: the exporters look them up, and write down what they found."""

# TorchScript notes no kinds: a buffer is known by its use alone, and a single number is a number.
HELD: dict[str, dict[str, Held]] = {
    "resnet": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": RESNET, "TorchScript": RESNET},
    "densenet": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": DENSENET, "TorchScript": DENSENET},
    "mobilenet": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": MOBILENET, "TorchScript": MOBILENET},
    "conv1d": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": FIRST, "TorchScript": FIRST},
    "conv3d": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": FIRST, "TorchScript": FIRST},
    "no_affine": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": FIRST, "TorchScript": FIRST},
    "upwards": dict.fromkeys(EXPORTERS, ALL)
    | {"dynamo": Held(folded=("1", "4")), "TorchScript": FIRST},
    "linear": dict.fromkeys(EXPORTERS, ALL) | {"dynamo": Held(folded=("1", "4"))},
    "tied": dict.fromkeys(EXPORTERS, ALL),
    "lstm": dict.fromkeys(EXPORTERS, ALL),
    "embedding": dict.fromkeys(EXPORTERS, ALL),
    "transformer": dict.fromkeys(EXPORTERS, ALL),
    "group_norm": dict.fromkeys(EXPORTERS, ALL),
    "twice": dict.fromkeys(EXPORTERS, ALL),  # one call is folded, the other holds all
    "unused": dict.fromkeys(EXPORTERS, IDLE) | {"kept": ALL},  # the manifest counts them
    "buffers": {
        "kept": ALL,
        "bare": ALL,
        "dynamo": Held(untold=LOOKED_UP, gone=("numbers",)),
        "TorchScript": Held(untold=("waves", "factor", *LOOKED_UP), gone=("numbers",)),
        "unfolded": Held(untold=("waves", "numbers", "factor")),
    },
}

# Where the ones and zeros of a fresh network make a difference.
HELD_FRESH: dict[tuple[str, str], Held] = {
    # A bias of zeros is added nowhere.
    ("transformer", "dynamo"): Held(gone=("attention.out_proj.bias",)),
    # The second call of `bn` is under `bn_1`, as would be another layer of that name.
    ("twice", "unfolded"): Held(again=tuple(f"bn.{each}" for each in STATE)),
}

NETWORKS = tuple(HELD)
CASES = [(name, exporter, state) for name in NETWORKS for exporter in EXPORTERS for state in STATES]


def held(name: str, exporter: str, state: str) -> Held:
    usual = HELD[name][exporter]
    return HELD_FRESH.get((name, exporter), usual) if state == "fresh" else usual


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.onnx prints its progress, and warns that its older exporter is the older one."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stock_export(exporter: str, module: Any, inputs: tuple[Any, ...], path: Path) -> None:
    import torch

    options: dict[str, Any] = {}
    if exporter != "dynamo":
        options["dynamo"] = False
    if exporter == "unfolded":
        options |= {
            "training": torch.onnx.TrainingMode.PRESERVE,
            "do_constant_folding": False,
        }
    with quiet():
        torch.onnx.export(module, inputs, path, **options)


def without_manifest(kept: Path, path: Path) -> None:
    model = onnx.load(str(kept))
    (entry,) = [each for each in model.metadata_props if each.key == KEY]
    model.metadata_props.remove(entry)
    onnx.save(model, str(path))


@pytest.fixture(scope="module")
def networks() -> Any:
    """The networks, where there is a PyTorch to build them with."""
    pytest.importorskip("torch", reason="these networks are PyTorch's")
    pytest.importorskip("onnxscript", reason="torch exports with it")
    import torch_networks

    return torch_networks


@pytest.fixture(scope="module")
def exported(networks: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Each network is exported once in each state by each exporter."""
    folder = tmp_path_factory.mktemp("count_torch")

    @cache
    def export(name: str, exporter: str, state: str) -> Path:
        from inspector.export import export_torch

        path = folder / f"{name}_{state}_{exporter}.onnx"
        module, inputs = networks.made(name, state)
        if exporter == "kept":
            export_torch(module, path)
        elif exporter == "bare":
            without_manifest(export(name, "kept", state), path)
        else:
            stock_export(exporter, module, inputs, path)
        return path

    return export


@pytest.fixture(scope="module")
def inspected(networks: Any, exported: Callable[..., Path]) -> Callable[..., Any]:
    """A file inspected against the kept one, with the module that it was made from."""

    @cache
    def inspect(name: str, exporter: str, state: str) -> Any:
        path, kept = exported(name, exporter, state), exported(name, "kept", state)
        module, inputs = networks.made(name, state)
        inspection = inspect_file(path, against=kept)
        assert inspection.reference is not None
        manifest = inspect_file(kept).manifest
        assert manifest is not None
        layers = {each.node: each.source for each in manifest.batchnorms}
        graph = onnx.load(str(path)).graph
        aliases = {
            each.output[0]: each.input[0] for each in graph.node if each.op_type == "Identity"
        }
        return SimpleNamespace(
            count=inspection.count,
            traced=[(layers[each.name], each) for each in inspection.reference.traced],
            module=module,
            inputs=inputs,
            state={
                name: values
                for name, values in (*module.named_parameters(), *module.named_buffers())
                if not name.endswith("num_batches_tracked")
            },
            nodes={each.name: each for each in graph.node},
            # TorchScript stores equal tensors once, and calls them by more names.
            called=lambda name: aliases.get(name, name),
            stored={each.name: numpy_helper.to_array(each) for each in graph.initializer},
        )

    return inspect


def layers_in_front(module: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """For each BatchNorm the layer whose output it was given at first, as the module runs."""
    made: dict[int, Any] = {}
    kept_alive: list[Any] = []
    found: dict[str, Any] = {}
    paths = {each: path for path, each in module.named_modules()}

    def hook(layer: Any, given: Any, output: Any) -> None:
        if hasattr(layer, "running_mean"):
            found.setdefault(paths[layer], made.get(id(given[0])))
        made[id(output)] = layer
        kept_alive.append(output)

    leaves = [each for each in module.modules() if not list(each.children())]
    hooks = [each.register_forward_hook(hook) for each in leaves]
    module(*inputs)
    for each in hooks:
        each.remove()
    return found


def elements(file: Any, names: tuple[str, ...]) -> tuple[int, int]:
    """Elements of parameters and of buffers among `names`."""
    parameters = dict(file.module.named_parameters())
    sizes = [(each in parameters, file.state[each].numel()) for each in names]
    return sum(size for is_one, size in sizes if is_one), sum(
        size for is_one, size in sizes if not is_one
    )


def folded(file: Any) -> set[str]:
    """BatchNorms that are folded in every call, as `against` tells."""
    fates: dict[str, set[Fate]] = {}
    for layer, each in file.traced:
        fates.setdefault(layer, set()).add(each.fate)
    assert all(fate <= {Fate.KEPT, Fate.FOLDED} for fate in fates.values())
    return {layer for layer, fate in fates.items() if fate == {Fate.FOLDED}}


def written_biases(file: Any) -> dict[str, int]:
    """Biases that folding added, with the length that the layer's module gives them."""
    fronts = layers_in_front(file.module, file.inputs)
    found = {}
    for layer, each in file.traced:
        if each.fate is Fate.FOLDED and fronts[layer].bias is None:
            kind, _, name = each.where.partition(" ")
            node = file.nodes[name]
            assert node.op_type == kind
            if len(node.input) > 2:
                channels = file.module.get_submodule(layer).num_features
                assert file.stored[file.called(node.input[2])].shape == (channels,)
                found[name] = channels
    return found


def expected(file: Any, wanted: Held) -> tuple[int, int]:
    """What the file holds of `parameters()` and of the buffers, by arithmetic from the module."""
    learned = sum(each.numel() for each in file.module.parameters())
    statistics = sum(
        each.numel()
        for name, each in file.module.named_buffers()
        if not name.endswith("num_batches_tracked")
    )
    for names, sign in (
        (wanted.gone, -1),
        (wanted.untold, -1),
        (wanted.constant, -1),
        (wanted.again, +1),
    ):
        parameters, buffers = elements(file, names)
        learned += sign * parameters
        statistics += sign * buffers
    for path in wanted.folded:
        layer = file.module.get_submodule(path)
        learned -= 2 * layer.num_features if layer.affine else 0
        statistics -= 2 * layer.num_features
    return learned + sum(written_biases(file).values()), statistics


def of_name(count: Count, name: str) -> CountedTensor:
    (found,) = [each for each in count.tensors if name in (each.value, each.tensor.name)]
    return found


@pytest.mark.parametrize(("name", "exporter", "state"), CASES)
def test_parameters_and_buffers(inspected, name, exporter, state):
    """Both totals are the module's own, but for what is written down; nothing is left over."""
    file, wanted = inspected(name, exporter, state), held(name, exporter, state)
    assert folded(file) == set(wanted.folded)
    totals = file.count.torch
    assert (totals.parameters, totals.buffers) == expected(file, wanted)


@pytest.mark.parametrize(("name", "exporter", "state"), CASES)
def test_what_cannot_be_told_is_listed(inspected, name, exporter, state):
    """Unknown are the tensors that are written down, and no other; each of their roles is said."""
    file, wanted = inspected(name, exporter, state), held(name, exporter, state)
    count = file.count
    unknown = [each.tensor for each in count.tensors if each.role is Role.UNKNOWN]
    shapes = [tuple(file.state[each].shape) for each in wanted.untold]
    assert sorted(each.dims for each in unknown) == sorted(shapes)
    assert count.unknown == sum(elements(file, wanted.untold))
    for each in wanted.constant:
        assert of_name(count, each).role is Role.CONSTANT
    for each in wanted.gone:
        assert each not in {one.value for one in count.tensors}
    for each in wanted.again:
        assert stands_twice(file, each)
    doubtful = [each for each in count.tensors if each.doubt]
    zeros = zero_biases(file)
    assert {id(each) for each in doubtful} <= {id(each) for each in zeros}
    # Two layers' ones and zeros are told to be merged; else they are in doubt.
    assert all(each.doubt or each.again for each in zeros)
    assert all(repr(each.value) in "".join(count.notes) for each in zeros)


def stands_twice(file: Any, name: str) -> bool:
    """Whether the count says that a tensor counts again, or the file holds it transposed too."""
    values = file.state[name].detach().numpy()
    same = [
        key
        for key, each in file.stored.items()
        if each.shape in (values.shape, values.shape[::-1])
        and (np.array_equal(each, values) or np.array_equal(each.T, values))
    ]
    return len(same) == 2 or any(of_name(file.count, each).again for each in same)


def zero_biases(file: Any) -> list[CountedTensor]:
    """What stores the biases that folding a fresh BatchNorm added: all zeros."""
    names = {file.called(file.nodes[each].input[2]) for each in written_biases(file)}
    return [of_name(file.count, each) for each in names if not file.stored[each].any()]


@pytest.mark.parametrize(("name", "exporter", "state"), CASES)
def test_roles_of_tensors_that_keep_their_name(inspected, name, exporter, state):
    """What is stored under a name of the module has the role that it has there."""
    file, wanted = inspected(name, exporter, state), held(name, exporter, state)
    parameters = {key for key, _ in file.module.named_parameters(remove_duplicate=False)}
    buffers = {key for key, _ in file.module.named_buffers()}
    roles = dict.fromkeys(parameters, Role.LEARNED) | dict.fromkeys(buffers, Role.STATISTIC)
    roles |= dict.fromkeys(wanted.untold, Role.UNKNOWN)
    roles |= dict.fromkeys(wanted.constant, Role.CONSTANT)
    found = {each.value: each.role for each in file.count.tensors if each.value in roles}
    assert found == {each: roles[each] for each in found}
    stored = sum(each.size for key, each in file.stored.items() if key in parameters)
    assert bool(found) == bool(stored)


@pytest.mark.parametrize(("name", "exporter", "state"), CASES)
def test_steps(inspected, name, exporter, state):
    """One `num_batches_tracked` for each layer that the file still has."""
    file, wanted = inspected(name, exporter, state), held(name, exporter, state)
    layers = [
        path
        for path, each in file.module.named_modules()
        if getattr(each, "num_batches_tracked", None) is not None
    ]
    left = [
        each
        for each in layers
        if each not in wanted.folded and f"{each}.running_mean" not in wanted.gone
    ]
    twice = sum(each.endswith("running_mean") for each in wanted.again)
    assert file.count.torch.num_batches_tracked == len(left) + twice


def test_folding_takes_two_of_each_channel_and_gives_one_bias(inspected):
    """The gap of a folded ResNet, by hand: 8 BatchNorms with 3 · 8 + 5 · 16 channels, no biases."""
    for exporter in ("dynamo", "TorchScript"):
        kept = inspected("resnet", "kept", "trained").count.torch
        stock = inspected("resnet", exporter, "trained").count.torch
        assert (kept.parameters, kept.buffers, kept.num_batches_tracked) == (10_898, 208, 8)
        assert stock.parameters == 10_898 - 2 * 104 + 104
        assert (stock.buffers, stock.num_batches_tracked) == (0, 0)


@pytest.mark.parametrize("exporter", ["kept", "bare", "unfolded"])
@pytest.mark.parametrize(
    ("name", "shared"),
    [("tied", ["table.weight"]), ("twice", [f"bn.{each}" for each in STATE])],
)
def test_what_is_shared_counts_once_and_is_said(inspected, name, shared, exporter):
    count = inspected(name, exporter, "trained").count
    assert [each.value for each in count.tensors if each.layers > 1] == shared
    assert all(each.layers == 2 and not each.again for each in count.tensors if each.layers > 1)
    (note,) = [each for each in count.notes if "shared by several operators" in each]
    assert all(repr(each) in note for each in shared)


def test_what_was_merged_is_said(inspected):
    """Fresh, a BatchNorm's ones are both scale and variance, its zeros both bias and mean."""
    count = inspected("conv3d", "unfolded", "fresh").count
    merged = {each.value: each.again for each in count.tensors if each.again}
    assert merged == {"1.weight": (Role.STATISTIC,), "1.bias": (Role.STATISTIC,)}
    assert count.merged == 8
    (note,) = [each for each in count.notes if "merged equal tensors" in each]
    assert "'1.weight', '1.bias'" in note


# The layer table beside torchinfo's and torchsummary's.


@pytest.fixture(scope="module")
def summarised(exported: Callable[..., Path]) -> Callable[..., Summary]:
    return cache(lambda *case: summarise_file(exported(*case)))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a summary; the batch aside."""

    name: str
    kind: str
    dims: tuple[int, ...]
    learned: int


LEAVES_NO_NODE = ("Dropout",)


@pytest.fixture(scope="module")
def told_by_torchinfo(networks: Any) -> Callable[[str], list[Line]]:
    """What torchinfo prints of the modules that contain none, each parameter counted once."""
    torchinfo = pytest.importorskip("torchinfo", reason="the table beside ours")

    @cache
    def told(name: str) -> list[Line]:
        module, inputs = networks.made(name, "trained")
        paths = {each: path for path, each in module.named_modules()}
        listed = torchinfo.summary(module, input_data=list(inputs), depth=9, verbose=0)
        rows = listed.summary_list
        seen: set[int] = set()
        found = []
        for row, behind in zip(rows, [*rows[1:], None], strict=True):
            if behind is not None and behind.depth > row.depth:
                continue
            parameters = {id(each): each.numel() for each in row.module.parameters()}
            assert row.num_params == sum(parameters.values())
            own = sum(size for key, size in parameters.items() if key not in seen)
            seen |= parameters.keys()
            found.append(
                Line(
                    name=paths[row.module],
                    kind=row.class_name,
                    dims=tuple(row.output_size[1:]),
                    learned=own,
                )
            )
        return [each for each in found if each.kind not in LEAVES_NO_NODE]

    return told


def lines(given: Table) -> list[Line]:
    found = []
    for kind, name, dims, learned in given.rows:
        assert isinstance(kind, str)
        assert isinstance(name, str)
        assert isinstance(learned, int)
        assert dims in (None, "") or isinstance(dims, tuple)
        told = dims if isinstance(dims, tuple) else ()
        shape = tuple(each for each in told[1:] if isinstance(each, int))
        found.append(Line(name=name, kind=re.sub(r"-\d+$", "", kind), dims=shape, learned=learned))
    return found


# Without notes a class is known by its operators alone, and a layer by the scope of its call.
NAMED_OTHERWISE: dict[str, dict[str, dict[str, str]]] = {
    "transformer": {"attention": {"kind": "Linear"}},
}
SECOND_CALLS = {
    "twice": {"bn_1": "bn"},
    "resnet": {f"layer{each}.relu_1": f"layer{each}.relu" for each in ("1.0", "2.0", "2.1")},
}


@pytest.mark.parametrize(
    ("name", "exporter"),
    [(name, exporter) for name in NETWORKS for exporter in ("kept", "bare", "unfolded")],
)
def test_layers_are_those_of_torchinfo(summarised, told_by_torchinfo, name, exporter):
    """Class, shape and parameters of each module in order; operations and containers aside."""
    summary = summarised(name, exporter, "trained")
    wanted = told_by_torchinfo(name)
    found = lines(table(summary, "torch"))
    if exporter == "unfolded":
        assert summary.source is Source.NAMES
        changes = NAMED_OTHERWISE.get(name, {})
        wanted = [replace(each, **changes.get(each.name, {})) for each in wanted]
        calls = SECOND_CALLS.get(name, {})
        found = [replace(each, name=calls.get(each.name, each.name)) for each in found]
    leaves = {each.name for each in wanted}
    assert [each for each in found if each.name in leaves] == wanted
    assert all(not each.learned for each in found if each.name and each.name not in leaves)


FAILS_IN_TORCHSUMMARY = {
    "tied": "Expected tensor for argument #1 'indices'",  # it feeds fractions
    "embedding": "Expected tensor for argument #1 'indices'",
    "buffers": "Expected tensor for argument #1 'indices'",
    "lstm": "'tuple' object has no attribute 'size'",
    "transformer": "'NoneType' object has no attribute 'size'",
}
COUNTS_OTHERWISE = {"twice": +12, "unused": -26}
"""torchsummary counts a layer again that is called again, and none that is never called."""


@pytest.fixture(scope="module")
def printed_by_torchsummary(networks: Any) -> Callable[..., Any]:
    """What torchsummary prints: rows and totals."""
    pytest.importorskip("torchsummary", reason="the table beside ours")
    from torchsummary import summary

    @cache
    def printed(name: str) -> Any:
        module, inputs = networks.made(name, "trained")
        return parsed(lambda: summary(module, tuple(inputs[0].shape[1:]), device="cpu"))

    return printed


def parsed(prints: Callable[[], None]) -> Any:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        prints()
    text = out.getvalue()
    rows = re.findall(r"^ *(\w+)-\d+ +\[-1, ([\d, ]+)\] +([\d,]+)$", text, re.MULTILINE)
    assert len(rows) == text.split("=\n")[1].count("-1,")
    return SimpleNamespace(
        rows=[
            (kind, tuple(map(int, dims.split(", "))), int(size.replace(",", "")))
            for kind, dims, size in rows
        ],
        totals=dict(re.findall(r"^(.+): ([\d.,]+)$", text, re.MULTILINE)),
    )


MEGABYTES = ("Input size (MB)", "Forward/backward pass size (MB)", "Params size (MB)")


@pytest.mark.parametrize("exporter", ["kept", "bare"])
@pytest.mark.parametrize("name", [each for each in NETWORKS if each not in FAILS_IN_TORCHSUMMARY])
def test_table_is_that_of_torchsummary(
    networks, summarised, printed_by_torchsummary, name, exporter
):
    """All rows, also of modules that contain others, and all totals, in MB also unrounded."""
    theirs = printed_by_torchsummary(name)
    ours = table(summarised(name, exporter, "trained"), "torch")
    seen: set[str] = set()
    rows = []
    for each in lines(ours):
        if each.kind != "(in no layer)" and each.dims:
            rows.append((each.kind, each.dims))
            seen.add(each.name)
    assert rows == [row[:2] for row in theirs.rows if row[0] not in LEAVES_NO_NODE]

    module, inputs = networks.made(name, "trained")
    whole = sum(each.numel() for each in module.parameters())
    assert sum(row[2] for row in theirs.rows) == whole + COUNTS_OTHERWISE.get(name, 0)
    if (name, exporter) == ("unused", "bare"):
        whole -= 26
    totals = dict(ours.totals)
    assert totals["Total params"] == totals["Trainable params"] == whole
    assert totals["Non-trainable params"] == 0

    passing = sum(np.prod(row[1]) for row in theirs.rows if row[0] not in LEAVES_NO_NODE)
    sizes = (inputs[0][0].numel(), 2 * passing, whole)
    for key, size in zip(MEGABYTES, sizes, strict=True):
        assert totals[key] == pytest.approx(size * 4 / 1024**2, rel=1e-12)
    assert totals["Estimated Total Size (MB)"] == pytest.approx(sum(sizes) * 4 / 1024**2, rel=1e-12)
    for key in (*MEGABYTES, "Estimated Total Size (MB)"):
        assert f"{totals[key]:.2f}" == theirs.totals[key]


@pytest.mark.parametrize("name", FAILS_IN_TORCHSUMMARY)
def test_torchsummary_fails_on_the_others(printed_by_torchsummary, name):
    """So that none is left out that could be held against it."""
    with pytest.raises((RuntimeError, AttributeError)) as error:
        printed_by_torchsummary(name)
    assert FAILS_IN_TORCHSUMMARY[name] in str(error.value)


@pytest.mark.parametrize(
    "name", ["conv1d", "conv3d", "no_affine", "upwards", "linear", "group_norm"]
)
def test_sizes_without_notes(summarised, printed_by_torchsummary, name):
    """TorchScript's names alone: the same sizes, where all that is done is done by modules.

    Modules that contain others are rows of torchsummary, and names do not tell their class.
    """
    theirs = printed_by_torchsummary(name)
    ours = dict(table(summarised(name, "unfolded", "trained"), "torch").totals)
    assert ours["Total params"] == int(theirs.totals["Total params"].replace(",", ""))
    for key in (*MEGABYTES, "Estimated Total Size (MB)"):
        assert f"{ours[key]:.2f}" == theirs.totals[key]


@pytest.mark.parametrize(("name", "exporter", "state"), CASES)
def test_columns_add_up(summarised, name, exporter, state):
    for style in STYLES:
        adds_up(table(summarised(name, exporter, state), style))


def adds_up(given: Table) -> None:
    """The last column's sum is the first total, and the other totals are parts of it."""
    column = [row[-1] for row in given.rows]
    assert all(isinstance(each, int) for each in column)
    (_, total), *rest = given.totals
    assert sum(column) == total
    parts = {"keras": rest, "torch": rest[:2], "onnx": rest}[given.style]
    assert sum(size for _, size in parts) == total


# The question's own network in its own size.

QUESTION = {
    "Total params": 13_108_694,
    "Trainable params": 13_108_694,
    "Non-trainable params": 0,
    "Input size (MB)": "0.02",
    "Forward/backward pass size (MB)": "4.00",
    "Params size (MB)": "50.01",
    "Estimated Total Size (MB)": "54.02",
}
IN_KERAS = {
    "Total params": 13_108_758,
    "Trainable params": 13_108_694,
    "Non-trainable params": 64,
}


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Summary]:
    """The question's network from each framework; its file of 52 MB is written once."""
    folder = tmp_path_factory.mktemp("question")

    @cache
    def summary(framework: str) -> Summary:
        from inspector import export

        pytest.importorskip(framework, reason="the network is to be built with it")
        exporter = {"torch": "onnxscript", "keras": "tf2onnx"}[framework]
        pytest.importorskip(exporter, reason="the framework exports with it")
        path = folder / f"{framework}.onnx"
        source = f"{MODELS / framework}_cnn.py:cnn"
        (export.export_torch if framework == "torch" else export.export_keras)(source, path)
        found = summarise_file(path)
        path.unlink()
        return found

    return summary


def weights(given: Table) -> list[int]:
    return [row[-1] for row in given.rows if row[-1]]


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_question_in_torch_style(question, framework):
    given = table(question(framework), "torch")
    assert weights(given) == [320, 64, 13_107_300, 1_010]
    totals = {key: f"{size:.2f}" if isinstance(size, float) else size for key, size in given.totals}
    assert totals == QUESTION
    adds_up(given)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_question_in_keras_style(question, framework):
    given = table(question(framework), "keras")
    assert weights(given) == [320, 128, 13_107_300, 1_010]
    assert dict(given.totals) == IN_KERAS
    adds_up(given)


def test_question_row_by_row(question):
    """As torchsummary prints the question's network, and Keras the same one."""
    pytest.importorskip("torchsummary", reason="the table beside ours")
    from torchsummary import summary

    from inspector.export import source

    where = source.parse(f"{MODELS / 'torch'}_cnn.py:cnn")
    with source.opened(where, lambda each: hasattr(each, "parameters"), "a module") as module:
        theirs = parsed(lambda: summary(module, (1, 64, 64), device="cpu"))
    given = table(question("torch"), "torch")
    rows = [(each.kind, each.dims, each.learned) for each in lines(given)]
    assert rows == theirs.rows
    assert [row[0] for row in given.rows] == [
        "Conv2d-1",
        "ReLU-2",
        "BatchNorm2d-3",
        "Flatten-4",
        "Linear-5",
        "Linear-6",
    ]
    totals = {
        key: f"{size:.2f}" if isinstance(size, float) else f"{size:,}" for key, size in given.totals
    }
    assert totals == theirs.totals


def test_question_in_keras_row_by_row(question):
    """The layers of `model.summary()`, the batch and shapes as Keras has them."""
    given = table(question("keras"), "keras")
    rows = [row[:1] + row[2:] if row[1] == "InputLayer" else row for row in given.rows]
    assert rows == [
        ("image", (None, 64, 64, 1), 0),
        ("conv2d", "Conv2D", (None, 64, 64, 32), 320),
        ("batch_normalization", "BatchNormalization", (None, 64, 64, 32), 128),
        ("flatten", "Flatten", (None, 131_072), 0),
        ("dense", "Dense", (None, 100), 13_107_300),
        ("dense_1", "Dense", (None, 10), 1_010),
    ]
