"""Every operator's inputs are decided, and each kind of decision gives the role it should."""

from __future__ import annotations

import re
from typing import Any

import onnx
import pytest
from onnx_text import parsed

from inspector.count import count_parameters, operators
from inspector.count.operators import DOMAINS, letter
from inspector.count.roles import fixed_use, passes_on
from inspector.facts.count import Count, CountedTensor, Role
from inspector.facts.model import Node
from inspector.read.open import open_model
from inspector.recognise import find_batchnorms

LETTERS = set("wipktschmoabd")
HOLDS_WEIGHTS = set("wipkts")
HAS_WEIGHTS = {
    f"tensor({each})" for each in "float float16 bfloat16 double int8 uint8 int16 int32".split()
}

STANDARD_SCHEMAS: list[Any] = list(onnx.defs.get_all_schemas_with_history())


def names(schema: Any) -> list[str]:
    """Names of an operator's inputs; of one that repeats, the next few of them too."""
    found = [each.name for each in schema.inputs]
    repeats = bool(found) and "Variadic" in str(schema.inputs[-1].option)
    return found + found[-1:] * 5 if repeats else found


def undecided(schemas: list[Any]) -> list[str]:
    return [
        f"{each.domain}::{each.name}-{each.since_version} {at} {name}"
        for each in schemas
        for at, name in enumerate(names(each))
        if not letter(each.domain, each.name, at)
    ]


def contrib_schemas() -> list[Any]:
    """ONNX Runtime's own operators, as far as the table lists them."""
    where = "onnxruntime.capi.onnxruntime_pybind11_state"
    state = pytest.importorskip(where, reason="it tells which operators there are")
    if not hasattr(state, "get_all_operator_schema"):
        pytest.skip("this build of ONNX Runtime does not tell its operators")
    return [
        each
        for each in state.get_all_operator_schema()
        if each.name in DOMAINS.get(each.domain, {})
    ]


def test_every_input_of_every_standard_operator_is_decided():
    assert undecided(STANDARD_SCHEMAS) == []


def test_every_input_of_every_listed_contrib_operator_is_decided():
    schemas = contrib_schemas()
    assert len({each.name for each in schemas if each.domain == "com.microsoft"}) > 70
    assert undecided(schemas) == []


def test_an_operator_or_an_input_that_is_missing_is_found(monkeypatch):
    table = dict(operators.STANDARD)
    del table["Conv"]
    table["Gemm"], table["Concat"] = "ww", "m"
    monkeypatch.setitem(operators.DOMAINS, "", table)
    letter.cache_clear()
    try:
        missing = {each.split("-")[0] for each in undecided(STANDARD_SCHEMAS)}
    finally:
        letter.cache_clear()
    assert missing == {"::Conv", "::Gemm", "::Concat"}


def test_no_table_has_inputs_that_no_version_of_the_operator_has():
    most: dict[tuple[str, str], float] = {}
    for each in STANDARD_SCHEMAS:
        key, inputs = (each.domain, each.name), names(each)
        many = float("inf") if len(inputs) > len(each.inputs) else len(inputs)
        most[key] = max(most.get(key, 0), many)
    for (domain, op), many in most.items():
        inputs = DOMAINS[domain].get(op, "")
        assert ("+" in inputs) == (many == float("inf")), op
        assert "+" in inputs or len(inputs) == many, op


def test_only_letters_that_are_explained_are_used():
    used = {each for table in DOMAINS.values() for inputs in table.values() for each in inputs}
    assert used == LETTERS | {"+"}
    for each in LETTERS:
        assert f"\n    {each}  " in (operators.__doc__ or ""), each


def test_no_input_is_learned_that_cannot_hold_weights():
    for schema in STANDARD_SCHEMAS:
        for at, given in enumerate(schema.inputs):
            if letter(schema.domain, schema.name, at) in HOLDS_WEIGHTS:
                assert HAS_WEIGHTS & set(given.types), (schema.name, at)


