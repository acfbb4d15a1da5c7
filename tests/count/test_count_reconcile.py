"""Why two totals differ: causes with amounts known beforehand, and lists that always add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from onnx_text import parsed

from inspector.facts.count import Role
from inspector.facts.manifest import KEY, FrameworkTotals, Manifest, NotExported, SourceTensor
from inspector.facts.reconciliation import Amounts, Explanation, Reconciliation, Term
from inspector.flows import explain_total, reconcile_files
from inspector.report.text_reconciliation import as_table

rng = np.random.default_rng(5)
W, CB = rng.normal(size=(4, 2, 3, 3)), rng.normal(size=4)
SCALE, B, MEAN, VAR = rng.normal(size=(4, 4)).round(3)
VAR = np.abs(VAR) + 0.5
EPSILON = 1e-3
A = SCALE / np.sqrt(VAR + EPSILON)


def values(array: np.ndarray) -> str:
    """Numbers as ONNX's text form has them."""
    return ", ".join(f"{each:.9g}" for each in array.reshape(-1))


def declared(**arrays: np.ndarray) -> str:
    return ", ".join(
        f"float[{', '.join(map(str, each.shape))}] {name} = {{{values(each)}}}"
        for name, each in arrays.items()
    )


HEAD = declared(hw=rng.normal(size=(4, 3)), hb=rng.normal(size=3))
TAIL = """[relu] r = Relu (n)
  g = GlobalAveragePool (r)
  f = Flatten (g)
  [head] y = Gemm (f, hw, hb)"""


def net(stored: str, nodes: str, tail: str = TAIL, opsets: str = '"": 17') -> str:
    """A network that begins with `nodes`, which give `n`, and ends in a Dense of 15."""
    return f"""<ir_version: 8, opset_import: [{opsets}]>
agraph (float[N, 2, 8, 8] x) => (float[N, 3] y) <{stored}, {HEAD}> {{
  {nodes}
  {tail} }}"""


NORM = declared(s=SCALE, b=B, m=MEAN, v=VAR)
BATCHNORM = f"[bn] n = BatchNormalization <epsilon = {EPSILON}> (c, s, b, m, v)"
KEPT = net(f"{declared(w=W)}, {NORM}", f"[conv] c = Conv (x, w)\n{BATCHNORM}")
KEPT_BIAS = net(f"{declared(w=W, cb=CB)}, {NORM}", f"[conv] c = Conv (x, w, cb)\n{BATCHNORM}")


def folded(bias: np.ndarray) -> str:
    """The same with w' = a · w and b' = a · b + intercept."""
    scaled, shifted = W * A[:, None, None, None], A * bias + B - MEAN * A
    return net(declared(w=scaled, cb=shifted), "[conv] n = Conv (x, w, cb)")


AS_ARITHMETIC = net(
    declared(w=W, slope=A.reshape(1, 4, 1, 1), intercept=(B - MEAN * A).reshape(1, 4, 1, 1)),
    """[conv] c = Conv (x, w)
  [bn_S_batchnorm_S_mul_1] p = Mul (c, slope)
  [bn_S_batchnorm_S_add_1] n = Add (p, intercept)""",
)


@pytest.fixture
def compare(onnx_file) -> Callable[..., Reconciliation]:
    def run(left, right) -> Reconciliation:
        paths = [onnx_file(each, f"{name}.onnx") for name, each in (("a", left), ("b", right))]
        for path in paths:
            same = holds(reconcile_files(path, path))
            assert same.differences == ()
            assert not same.unexplained
        found, back = holds(reconcile_files(*paths)), holds(reconcile_files(*paths[::-1]))
        assert mirrored(found) == Counter(each.amounts for each in back.differences)
        assert found.unexplained == -back.unexplained
        return found

    return run


