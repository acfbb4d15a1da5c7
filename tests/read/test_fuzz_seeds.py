"""A small fuzz in every test run, and what the large one (`make fuzz`) has found.

What has to hold of any bytes is written in scripts/fuzz/target.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import ModelProto, StringStringEntryProto, TensorProto, helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

pytest.importorskip("resource", reason="limits of memory are set with it")

from fuzz import mutate, seeds
from fuzz.target import Target, stopped_after

SEEDS = seeds.seeds()
MUTATIONS = 100

SMALL_BOMB = 100_000
"""A tenth of what `make fuzz` throws; what takes more than its time here grows faster than it."""

STUCK = 10
"""Seconds after which a test gives an input up."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    found = Target(tmp_path_factory.mktemp("fuzz"), seconds=STUCK)
    found.run(SEEDS["conv bn relu"], walk=False)  # imports are no cost of any input
    return found


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_opens_either_way(name, target: Target):
    with stopped_after(STUCK):
        whole, walked = target.run_both(SEEDS[name])
    assert whole.report is not None, whole.message
    assert walked.report is not None, walked.message
    assert whole.loaded == walked.loaded


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_changed_in_any_way_is_read_or_refused(name, target: Target):
    data = SEEDS[name]
    for seed in range(MUTATIONS):
        # Some changes add up: every third input is a change of the one before.
        changed = mutate.mutated(data if seed % 3 else SEEDS[name], 200_000, seed)
        with stopped_after(STUCK):
            target.run(changed, walk=seed % 2 == 1, text=seed % 8 == 0)
        data = changed


def test_other_files_changed_in_any_way_are_read_or_refused(target: Target):
    for data in seeds.others().values():
        for seed in range(MUTATIONS // 4):
            with stopped_after(STUCK):
                target.run(mutate.mutated(data, 200_000, seed), walk=seed % 2 == 1)


@pytest.mark.parametrize("name", BOMBS := seeds.bombs(SMALL_BOMB))
def test_a_file_made_to_be_hard_to_read(name, tmp_path: Path):
    with stopped_after(STUCK):
        Target(tmp_path, seconds=STUCK).run(BOMBS[name], walk=False)


def sparse_parameter(dims: list[int]) -> bytes:
    """A BatchNorm of which a parameter of no values spreads out to `dims`."""
    return seeds.batchnorm_of_sparse(dims).SerializeToString()


def calls_itself(times: int) -> bytes:
    model = ModelProto(ir_version=8)
    function = model.functions.add(name="f", domain="local", input=["x"], output=["y"])
    for _ in range(times):
        function.node.add(op_type="f", domain="local", input=["x"], output=["y"])
    model.graph.node.add(op_type="f", domain="local", input=["x"], output=["y"])
    return model.SerializeToString()


def calls_itself_beside(nested: str) -> bytes:
    """The same, with the subgraphs of a seed in its body."""
    model = ModelProto.FromString(calls_itself(3))
    model.functions[0].node.extend(ModelProto.FromString(SEEDS[nested]).graph.node)
    return model.SerializeToString()


def nodes_of_one_name(count: int) -> bytes:
    parameters = ["x", "s", "b", "m", "v"]
    node = helper.make_node("BatchNormalization", parameters, ["y"])
    model = helper.make_model(helper.make_graph([node] * count, "g", [], []))
    return model.SerializeToString()


def name_of_controls(length: int) -> bytes:
    node = helper.make_node("BatchNormalization", list("xsbmv"), ["y"], name="\x1b" * length)
    return helper.make_model(helper.make_graph([node], "g", [], [])).SerializeToString()


IN_DATA_FILE = StringStringEntryProto(key="location", value="data.bin")


def tensor_alone(**fields: object) -> bytes:
    graph = helper.make_graph([], "g", [], [], initializer=[TensorProto(name="t", **fields)])
    return helper.make_model(graph).SerializeToString()


def sparse_values(**fields: object) -> bytes:
    """A sparse tensor whose values have more elements than Python writes out."""
    model = helper.make_model(helper.make_graph([], "g", [], []))
    values = TensorProto(name="t", dims=[2**62] * 300, **fields)
    model.graph.sparse_initializer.add(dims=[2], values=values)
    return model.SerializeToString()


def tensor_stored_twice(number: int) -> bytes:
    """Values in the model and in a data file: nothing but our own reader may open that file."""
    return tensor_alone(
        data_type=number,
        dims=[2],
        raw_data=bytes(8),
        data_location=TensorProto.EXTERNAL,
        external_data=[IN_DATA_FILE],
    )


FOUND: dict[str, Callable[[], bytes]] = {
    "a sparse parameter of a gigabyte": lambda: sparse_parameter([2**28]),
    "a sparse parameter of a gigabyte, in two dims": lambda: sparse_parameter([2**14, 2**14]),
    "a sparse parameter of dims that overflow": lambda: sparse_parameter([2**62, 0]),
    "a function that calls itself three times": lambda: calls_itself(3),
    "a function that calls itself five times": lambda: calls_itself(5),
    "a function of nested subgraphs that calls itself": lambda: calls_itself_beside("if in if"),
    "functions that double at each of 14 levels": lambda: seeds.calls(14, 2).SerializeToString(),
    "3,000 BatchNorms of one name": lambda: nodes_of_one_name(3000),
    "a long name of control characters": lambda: name_of_controls(500_000),
    "a control character in the text format": lambda: b"ir_version: 8\ngraph { name: \b }",
    "float8 values in the model and in a data file": lambda: tensor_stored_twice(
        TensorProto.FLOAT8E4M3FNUZ
    ),
    "sparse values of 5,000 digits": lambda: sparse_values(data_type=1, raw_data=b"x"),
    "sparse values of 5,000 digits, in a data file": lambda: sparse_values(
        data_type=1, data_location=TensorProto.EXTERNAL, external_data=[IN_DATA_FILE]
    ),
    "int4 dims without values": lambda: tensor_alone(data_type=TensorProto.INT4, dims=[2**29]),
    "string dims without values": lambda: tensor_alone(data_type=TensorProto.STRING, dims=[2**29]),
}
"""The smallest file of each promise that was ever broken, and of some that were close."""


@pytest.mark.parametrize("make", FOUND.values(), ids=FOUND)
def test_what_fuzzing_has_found(make: Callable[[], bytes], target: Target):
    with stopped_after(STUCK):
        target.run_both(make())