def test_inputs_keep_their_meaning_over_the_versions():
    """Where another input took the place of one, the letter has to fit both."""
    seen: dict[tuple[str, int], set[str]] = {}
    for schema in STANDARD_SCHEMAS:
        if not schema.domain:
            for at, given in enumerate(schema.inputs):
                name = given.name.lower().removeprefix("input_")
                seen.setdefault((schema.name, at), set()).add(name)
    renamed = {each: letter("", *each) for each, found in seen.items() if len(found) > 1}
    assert renamed == {("Resize", 1): "c", ("Scan", 0): "b", ("Tile", 1): "c"}


NAMED_LIKE_WEIGHTS = re.compile(r"(^|_)(weights?|bias|gamma|beta|embedding|W|R|P)(_quant)?$")
NAMED_LIKE_CONSTANTS = re.compile(
    r"zero_?point|indices|ids$|cos_cache|sin_cache|seqlens|^scale_|_scales?$|^scales|past|"
    r"sequence_len"
)
BY_THE_NAME_ONLY = {
    # What is added to attention scores, and gates that are computed for each token.
    "attention_bias": "a", "BiasSoftmax.bias": "a", "LinearAttention.beta": "d",
    "GatedDeltaNet.beta": "d", "head_weights": "d", "router_weights": "d",
    # Weights of classes, learning rates, and scales of weights.
    "NegativeLogLikelihoodLoss.weight": "c", "SoftmaxCrossEntropyLoss.weights": "c",
    "Adagrad.R": "c", "Adam.R": "c", "Momentum.R": "c", "scale_Q_weight": "c",
    "scale_K_weight": "c", "scale_V_weight": "c", "scale_weight": "c", "scale_bias": "c",
    "scale_global_weight": "c",
    # Tokens are data, and scales of normalisations and of decay are learned.
    "input_ids": "d", "segment_ids": "d", "OneHot.indices": "d", "Scan.sequence_lens": "b",
    "key_norm_scale": "w", "query_norm_scale": "w", "conv_norm_scale": "w", "norm_scale": "w",
    "decay_scale": "w",
}  # fmt: skip


@pytest.mark.parametrize("origin", ["onnx", "onnxruntime"])
def test_letters_agree_with_the_names_of_the_inputs(origin):
    """A letter in the wrong place of a long list is seen by the name of the input there."""
    checked = 0
    for schema in STANDARD_SCHEMAS if origin == "onnx" else contrib_schemas():
        for at, given in enumerate(schema.inputs):
            where, name = f"{schema.name}.{given.name}", given.name
            expected = {BY_THE_NAME_ONLY.get(where, BY_THE_NAME_ONLY.get(name, ""))} - {""}
            if not expected and NAMED_LIKE_WEIGHTS.search(name):
                expected = HOLDS_WEIGHTS
            elif not expected and NAMED_LIKE_CONSTANTS.search(name):
                expected = {"c", "h"}
            if expected and letter(schema.domain, schema.name, at) not in expected:
                # NGramHashMapping's segment_ids are told to it, not computed with.
                assert where.endswith("HashMapping.segment_ids"), where
            checked += bool(expected)
    assert checked > 100


def test_an_operator_is_not_written_down_twice():
    with pytest.raises(AssertionError, match="Conv is written down twice"):
        operators._table("dww Conv", "d Conv")


@pytest.fixture
def count(onnx_file):
    def run(nodes: str, stored: str, more: str = "") -> Count:
        text = f"""<ir_version: 10, opset_import: ["": 22, "com.microsoft": 1, "ai.onnx.ml": 3,
          "com.microsoft.nchwc": 1, "com.ms.internal.nhwc": 1, "qonnx.custom_op.general": 1,
          "onnx.brevitas": 1, "far.away": 1]>
        agraph (float[N, M] x, float[N, M] z, int64[N] i, bool c) => (float[N, M] y) <{stored}>
        {{ {nodes} }}
        {more}"""
        model = open_model(onnx_file(parsed(text)))
        return count_parameters(model, find_batchnorms(model))

    return run


