"""The corpus: how many BatchNorms there are, where their parameters lie, and what they hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from inspector.facts.batchnorm import BatchNorm, Form, Origin
from inspector.facts.model import Model
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms, load_affine

SOURCES = {
    "init": {Origin.INITIALIZER, Origin.OVERRIDABLE},
    "init+input": {Origin.INITIALIZER, Origin.OVERRIDABLE},
    "graph-input": {Origin.GRAPH_INPUT},
    "Constant:value": {Origin.CONSTANT},
    # The corpus' analyser says which operator stands before; here that is followed to its end.
    "computed:ConstantOfShape": {Origin.CHAIN},
    # A draft's node gives its outputs the names of its inputs: what it takes is what is fed.
    "computed:BatchNormalization": {Origin.GRAPH_INPUT},
    "computed:Identity": {Origin.INITIALIZER, Origin.OVERRIDABLE},
}

AFFINE_NORMS = {
    # ONNX Runtime's fusion tests were cut out of a DenseNet: this Mul is gamma of its conv1/bn.
    "fuse-conv-mul-no-bias.80821b18": ["conv1/bn_internal_1"],
    "fuse-conv-mul-no-bias.ed4c77f3": ["conv1/bn_internal_1"],
    # A Keras BatchNormalization of one channel; TensorFlow Lite's names are still on it.
    "nmp.c30e5f94": ["model_1/batch_normalization"],
}

AFFINES = {
    # Random vectors behind a Conv: one map per channel, and made to be fused.
    "fuse-conv-add-mul-1d-2.2a920905": ["add_node_1"],
    "fuse-conv-add-mul-1d.513862b0": ["add_node_1"],
    # A CNTK net's Conv, its bias and a scale of zeros.
    "fuse-conv-add-mul-3d-2.c3352045": ["ElementTimes657"],
    "fuse-conv-add-mul-3d-2.fc613b9d": ["ElementTimes657"],
    # ImageNet's means are put back on the output: three channels, a scale of ones.
    "fns-candy.227285d3": ["Add"],
    "mosaic.c812b081": ["Add"],
    "Candy.1405fd5a": ["Add.5"],
    # Scales of a quantised Conv, with what a BatchNorm left in them; and an activation's scale.
    "eltwise_chanlast_testcase.c4dabcc6": ["Add_0_out0", "Mul_30"],
    # A detector's box coordinates, divided by the grid: two channels.
    "FastestDet.fabccb12": ["/detect_head/Div"],
}


def key(row: dict[str, str]) -> str:
    return Path(row["file"]).stem.split("__")[-1]


@pytest.fixture(scope="module")
def opened(corpus, corpus_rows) -> list[tuple[dict[str, str], Model]]:
    return [(row, open_model(corpus / row["file"])) for row in corpus_rows if row["load"] == "ok"]


def natives(model: Model) -> list[BatchNorm]:
    return [each for each in find_batchnorms(model).batchnorms if each.op_type]


def test_every_node_is_found_and_its_parameters_traced(opened):
    seen = Counter()
    for row, model in opened:
        found = natives(model)
        assert len(found) == int(row["bn_count"]), row["file"]
        assert len({(norm.scope, norm.name) for norm in found}) == len(found), row["file"]
        for part in filter(None, row["bn_param_sources"].split("; ")):
            words, times = part.rsplit(" x", 1)
            expected = [SOURCES[word] for word in words.split("/")[:4]]
            seen[words] += int(times)
            fits = [
                norm
                for norm in found
                if all(p.origin in o for (_, p), o in zip(norm.parameters, expected, strict=True))
            ]
            assert len(fits) >= int(times), (row["file"], part)
    assert sum(seen.values()) == 1136, seen


def as_seen_by_the_reference(path: Path, names: list[str]) -> list[np.ndarray]:
    """Values inside a model that follow from its constants, by onnx's reference evaluator."""
    whole = onnx.load(path)
    graph = whole.graph
    stored = {each.name: each for each in graph.initializer}
    by_output = {output: node for node in graph.node for output in node.output}
    wanted, nodes, seen = list(names), [], set()
    while wanted:
        name = wanted.pop()
        if name in seen or name in stored:
            continue
        seen.add(name)
        nodes.append(by_output[name])
        wanted += [each for each in by_output[name].input if each]
    order = {id(node): at for at, node in enumerate(graph.node)}
    nodes.sort(key=lambda node: order[id(node)])
    part = helper.make_graph(
        nodes,
        "constants",
        [],
        [onnx.ValueInfoProto(name=each) for each in names],
        list(stored.values()),
    )
    model = helper.make_model(part, opset_imports=list(whole.opset_import))
    return onnx.reference.ReferenceEvaluator(model).run(None, {})


def test_values_are_what_the_reference_evaluator_sees(opened, corpus):
    """Every parameter of every BatchNorm whose numbers are in the file."""
    compared = 0
    for row, model in opened:
        # The reference evaluates the constants of the main graph, where all of them are.
        norms = [each for each in natives(model) if each.form is Form.NATIVE]
        told = [p for norm in norms for _, p in norm.parameters if p.tensor is not None]
        if not told or model.missing_data:
            continue
        names = list(dict.fromkeys(each.value for each in told))
        seen = dict(zip(names, as_seen_by_the_reference(corpus / row["file"], names), strict=True))
        for each in told:
            ours = model.weights.load(each.tensor)
            assert ours.dtype == seen[each.value].dtype, row["file"]
            assert ours.tobytes() == seen[each.value].tobytes(), (row["file"], each.value)
            compared += 1
    assert compared > 4000


def test_no_batchnorm_where_there_is_none(opened):
    """Each hit beside the nodes is listed above, with the reason why it is right."""
    norms, affines = {}, {}
    for row, model in opened:
        found = find_batchnorms(model)
        others = [each.name for each in found.batchnorms if not each.op_type]
        if others:
            norms[key(row)] = others
        apart = [each.name for each in found.affines if not each.remark]
        if apart:
            affines[key(row)] = apart
        # Caffe writes one layer as two: these lie right behind a BatchNormalization.
        assert len(found.affines) - len(apart) <= int(row["bn_count"]), row["file"]
    assert norms == AFFINE_NORMS
    assert affines == AFFINES


def test_tails_of_other_normalisations_are_called_what_they_are(opened):
    kinds = Counter(
        (key(row), each.kind) for row, model in opened for each in find_batchnorms(model).lookalikes
    )
    assert kinds == {
        ("model_2.2db53a6e", "LayerNorm"): 1,
        ("hey_rhasspy_v0.1.914d4f85", "LayerNorm"): 2,
        ("model.7ee25472", "LayerNorm"): 5,
    }


def test_affine_maps_compute_what_they_say(opened):
    """Slope and intercept against the constants, taken through the operators one by one."""
    for row, model in opened:
        for each in find_batchnorms(model).affines:
            slope, intercept = load_affine(each.steps, each.channels, model)
            for x in (0.0, 1.0, -2.5):
                y = np.full(each.channels, x)
                for step in each.steps:
                    constant = model.weights.load(step.tensor).reshape(-1).astype(np.float64)
                    operands = (constant, y) if step.reversed else (y, constant)
                    y = OPERATORS[step.op_type](*operands)
                expected = slope * x + intercept
                np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-9, err_msg=row["file"])


OPERATORS = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