def holds(found: Reconciliation) -> Reconciliation:
    """In every column, the left total and all amounts make the right total."""
    before, after = found.totals
    for column in ("keras", "torch", "stored"):
        amounts = [getattr(each.amounts, column) for each in found.differences]
        unexplained = getattr(found.unexplained, column)
        assert getattr(before, column) + sum(amounts) + unexplained == getattr(after, column)
    assert all(each.amounts for each in found.differences)
    whats = [each.what for each in found.differences]
    assert len(whats) == len(set(whats))
    assert not found.unexplained or found.unexplained_where
    assert as_table(found).rows[0][3:] == (before.keras, before.torch, before.stored)
    return found


def mirrored(found: Reconciliation) -> Counter[Amounts]:
    return Counter(-each.amounts for each in found.differences)


def said(found: Reconciliation) -> dict[str, tuple[int, int, int]]:
    """Causes and their amounts, where everything is explained."""
    assert not found.unexplained, found.unexplained_where
    return {
        each.what: (each.amounts.keras, each.amounts.torch, each.amounts.stored)
        for each in found.differences
    }


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def without_name(text: str):
    """A model whose scopes are written with slashes, which the text form does not know."""
    proto = parsed(text)
    for node in proto.graph.node:
        node.name = node.name.replace("_S_", "/")
    return proto


# Biases.


@pytest.mark.parametrize(
    ("bias", "what"),
    [
        (np.zeros(4), "bias of zeros that the left alone has"),
        (np.array([0.0, 0.0, 1e-30, 0.0]), "bias that the left alone has"),
    ],
    ids=["zeros", "nonzero"],
)
def test_a_bias_that_is_lost(bias, what, compare):
    with_bias = net(declared(w=W, cb=bias), "[conv] n = Conv (x, w, cb)")
    found = compare(with_bias, net(declared(w=W), "[conv] n = Conv (x, w)"))
    assert said(found) == {what: (-4, -4, -4)}
    assert found.differences[0].where == ("conv",)


def test_a_bias_written_as_an_add_is_the_same_bias(compare):
    gemm = net(declared(w=W), "[conv] n = Conv (x, w)")
    apart = replaced(gemm, ("y = Gemm (f, hw, hb)", "d = MatMul (f, hw)\n y = Add (d, hb)"))
    found = compare(gemm, apart)
    assert said(found) == {}
    assert found.totals[0] == found.totals[1]


def test_zero_biases_of_several_layers_are_one_cause(compare):
    zeros = declared(w=W, cb=np.zeros(4), w2=W.reshape(2, 4, 3, 3), cb2=np.zeros(2))
    nodes = "[one] c = Conv (x, w, cb)\n [two] n = Conv (c, w2, cb2)"
    tail = "y = GlobalAveragePool (n)"
    found = compare(
        net(zeros, nodes, tail),
        net(zeros, replaced(nodes, (", cb2", ""), (", cb)", ")")), tail),
    )
    rest = {each.what: each for each in found.differences}
    assert rest["bias of zeros that the left alone has"].amounts.keras == -6
    assert rest["bias of zeros that the left alone has"].where == ("one", "two")


# Constants.

FLATTENED = net(
    f"{declared(w=W)}, int64[2] shape = {{0, -1}}",
    "[conv] n = Conv (x, w)",
    replaced(TAIL, ("Flatten (g)", "Reshape (g, shape)")),
)


def test_int64_constants_are_stored_and_never_counted(compare):
    found = compare(FLATTENED, net(declared(w=W), "[conv] n = Conv (x, w)"))
    assert said(found) == {"int64 constants (shapes, axes, indices) as initializers": (0, 0, -2)}


def test_constants_moved_from_initializers_to_attributes(compare):
    inside = replaced(
        FLATTENED,
        (", int64[2] shape = {0, -1}", ""),
        ("[relu]", "shape = Constant <value = int64[2] {0, -1}> ()\n [relu]"),
    )
    assert said(compare(FLATTENED, inside)) == {
        "int64 constants (shapes, axes, indices) as initializers": (0, 0, -2),
        "int64 constants (shapes, axes, indices) as attributes": (0, 0, 2),
    }