def found(count: Count, name: str) -> CountedTensor:
    (one,) = (each for each in count.tensors if each.tensor.name == name)
    return one


L, S, C, U = Role.LEARNED, Role.STATISTIC, Role.CONSTANT, Role.UNKNOWN

ROLES = [
    # Weights.
    ("y = Conv (x, w, b)", "float[3, 2, 1, 1] w, float[3] b", {"w": L, "b": L}),
    ("y = Conv (f, z)", "float[3, 2, 1, 1] f", {"f": U}),
    ("y = ConvTranspose (x, w, b)", "float[3, 2, 1, 1] w, float[3] b", {"w": L, "b": L}),
    (
        "y = DeformConv (x, w, o, b, m)",
        "float[3, 2, 1, 1] w, float[1, 2, 2, 2] o, float[3] b, float[1, 1, 2, 2] m",
        {"w": L, "o": U, "b": L, "m": U},
    ),
    ("y = Gemm (x, w, b)", "float[3, 2] w, float[3] b", {"w": L, "b": L}),
    ("y = MatMul (w, x)", "float[3, 2] w", {"w": L}),
    ("v = MatMul (a, b) y = MatMul (x, v)", "float[4, 1] a, float[1, 4] b", {"a": L, "b": L}),
    ('y = Einsum <equation = "ab,bc,cd->ad"> (x, v, w)', "float[2, 3] v, float[3, 2] w",
     {"v": L, "w": L}),
    ("y = MatMul (x, k)", "int64[2, 2] k", {"k": C}),
    ("y = PRelu (x, s)", "float[1] s", {"s": L}),
    # Recurrent networks.
    (
        "y = LSTM (x, w, r, b, n, h, g, p)",
        "float[1, 8, 2] w, float[1, 8, 2] r, float[1, 16] b, int32[1] n, float[1, 1, 2] h, "
        "float[1, 1, 2] g, float[1, 6] p",
        {"w": L, "r": L, "b": L, "n": C, "h": C, "g": C, "p": L},
    ),
    ("y = GRU (x, w, r, , , h)", "float[1, 6, 2] w, float[1, 6, 2] r, float[1, 1, 2] h",
     {"w": L, "r": L, "h": C}),
    # Normalisations.
    (
        "y = BatchNormalization (x, s, b, m, v)",
        "float[2] s, float[2] b, float[2] m, float[2] v",
        {"s": L, "b": L, "m": S, "v": S},
    ),
    (
        "y, a, d, e, f = com.microsoft.BatchNormInternal (x, s, b, m, v)",
        "float[2] s, float[2] b, float[2] m, float[2] v",
        {"s": L, "b": L, "m": S, "v": S},
    ),
    ("y = LayerNormalization (x, s, b)", "float[2] s, float[2] b", {"s": L, "b": L}),
    ("y = SimplifiedLayerNormalization (x, s)", "float[2] s", {"s": L}),
    ("y = RMSNormalization (x, s)", "float[2] s", {"s": L}),
    ("y = GroupNormalization <num_groups = 1> (x, s, b)", "float[2] s, float[2] b",
     {"s": L, "b": L}),
    (
        "y = com.microsoft.SkipLayerNormalization (x, z, s, b, a)",
        "float[2] s, float[2] b, float[2] a",
        {"s": L, "b": L, "a": L},
    ),
    # Embeddings.
    ("y = Gather (e, i)", "float[5, 2] e", {"e": L}),
    ("y = Gather (e, i)", "float[5] e", {"e": U}),
    ("y = Gather (e, i)", "int64[5, 2] e", {"e": C}),
    ("q = Gather (e, i) y = DequantizeLinear (q, s)", "int8[5, 2] e, float s", {"e": L, "s": C}),
    ("y = GatherElements (e, i)", "float[5, 2] e", {"e": U}),
    (
        "y = com.microsoft.EmbedLayerNormalization (i, , w, p, , s, b, m)",
        "float[5, 2] w, float[4, 2] p, float[2] s, float[2] b, int32[1, 4] m",
        {"w": L, "p": L, "s": L, "b": L, "m": C},
    ),
    # Attention.
    (
        "y = Attention (x, k, z, m, p, q)",
        "float[1, 2, 3, 4] k, bool[3, 3] m, float[1, 2, 3, 4] p, float[1, 2, 3, 4] q",
        {"k": U, "m": C, "p": C, "q": C},
    ),
    ("y = Attention (x, x, z, m)", "float[3, 3] m", {"m": U}),
    (
        "y = com.microsoft.Attention (x, w, b, m, , r)",
        "float[2, 6] w, float[6] b, int32[1, 3] m, float[1, 1, 3, 3] r",
        {"w": L, "b": L, "m": C, "r": U},
    ),
    (
        "y = com.microsoft.MultiHeadAttention (x, x, x, b, , , p)",
        "float[6] b, float[1, 1, 3, 2] p",
        {"b": L, "p": C},
    ),
    (
        "y = com.microsoft.GroupQueryAttention (x, x, x, , , n, t, c1, s1, , , k)",
        "int32[1] n, int32 t, float[9, 2] c1, float[9, 2] s1, float[2] k",
        {"n": C, "t": C, "c1": C, "s1": C, "k": L},
    ),
    ("y = com.microsoft.RelativePositionBias (t, i, i)", "float[8, 2] t", {"t": L}),
    # Quantised.
    (
        "y = QLinearConv (x, s, p, w, t, q, s, p, b)",
        "float s, uint8 p, int8[3, 2, 1, 1] w, float[3] t, int8[3] q, int32[3] b",
        {"s": C, "p": C, "w": L, "t": C, "q": C, "b": L},
    ),
    ("y = MatMulInteger (x, w, p, q)", "int8[2, 2] w, uint8 p, int8[2] q",
     {"w": L, "p": C, "q": C}),
    (
        "y = com.microsoft.QGemm (x, s, p, w, t, q, b, s, p)",
        "float s, uint8 p, int8[3, 2] w, float[3] t, int8[3] q, int32[3] b",
        {"w": L, "t": C, "q": C, "b": L},
    ),
    (
        "y = com.microsoft.MatMulNBits <K = 4, N = 2, bits = 4, block_size = 4> (x, w, s, p, g, b)",
        "uint8[2, 1, 2] w, float[2] s, uint8[2] p, int32[4] g, float[2] b",
        {"w": L, "s": C, "p": C, "g": C, "b": L},
    ),
    (
        "y = com.microsoft.QMoE (x, z, v, s, , w, t)",
        "uint8[2, 4, 2] v, float[2, 4] s, uint8[2, 4, 2] w, float[2, 4] t",
        {"v": L, "s": C, "w": L, "t": C},
    ),
    (
        "y = com.microsoft.DynamicQuantizeMatMul (x, w, s, p, b)",
        "int8[2, 2] w, float s, int8 p, float[2] b",
        {"w": L, "s": C, "p": C, "b": L},
    ),
    (
        "y = com.microsoft.MatMulIntegerToFloat (x, w, s, t, p, q, b)",
        "int8[2, 2] w, float s, float[2] t, uint8 p, int8[2] q, float[2] b",
        {"w": L, "s": C, "t": C, "p": C, "q": C, "b": L},
    ),
    (
        "y = com.microsoft.GatherBlockQuantized (w, i, s, p)",
        "uint8[5, 2] w, float[5, 1] s, uint8[5, 1] p",
        {"w": L, "s": C, "p": C},
    ),
    (
        "y = com.microsoft.FusedConv (x, w, b, r)",
        "float[3, 2, 1, 1] w, float[3] b, float[1, 3, 4, 4] r",
        {"w": L, "b": L, "r": U},
    ),
    (
        "y = com.microsoft.QLinearAdd (x, s, p, w, s, p, s, p)",
        "float s, uint8 p, uint8[2] w",
        {"s": C, "p": C, "w": U},
    ),
    (
        "u = com.microsoft.QLinearConcat (s, p, w, t, q, v, t, q) y = MatMulInteger (x, u)",
        "float s, uint8 p, int8[1, 2] w, float t, int8 q, int8[1, 2] v",
        {"s": C, "p": C, "w": L, "t": C, "q": C, "v": L},
    ),
    (
        "u = qonnx.custom_op.general.Quant (w, s, p, n) y = Conv (x, u)",
        "float[3, 2, 1, 1] w, float s, float p, float n",
        {"w": L, "s": C, "p": C, "n": C},
    ),
    (
        "u = onnx.brevitas.BipolarQuant (w, s) y = Conv (x, u)",
        "float[3, 2, 1, 1] w, float s",
        {"w": L, "s": C},
    ),
    # Never parameters.
    ("y = Clip (x, a, b)", "float a, float b", {"a": C, "b": C}),
    ("y = Resize (x, r, s)", "float[4] r, float[4] s", {"r": C, "s": C}),
    ("y = GridSample (x, g)", "float[1, 2, 2, 2] g", {"g": C}),
    ("y = STFT (x, i, w)", "float[8] w", {"w": C}),
    ("y = RotaryEmbedding (x, a, b)", "float[9, 2] a, float[9, 2] b", {"a": C, "b": C}),
    ("y = ScatterND (d, i, u)", "float[4, 2] d, float[1, 2] u", {"d": U, "u": U}),
    ("y = TopK (x, k)", "int64[1] k", {"k": C}),
    ("y = CastLike (x, t)", "float[2] t", {"t": C}),
    ("y = Where (c, x, t)", "float t", {"t": C}),
    ("y = Where (c, x, t)", "float[2] t", {"t": U}),
    ("y = Relu (t)", "int64[2] t", {"t": C}),
    # Moved on the way.
    ("u = Pad (w, p, v) y = Conv (x, u)", "float[3, 2, 1, 1] w, int64[8] p, float v",
     {"w": L, "p": C, "v": C}),
    ("u = GatherElements (w, i) y = MatMul (x, u)", "float[2, 2] w", {"w": L}),
    ("s = SequenceConstruct (w, v) u = SequenceAt (s, i) y = MatMul (x, u)",
     "float[2, 2] w, float[2, 2] v", {"w": L, "v": L}),
    # Other domains.
    ("y = com.ms.internal.nhwc.Conv (x, w, b)", "float[3, 2, 1, 1] w, float[3] b",
     {"w": L, "b": L}),
    ("y = com.microsoft.nchwc.Conv (x, w, b)", "float[8, 8, 1, 1] w, float[8] b",
     {"w": L, "b": L}),
    ("y = com.microsoft.NhwcConv (x, w, b)", "float[3, 2, 1, 1] w, float[3] b", {"w": L, "b": L}),
    ("y = far.away.Conv (x, w, k)", "float[3, 2, 1, 1] w, int64[2] k", {"w": U, "k": C}),
    ("u = far.away.Transpose (w) y = MatMul (x, u)", "float[2, 2] w", {"w": U}),
    ("p = far.away.MatMul (x, z) y = Add (p, b)", "float[2] b", {"b": U}),
    ("y = far.away.MatMulInteger (x, w)", "int8[2, 2] w", {"w": U}),
    ("y = com.microsoft.Conv (x, w)", "float[3, 2, 1, 1] w", {"w": U}),
    ("y = ai.onnx.ml.Scaler (w)", "float[3, 2] w", {"w": U}),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "stored", "roles"), ROLES, ids=[each[0] for each in ROLES])
