"""Inputs that have a default: initializers that are inputs as well, which IR 4 lets be fed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from inspector.compare.pairing.defaults import overridable, paired_defaults
from inspector.facts.comparison import Verdict
from tests.compare.conftest import Compare
from tests.compare.read import model_of

ONE = (Verdict.IDENTICAL, Verdict.EQUIVALENT)


def line(
    slope: str = "p",
    shift: str = "q",
    *,
    ir: int = 10,
    fed: tuple[str, ...] = ("p", "q"),
    values: tuple[float, float] = (1, 1),
    turned: bool = False,
) -> str:
    """x · slope + shift; `fed` are those that are inputs with a default."""
    inputs = "".join(f", float[1] {name}" for name in fed)
    names = sorted({slope, shift, *fed})
    stored = ", ".join(f"float[1] {n} = {{{v}}}" for n, v in zip(names, values, strict=True))
    # Other orders of operands: else the two were one in bits.
    product = f"Mul ({slope}, x)" if turned else f"Mul (x, {slope})"
    return f"""<ir_version: {ir}, opset_import: ["" : 17]>
        g (float[N, 4] x{inputs}) => (float[N, 4] y) <{stored}> {{
            m = {product} y = Add (m, {shift}) }}"""


def test_defaults_in_each_others_place_are_listed(compare: Compare) -> None:
    for turned in (False, True):
        found = compare(line(), line("q", "p", turned=turned))
        assert found.verdict is Verdict.AGREES
        assert {each.what for each in found.harmless} == {"inputs with a default"}
        assert [(each.left, each.right) for each in found.harmless] == [
            ("'p'", "'q'"),
            ("'q'", "'p'"),
        ]
    assert compare(line(), line()).verdict is Verdict.IDENTICAL
    assert compare(line(), line(turned=True)).verdict is Verdict.EQUIVALENT


def test_where_the_defaults_show_it_outputs_differ(compare: Compare) -> None:
    found = compare(line(values=(2, 3)), line("q", "p", values=(2, 3)))
    assert found.verdict is Verdict.DIFFERENT
    assert found.explained


@pytest.mark.parametrize("turned", [False, True])
def test_before_ir_4_none_can_be_fed(compare: Compare, turned: bool) -> None:
    old = line(ir=3)
    assert compare(old, line("q", "p", ir=3, turned=turned)).verdict in ONE
    assert compare(old, line("r", "s", ir=3, fed=("r", "s"), turned=turned)).verdict in ONE
    # Nor where none is an input.
    plain = line("r", "s", fed=(), turned=turned)
    found = compare(old, plain)
    assert found.verdict in ONE
    assert found.information == ()
    assert compare(old, line("r", "s", ir=3, fed=("r", "s"))).verdict is Verdict.IDENTICAL
    assert compare(old, line("r", "s", fed=())).verdict is Verdict.IDENTICAL


def test_one_side_alone_has_defaults(compare: Compare) -> None:
    for sides in ((line(), line(fed=())), (line(), line(ir=3)), (line(fed=()), line())):
        found = compare(*sides)
        assert found.verdict is Verdict.EQUIVALENT
        side = "right" if "float[1] p, " in sides[1] and "ir_version: 10" in sides[1] else "left"
        assert found.information == (
            f"inputs with a default on the {side} alone, compared at that: 'p', 'q'",
        )


def test_each_side_lets_another_be_fed(compare: Compare) -> None:
    left, right = line(fed=("p",)), line(fed=("q",))
    found = compare(left, right)
    assert found.verdict is Verdict.AGREES
    assert "inputs with a default" in {each.what for each in found.harmless}


def test_names_that_are_not_the_others_pair_by_what_they_hold(compare: Compare) -> None:
    left = line(values=(2, 3))
    for fed in (("r", "s"), ("s", "r")):
        found = compare(left, line("r", "s", fed=fed, values=(2, 3)))
        assert found.verdict is Verdict.IDENTICAL
    # And by their order where they hold the same.
    assert compare(line(), line("r", "s", fed=("r", "s"))).verdict is Verdict.IDENTICAL
    assert compare(line(), line("r", "s", fed=("s", "r"))).verdict is Verdict.AGREES


def test_operands_of_one_sum_have_no_order(compare: Compare) -> None:
    def summed(text: str) -> str:
        return f"""<ir_version: 10, opset_import: ["" : 17]>
            g (float[N, 4] x, float[1] p, float[1] q) => (float[N, 4] y)
            <float[1] p = {{1}}, float[1] q = {{1}}> {{ s = Add ({text}) y = Mul (x, s) }}"""

    assert compare(summed("p, q"), summed("q, p")).verdict is Verdict.EQUIVALENT
    found = compare(summed("p, q"), summed("p, p"))
    assert found.verdict is Verdict.AGREES


def test_defaults_that_a_subgraph_reads(compare: Compare) -> None:
    def inner(first: str, second: str) -> str:
        return f"""<ir_version: 10, opset_import: ["" : 17]>
            g (float[4, 4] x, float p, float q) => (float[4, 4] y)
            <float p = {{1}}, float q = {{1}}, float zero = {{0}}> {{
                k = ReduceMax <keepdims = 0> (x) c = Greater (k, zero)
                t = If (c) <then_branch = a () => (u) {{ u = Add (x, {first}) }},
                    else_branch = b () => (v) {{ w = Add (x, {second}) v = Neg (w) }}>
                y = Tanh (t) }}"""

    assert compare(inner("p", "q"), inner("p", "q")).verdict is Verdict.IDENTICAL
    found = compare(inner("p", "q"), inner("q", "p"))
    assert found.verdict is Verdict.AGREES
    assert "inputs with a default" in {each.what for each in found.harmless}


def network(*, named: str = "{}", shuffled: bool = False, scale: float = 1.0) -> onnx.ModelProto:
    """Dense layers whose parameters are inputs with a default, some of which hold the same."""
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) {
            a = Gemm (x, w1, b1) h = Relu (a) b = Gemm (h, w2, b2) i = Relu (b)
            y = Gemm (i, w3, b3) }"""
    )
    stored = {}
    for at in "123":
        stored[f"w{at}"] = scale * rng.standard_normal((4, 4))
        stored[f"b{at}"] = np.zeros(4)
    new = {name: named.format(name) for name in stored}
    for node in model.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
    values = [onnx.numpy_helper.from_array(v.astype("f"), new[k]) for k, v in stored.items()]
    model.graph.initializer.extend(values[::-1] if shuffled else values)
    for each in values:
        info = onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims)
        model.graph.input.append(info)
    return model