def test_scalars_of_activations_are_no_parameters(compare):
    clipped = replaced(
        FLATTENED,
        ("float[4, 2", "float lo = {0}, float hi = {6}, float[4, 2"),
        ("Relu (n)", "Clip (n, lo, hi)"),
    )
    assert said(compare(FLATTENED, clipped)) == {
        "numbers that are no parameters (scalars of activations, scales)": (0, 0, 2)
    }


def test_int32_and_int64_are_two_kinds(compare):
    cast = replaced(
        FLATTENED,
        ("int64[2] shape = {0, -1}", "int32[2] small = {0, -1}"),
        ("[relu]", "shape = Cast <to = 7> (small)\n [relu]"),
    )
    assert said(compare(FLATTENED, cast)) == {
        "int64 constants (shapes, axes, indices) as initializers": (0, 0, -2),
        "int32 constants (shapes, axes, indices) as initializers": (0, 0, 2),
    }


# BatchNorms.


def test_a_batchnorm_folded_into_a_conv_with_a_bias(compare):
    found = compare(KEPT_BIAS, folded(CB))
    assert said(found) == {
        "BatchNorm of the left that the right has folded into its weights": (-16, -8, -16)
    }
    assert found.differences[0].where == ("bn",)
    assert (found.totals[0].keras, found.totals[1].keras) == (72 + 4 + 16 + 15, 72 + 4 + 15)


def test_a_batchnorm_folded_into_a_conv_without_a_bias(compare):
    assert said(compare(KEPT, folded(np.zeros(4)))) == {
        "bias of the right that folding a BatchNorm has made": (4, 4, 4),
        "BatchNorm of the left that the right has folded into its weights": (-16, -8, -16),
    }


def test_the_other_way_round_it_names_the_other_side(compare):
    assert said(compare(folded(np.zeros(4)), KEPT)) == {
        "bias of the left that folding a BatchNorm has made": (-4, -4, -4),
        "BatchNorm of the right that the left has folded into its weights": (16, 8, 16),
    }


def test_a_batchnorm_that_is_left_out_is_not_called_folded(compare):
    bare = net(declared(w=W), "[conv] n = Conv (x, w)")
    (what,) = said(compare(KEPT, bare))
    assert what.startswith("BatchNorm of the left that ")
    assert "has folded" not in what


def test_other_weights_are_not_called_a_fold(compare):
    other = net(declared(w=rng.normal(size=W.shape), cb=CB), "[conv] n = Conv (x, w, cb)")
    causes = said(compare(KEPT_BIAS, other))
    assert not any("has folded" in what for what in causes)
    assert causes == {"BatchNorm of the left that is found nowhere in the right": (-16, -8, -16)}


def test_a_batchnorm_of_which_slope_and_intercept_are_left(compare):
    found = compare(KEPT, without_name(AS_ARITHMETIC))
    assert said(found) == {
        "BatchNorm of which the right keeps slope and intercept alone": (-16, -8, -8)
    }


def test_a_batchnorm_in_arithmetic_with_all_its_parameters_is_the_same(compare):
    four = {"s": SCALE, "b": B, "m": MEAN, "v": VAR}
    stored = declared(w=W, **{name: each.reshape(4, 1, 1) for name, each in four.items()})
    arithmetic = net(
        f"{stored}, float e = {{{EPSILON}}}",
        """[conv] c = Conv (x, w)
        d = Sub (c, m)
        u = Add (v, e)
        q = Sqrt (u)
        i = Div (d, q)
        k = Mul (i, s)
        n = Add (k, b)""",
    )
    assert said(compare(KEPT, arithmetic)) == {
        "numbers that are no parameters (scalars of activations, scales)": (0, 0, 1)
    }


def test_equal_tensors_that_the_exporter_stored_once(compare):
    ones = declared(w=W, s=np.ones(4), v=np.ones(4), b=np.zeros(4), m=np.zeros(4))
    merged = declared(w=W, s=np.ones(4), b=np.zeros(4))
    nodes = "[conv] c = Conv (x, w)\n [bn] n = BatchNormalization (c, s, b, m, v)"
    once = replaced(nodes, ("b, m, v", "b, b, s"))
    assert said(compare(net(ones, nodes), net(merged, once))) == {
        "equal tensors that the exporter stored once": (0, 0, -8)
    }