def test_roles_by_use(nodes, stored, roles, count):
    counted = count(nodes, stored)
    assert {each: found(counted, each).role for each in roles} == roles


ADDED = [
    ("p = MatMul (x, z) y = Add (p, b)", "float[3] b", L),
    ("p = Conv (x, z) y = Add (p, b)", "float[1, 3, 1, 1] b", L),
    ("p = MatMul (x, z) q = Reshape (p, i) y = Add (b, q)", "float[3] b", L),
    ("p = com.microsoft.MatMulNBits (x, z) y = Add (p, b)", "float[3] b", L),
    # Heads and their width are the channels of Keras' attention.
    ('p = Einsum <equation = "abc,cde->abde"> (x, z) y = Add (p, b)', "float[3, 4] b", L),
    ('p = Einsum <equation = "abc,cd->abd"> (x, z) y = Add (p, b)', "float[3, 4] b", U),
    ('p = Einsum <equation = "...c,cd->...d"> (x, z) y = Add (p, b)', "float[3, 4] b", U),
    ('p = Einsum <equation = "ab,bc"> (x, z) y = Add (p, b)', "float[3, 4] b", U),
    ("p = MatMul (x, z) q = Reshape (p, i) y = Add (q, b)", "float[3, 4] b", L),
    # Positions and masks are no biases.
    ("p = MatMul (x, z) y = Add (p, b)", "float[3, 4] b", U),
    ("p = MatMul (x, z) q = Reshape (p, i) y = Add (q, b)", "float[4, 4] b", U),
    ("p = MatMul (x, z) q = Reshape (p, i) y = Add (q, b)", "float[1, 3, 4] b", U),
    ("p = Conv (x, z) q = Reshape (p, i) y = Add (q, b)", "float[1, 3, 4] b", U),
    # What stands between makes it none.
    ("p = MatMul (x, z) q = Relu (p) y = Add (q, b)", "float[3] b", U),
    ("p = MatMul (x, z) y = Sub (p, b)", "float[3] b", U),
    ("p = MatMul (x, z) y = Mul (p, b)", "float[3] b", U),
    ("p = MatMul (x, z) y = Mul (p, b)", "float[1] b", C),
    ("y = Add (x, b)", "float b", C),
]