def test_a_network_all_of_whose_parameters_can_be_fed(compare: Compare) -> None:
    left = network()
    for right in (network(named="layer.{}"), network(shuffled=True)):
        assert compare(left, right).verdict is Verdict.IDENTICAL
    nearly = network(named="layer.{}", scale=1 + 2e-7)
    found = compare(left, nearly)
    assert found.verdict is Verdict.EQUIVALENT
    assert any("with its own rounding" in each for each in found.information)


def test_pairs_of_defaults() -> None:
    models = [
        model_of(line(fed=("p", "q", "r"), values=(1, 2, 3))),
        model_of(line(fed=("q", "s", "t"), slope="q", shift="s", values=(2, 3, 1))),
    ]
    held = [lambda tensor, model=model: float(model.weights.load(tensor)[0]) for model in models]
    found = paired_defaults(*map(overridable, models), (held[0], held[1]))
    assert found == {"q": "q", "r": "s", "p": "t"}
    assert overridable(model_of(line(ir=3))) == {}


def test_nor_where_an_old_opset_is_rewritten(compare: Compare) -> None:
    def old(*names: str) -> str:
        text = line(*names, ir=3, fed=names).replace('"" : 17', '"" : 6')
        return text.replace("Mul (", "Mul <broadcast = 1> (").replace(
            "Add (", "Add <broadcast = 1> ("
        )

    assert compare(old("p", "q"), old("q", "p")).verdict is Verdict.IDENTICAL
    found = compare(old("p", "q"), line("q", "p", fed=()))
    assert found.verdict in ONE
    assert not any("default" in each for each in found.information)