# Layers and shared weights.

TWICE = net(declared(w=W, d=rng.normal(size=(3, 3))), "[conv] n = Conv (x, w)")
TIED = replaced(
    TWICE,
    (
        "[head] y = Gemm (f, hw, hb)",
        "h = Gemm (f, hw, hb)\n t = MatMul (h, d)\n[again] y = MatMul (t, d)",
    ),
)


def test_tied_weights_that_one_side_stores_twice(compare):
    again = declared(d2=np.arange(9.0).reshape(3, 3))
    stored = replaced(TIED, ("MatMul (t, d)", "MatMul (t, d2)"), ("> {", f", {again}> {{"))
    found = compare(TIED, stored)
    what = "weight that the right stores again, and the other side shares"
    assert said(found) == {what: (9, 9, 9)}
    assert found.differences[0].where == ("again",)


def test_a_layer_that_is_missing(compare):
    short = replaced(TIED, ("[again] y = MatMul (t, d)", "y = Identity (t)"))
    assert said(compare(TIED, short)) == {}, "its weight is shared: no total differs"
    head = replaced(KEPT, ("[head] y = Gemm (f, hw, hb)", "y = Identity (f)"), (f", {HEAD}>", ">"))
    found = compare(KEPT, head)
    assert said(found) == {"layer that the left alone has": (-15, -15, -15)}
    assert found.differences[0].where == ("head",)


def test_a_layer_that_is_missing_and_whose_weights_are_still_stored(compare):
    left = replaced(KEPT, ("[head] y = Gemm (f, hw, hb)", "y = Identity (f)"))
    assert said(compare(KEPT, left)) == {
        "layer that the left alone has": (-15, -15, -15),
        "tensors of the right that no layer uses": (0, 0, 15),
    }


def test_a_layer_of_another_kind_is_no_changed_one(compare):
    """One layer taken out and another put in at its place."""
    prelu = replaced(
        KEPT,
        ("[relu] r = Relu (n)", "[act] r = PRelu (n, o)"),
        ("> {", ", float[4, 1, 1] o = {0.1, 0.2, 0.3, 0.4}> {"),
    )
    norm = replaced(
        KEPT,
        ("[relu] r = Relu (n)", "[norm] r = InstanceNormalization (n, o, p)"),
        ("> {", ", float[4] o = {1, 2, 3, 4}, float[4] p = {5, 6, 7, 8}> {"),
    )
    assert said(compare(prelu, norm)) == {
        "layer that the left alone has": (-4, -4, -4),
        "layer that the right alone has": (8, 8, 8),
    }


def test_tensors_that_no_layer_uses(compare):
    found = compare(KEPT, replaced(KEPT, ("float[3] hb", "float[7] loose, float[3] hb")))
    assert said(found) == {"tensors of the right that no layer uses": (0, 0, 7)}


def test_what_nothing_explains_is_a_number_with_its_layer(compare):
    """A convolution over one axis and one over two."""
    flat = rng.normal(size=(4, 2, 50))
    other = replaced(KEPT, (declared(w=W), declared(w=flat)), ("[N, 2, 8, 8] x", "[N, 2, 80] x"))
    found = compare(KEPT, other)
    assert found.unexplained == Amounts(keras=328, torch=328, stored=328)
    assert found.unexplained_where == ("weight of 'conv'",)
    assert found.differences == ()


def test_layers_of_another_size(compare):
    """Of a larger kernel, and of more channels, with all that follows from them."""
    large = rng.normal(size=(4, 2, 5, 5))
    found = compare(KEPT, replaced(KEPT, (declared(w=W), declared(w=large))))
    (sized,) = found.differences
    assert sized.amounts == Amounts(keras=128, torch=128, stored=128)
    assert sized.what == "layers of another size on either side"
    assert sized.where == ("weight of conv 4×2×3×3 → 4×2×5×5",)