@pytest.mark.parametrize(("nodes", "stored", "role"), ADDED)
def test_what_is_added_behind_a_linear_operator(nodes, stored, role, count):
    assert found(count(nodes, stored), "b").role is role


WHY = [
    ("y = Conv (t, z)", "float[1, 2, 3, 3] t",
     "input 0 of Conv, where data flows: a parameter that is fed in, or what folding left of a "
     "constant"),
    ("y = Add (x, t)", "float[1, 7, 8] t",
     "input 1 of Add, of several axes: positions (learned or computed), a mask, or the bias of a "
     "normalisation"),
    ("y = Mul (x, t)", "float[8] t",
     "input 1 of Mul: a bias, a constant, or what is left of a normalisation"),
    ("y = Gather (t, i)", "float[8] t",
     "input 0 of Gather: numbers looked up one by one, and an embedding has rows"),
    ("y = Attention (x, x, x, t)", "float[8, 8] t",
     "input 3 of Attention: an attention mask, or a bias by relative positions"),
    ("y = far.away.Conv (x, t)", "float[8] t",
     "input 1 of Conv of domain 'far.away', an operator that is not known"),
    ("y = NeverHeardOf (x, t)", "float[8] t",
     "input 1 of NeverHeardOf, an operator that is not known"),
    ("y = Relu (x, t)", "float[8] t", "input 1 of Relu, which has no such input"),
    ("y = com.microsoft.MatMulNBits (x, t)", "uint8[8] t",
     "input 1 of MatMulNBits, packed: an element may hold several weights"),
    ("y = com.microsoft.nchwc.Conv (x, t)", "float[8] t",
     "input 1 of Conv, in blocks of channels that may be filled up with zeros"),
    ("y = RNN (x, z, z, , , t)", "float[1, 1, 2] t", "input 5 of RNN, the state it begins with"),
    ("y = Pow (x, t)", "float t", "a single number, input 1 of Pow"),
    ("y = Gather (t, i)", "float[8, 2] t", "rows looked up, input 0 of Gather"),
    ("p = Gemm (x, z) y = Add (p, t)", "float[8] t", "the bias added to Gemm"),
    ("y = far.away.F (x, t)", "int64[8] t", "int64, input 1 of F"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "stored", "why"), WHY, ids=[each[0] for each in WHY])
