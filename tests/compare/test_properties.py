"""What holds for whatever network: seeds, small perturbations, and a model beside itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare import nets
from compare.conftest import Compare
from compare.nets import Net, Size, keras_like, torch_like
from inspector.facts.comparison import CauseKind, Verdict

sizes = st.builds(
    Size,
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 2, 3, 8]),
    filters=st.integers(1, 8),
    hidden=st.integers(1, 9),
    classes=st.integers(2, 6),
)
seeds = st.integers(0, 2**16)
few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def net_of(size: Size, seed: int) -> Net:
    return Net(weights=nets.weights(size, seed=seed), size=size)


@few
@given(size=sizes, seed=seeds)
def test_a_model_is_identical_to_itself(compare: Compare, size: Size, seed: int) -> None:
    for make in (keras_like, torch_like):
        model = make(net_of(size, seed))
        assert compare(model, model).verdict is Verdict.IDENTICAL


@few
@given(size=sizes, seed=seeds, softmax=st.booleans())
def test_two_exports_of_any_size_are_never_different(
    compare: Compare, size: Size, seed: int, softmax: bool
) -> None:
    net = net_of(size, seed).but(softmax=softmax)
    found = compare(keras_like(net), torch_like(net))
    # A dead network's outputs are constant, which proves nothing and is said.
    dead = found.verdict is Verdict.AGREES and "whatever is fed" in found.reason
    assert dead or found.verdict in (Verdict.EQUIVALENT, Verdict.UNDECIDED), found.reason


@few
@given(
    size=sizes,
    seed=seeds,
    name=st.sampled_from(sorted(nets.weights())),
    power=st.integers(-7, 1),
    where=st.integers(0, 2**16),
)
def test_no_change_of_a_weight_is_equivalent(
    compare: Compare, size: Size, seed: int, name: str, power: int, where: int
) -> None:
    net = net_of(size, seed)
    values = net.weights[name].copy()
    at = where % values.size
    values.flat[at] = np.nextafter(values.flat[at] + np.float32(10.0**power), np.float32(np.inf))
    found = compare(keras_like(net), torch_like(net.with_weight(name, values)))
    assert found.verdict not in (Verdict.IDENTICAL, Verdict.EQUIVALENT)


@few
@given(size=sizes, seed=seeds, epsilon=st.floats(1e-7, 1.0))
def test_no_other_epsilon_is_equivalent(
    compare: Compare, size: Size, seed: int, epsilon: float
) -> None:
    net = net_of(size, seed)
    found = compare(keras_like(net), torch_like(net.but(epsilon=epsilon)))
    same = np.float32(epsilon) == np.float32(net.epsilon)
    assert same or found.verdict not in (Verdict.IDENTICAL, Verdict.EQUIVALENT)
    listed = [each.kind for each in (*found.causes, *found.harmless)]
    assert same or found.verdict is Verdict.UNDECIDED or listed == [CauseKind.EPSILON]


@pytest.mark.parametrize("change", ["matched", "epsilon", "inner_relu"])
def test_ten_seeds_give_one_verdict(compare: Compare, change: str) -> None:
    net = net_of(Size(channels=3), 4)
    other = {"matched": net, "epsilon": net.but(epsilon=1e-5)}.get(
        change, net.but(inner_relu=False)
    )
    results = [compare(keras_like(net), torch_like(other), seed=seed) for seed in range(10)]
    assert len({each.verdict for each in results}) == 1
    assert len({tuple((c.kind, c.what, c.proof) for c in each.causes) for each in results}) == 1


def test_one_seed_gives_one_result(compare: Compare) -> None:
    left, right = keras_like(net_of(Size(), 1)), torch_like(net_of(Size(), 1).but(epsilon=1e-5))
    first, second = compare(left, right, seed=3), compare(left, right, seed=3)
    assert first.outputs == second.outputs
    assert first.causes == second.causes