def test_a_total_that_only_one_framework_counts(compare):
    """A BatchNorm's rows differ by its statistics alone in the column of PyTorch."""
    found = compare(KEPT, folded(np.zeros(4)))
    (gone,) = [each for each in found.differences if each.what.startswith("BatchNorm")]
    assert gone.amounts.keras - gone.amounts.torch == -8


def test_two_networks_with_nothing_in_common(compare):
    lookup = """agraph (int64[N, 5] x) => (float[N, 5, 3] y) <float[7, 3] table>
    { [only] y = Gather (table, x) }"""
    assert said(compare(KEPT, lookup)) == {
        "layer that the left alone has": (-87, -87, -87),
        "BatchNorm of the left that is found nowhere in the right": (-16, -8, -16),
        "layer that the right alone has": (21, 21, 21),
    }


@pytest.mark.parametrize("other", [KEPT, FLATTENED, AS_ARITHMETIC], ids=["kept", "flat", "affine"])
def test_a_graph_without_nodes(other, compare):
    empty = "agraph () => () {}"
    found = compare(empty, other)
    assert found.totals[0] == Amounts()
    assert not found.unexplained


def test_what_a_manifest_says_beyond_the_file(compare):
    proto = parsed(KEPT)
    manifest = Manifest(
        tool="bninspect", framework="torch", framework_version="2", exporter="torch",
        tensors=tuple(
            SourceTensor(name=each.name, source=each.name, role=role)
            for each in proto.graph.initializer
            for role in [Role.STATISTIC if each.name in "mv" else Role.LEARNED]
        ),
        batchnorms=(), not_exported=(NotExported(source="extra", elements=6, why="unused"),),
        totals=FrameworkTotals(trainable=72 + 8 + 15 + 6, other=8), verification=None,
    )  # fmt: skip
    helper.set_model_props(proto, {KEY: manifest.to_json()})
    found = compare(KEPT, proto)
    assert said(found) == {"counted by the framework and not in the file": (6, 6, 0)}


def test_an_unreadable_manifest_changes_nothing(compare):
    proto = parsed(KEPT)
    helper.set_model_props(proto, {KEY: json.dumps({"version": 99})})
    assert said(compare(KEPT, proto)) == {}


# A total from somebody's summary.

LEARNED, STATISTICS = 72 + 4 + 8 + 15, 8
FULL = replaced(
    KEPT_BIAS,
    ("Flatten (g)", "Reshape (g, shape)"),
    ("float[3] hb", "int64[2] shape = {0, -1}, float[3] hb"),
)
"""Keras' total is 107, PyTorch's 99; two lengths are stored."""


@pytest.fixture
def explained(onnx_file):
    def run(total: int, model=FULL) -> Explanation:
        found = explain_total(onnx_file(model), total)
        for terms in (found.terms, *found.others):
            assert all(each.elements for each in terms[1:])
            rest = found.unexplained if terms is found.terms else 0
            assert sum(each.elements for each in terms) + rest == total
            assert not terms or terms[0].elements == found.counted.torch
        assert dict(as_table(found).totals) == {"total": total}
        assert sum(row[2] for row in as_table(found).rows) == total
        return found

    return run


def terms_of(found: Explanation) -> list[tuple[str, int]]:
    """The first word of each term, and its elements."""
    return [(each.what.partition(":")[0], each.elements) for each in found.terms]


BASE = ("learned", LEARNED)
ALL = [BASE, ("running mean and var, and other buffers", STATISTICS)]
TOTALS = {
    "PyTorch": (LEARNED, [BASE]),
    "Keras": (107, ALL),
    "state_dict": (108, [*ALL, ("num_batches_tracked", 1)]),
    "all that is stored": (109, [*ALL, ("integer constants", 2)]),
    "PyTorch and lengths": (101, [BASE, ("integer constants", 2)]),
    "folded": (91, [BASE, ("folded", -8)]),
    "without the last layer, Keras": (92, [*ALL, ("without the layer", -15)]),
    "without the last layer, PyTorch": (84, [BASE, ("without the layer", -15)]),
    "Adam": (107 + 2 * 99 + 2, [*ALL, ("optimizer", 200)]),
}