def test_reasons(nodes, stored, why, count):
    assert found(count(nodes, stored), "t").why == why


@pytest.mark.parametrize(("given_on", "role"), [("v", L), ("u", U)])
def test_what_a_loop_hands_on_unchanged_is_followed_and_a_state_is_not(count, given_on, role):
    counted = count(
        f"""y = Loop (n, go, s) <body = inner (int64 at, bool on, float[2, 2] v)
            => (bool on, float[2, 2] {given_on}) <float[2, 2] w = {{1.0, 2.0, 3.0, 4.0}}>
              {{ u = MatMul (v, w) }}>""",
        "int64 n, bool go, float[2, 2] s",
    )
    roles = {each.tensor.name: each.role for each in counted.tensors}
    assert roles == {"n": C, "go": C, "s": role, "w": L}
    if role is U:
        told = found(counted, "s").why
        assert told.endswith("which goes into a subgraph and is followed no further")


def test_a_function_of_a_foreign_domain_is_looked_into(count):
    body = """<domain: "far.away", opset_import: ["": 22]>
        Conv (a, b) => (d) { d = MatMul (a, b) }"""
    counted = count("y = far.away.Conv (x, w)", "float[2, 2] w", body)
    assert found(counted, "w").why == "input 1 of MatMul"


def test_a_name_without_its_domain_says_nothing():
    assert fixed_use("Conv", 1) is None
    assert fixed_use("Conv", 1, "far.away") is None
    for domain in ("", "ai.onnx", "com.ms.internal.nhwc"):
        use = fixed_use("Conv", 1, domain)
        assert use is not None
        assert use.role is L