@pytest.mark.parametrize(("total", "terms"), TOTALS.values(), ids=TOTALS)
def test_where_a_total_comes_from(total, terms, explained):
    found = explained(total)
    assert found.unexplained == 0
    everything: Sequence = (found.terms, *found.others)
    assert terms in [terms_of(replace(found, terms=each)) for each in everything]
    assert len(found.terms) == min(map(len, everything))


def test_the_fewest_causes_come_first(explained):
    assert terms_of(explained(LEARNED)) == [BASE]
    assert terms_of(explained(107)) == ALL


def test_what_folding_makes_of_a_conv_without_a_bias(explained):
    found = explained(72 + 4 + 15, KEPT)
    assert found.unexplained == 0
    ways = [terms_of(replace(found, terms=each)) for each in (found.terms, *found.others)]
    assert [("learned", 95), ("folded", -4)] in ways


def test_tied_weights_counted_for_each_layer(explained):
    found = explained(72 + 15 + 9 + 9, TIED)
    assert found.unexplained == 0
    assert [each.elements for each in found.terms] == [96, 9]
    assert "shared, and counted for each of 2 layers" in found.terms[1].what


def test_float_constants_and_unknown_roles(explained):
    found = explained(72 + 15 + 8, without_name(AS_ARITHMETIC))
    assert [each.elements for each in found.terms] == [87, 8]
    assert "unknown role" in found.terms[1].what


@pytest.mark.parametrize("total", [0, 1, 50, 5_000, 10**18])
def test_a_number_that_nothing_explains(total, explained):
    found = explained(total)
    assert found.unexplained != 0
    assert abs(found.unexplained) == min(abs(total - LEARNED), abs(total - 107))
    assert found.others == ()


def test_a_number_and_a_graph_without_nodes(explained):
    empty = "agraph () => () {}"
    assert explained(0, empty).unexplained == 0
    assert explained(5, empty).unexplained == 5


def causes(found: Explanation) -> list[Term]:
    """Of every sum that makes the total."""
    return [each for terms in (found.terms, *found.others) for each in terms]


def test_a_total_from_before_a_batchnorm_became_mul_and_add(explained):
    """Of 4 channels: Keras counts 16 of them, PyTorch 8, and the file's 8 have no role."""
    for with_statistics, own in ((True, 16), (False, 8)):
        base = explained(0, AS_ARITHMETIC).counted.torch
        found = explained(base + own, AS_ARITHMETIC)
        assert found.is_explained
        (cause,) = [each for each in causes(found) if each.what.startswith("merged into slope")]
        assert cause.elements == own
        assert ("mean and var" in cause.what) is with_statistics


def test_constants_in_nodes_are_a_cause(explained):
    held = "k = Constant <value = int64[4] {0, 0, 0, 0}> ()"
    moved = f"{held}\n  [conv] c0 = Conv (x, w)\n  c = Reshape (c0, k)"
    text = replaced(KEPT, ("[conv] c = Conv (x, w)", moved))
    base = explained(0, text).counted.keras
    found = explained(base + 4, text)
    assert found.is_explained
    assert any(each.what.startswith("constants in nodes") for each in causes(found))


def test_a_batchnorm_that_is_called_again_on_one_side(compare):
    again = NORM + ", " + declared(s2=SCALE + 1, b2=B, m2=MEAN, v2=VAR)
    body = "[conv] c = Conv (x, w)\n [one] d = BatchNormalization (c, s, b, m, v)\n [two] n = "
    twice = net(f"{declared(w=W)}, {again}", f"{body} BatchNormalization (d, s2, b2, m2, v2)")
    shared = net(f"{declared(w=W)}, {NORM}", f"{body} BatchNormalization (d, s, b, m, v)")
    found = compare(twice, shared)
    assert found.is_explained
    (gone,) = found.differences
    assert gone.amounts == Amounts(keras=-16, torch=-8, stored=-16)
    assert gone.what == "BatchNorm that the right shares with a layer before it"