def test_only_the_moving_operators_of_known_domains_pass_on():
    def node(op: str, domain: str = "") -> Node:
        return Node(op_type=op, domain=domain, name="", inputs=(), outputs=(), attributes={})

    assert passes_on(node("Concat"), 7)
    assert passes_on(node("Reshape"), 0)
    assert not passes_on(node("Reshape"), 1)
    assert not passes_on(node("Reshape", "far.away"), 0)
    assert not passes_on(node("Relu"), 0)


PRELU = """<ir_version: 8, opset_import: ["": 17]>
agraph (float[N, 3] x) => (float[N, 3] y) <float[3] alpha = {1, 2, 3}>
{ a = Relu (x)
  n = Neg (x)
  b = Relu (n)
  c = Mul (b, alpha)
  y = Add (a, c) }"""


@pytest.mark.parametrize(
    ("model", "role"),
    [
        (PRELU, Role.LEARNED),
        (PRELU.replace("(b, alpha)", "(alpha, b)").replace("(a, c)", "(c, a)"), Role.LEARNED),
        (PRELU.replace("a = Relu (x)", "a = Sigmoid (x)"), Role.UNKNOWN),
        (PRELU.replace("n = Neg (x)", "n = Abs (x)"), Role.UNKNOWN),
        (
            PRELU.replace("y = Add (a, c)", "m = Neg (a)\n  d = Relu (m)\n  y = Add (d, c)"),
            Role.UNKNOWN,
        ),
    ],
    ids=["as Keras writes it", "the other way round", "no ReLU", "not negated", "of another value"],
)
def test_the_slopes_of_a_prelu_that_is_written_out(onnx_file, model, role):
    opened = open_model(onnx_file(model))
    (found,) = count_parameters(opened, find_batchnorms(opened)).tensors
    assert found.role is role
