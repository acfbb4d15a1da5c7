from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from inspector.compare.measuring import floor
from inspector.compare.runtime.run import Array
from inspector.errors import ExitCode, ExportDisagreesError, RunError
from inspector.export import feeds, protos
from inspector.export import verify as verifying
from inspector.export.feeds import Feeds
from inspector.export.references import Reference, reference
from inspector.export.verify import ExpectedNorm, verify

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 3] x) => (float[batch, 3] y)
<float[3] scale = {1, 2, 3}, float[3] B = {0, 1, 2}, float[3] mean = {1, 1, 1},
 float[3] var = {1, 2, 4}>
{ [bn] y = BatchNormalization <epsilon: float = 0.001> (x, scale, B, mean, var) }
"""
VALUES = tuple(np.array(each, np.float32) for each in ([1, 2, 3], [0, 1, 2], [1, 1, 1], [1, 2, 4]))
INPUT = feeds.Input(name="x", dtype=np.dtype(np.float32), dims=(None, 3))
NORM = ExpectedNorm(node="bn", source="layer", values=VALUES, epsilon=1e-3)  # type: ignore[arg-type]  # four of them


def framework(batch: Feeds) -> list[Array]:
    scale, bias, mean, var = VALUES
    return [((batch["x"] - mean) / np.sqrt(var + np.float32(1e-3)) * scale + bias).astype("f4")]


def model() -> Any:
    return onnx.parser.parse_model(TEXT)


def check(
    proto: Any,
    run: Callable[[Feeds], Sequence[Array]] = framework,
    norms: Sequence[ExpectedNorm] = (NORM,),
    inputs: Sequence[feeds.Input] = (INPUT,),
) -> Any:
    return verify(
        proto.SerializeToString(),
        reference(run, inputs),
        norms,
        protos.stored_norms(proto),
        {each.name: protos.array(each) for each in proto.graph.initializer},
        name="m",
    )


def test_a_model_that_agrees() -> None:
    found = check(model())
    assert found.batch_sizes == (1, 5)
    assert (found.bitwise, found.of) == (4, 4)
    assert found.max_abs <= found.tolerance < 1e-4


def test_a_fixed_batch_is_kept() -> None:
    proto = onnx.parser.parse_model(TEXT.replace("batch", "4"))
    fixed = feeds.Input(name="x", dtype=np.dtype(np.float32), dims=(4, 3))
    assert check(proto, inputs=(fixed,)).batch_sizes == (4,)


def test_outputs_further_apart_than_rounding_are_refused() -> None:
    with pytest.raises(ExportDisagreesError) as caught:
        check(model(), lambda batch: [framework(batch)[0] * np.float32(1.001)])
    assert caught.value.exit_code == ExitCode.FINDINGS
    assert "rounding explains" in caught.value.what


def test_nan_in_the_exported_model_is_refused() -> None:
    proto = model()
    node = onnx.helper.make_node("Div", ["raw", "zero"], ["y"])
    proto.graph.node[0].output[0] = "raw"
    proto.graph.node.append(node)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(3, "f4"), "zero"))
    with pytest.raises(ExportDisagreesError, match="NaN or infinite in ONNX Runtime"):
        check(proto)


def test_nan_in_the_framework_is_refused() -> None:
    with pytest.raises(ExportDisagreesError, match="framework's own outputs are NaN"):
        check(model(), lambda batch: [framework(batch)[0] * np.float32("nan")])


def test_inputs_between_0_and_1_are_tried_where_normal_ones_give_nan() -> None:
    def logarithm(batch: Feeds) -> list[Array]:
        with np.errstate(invalid="ignore"):
            return [np.log(batch["x"])]

    made = reference(logarithm, (INPUT,))
    assert all(batch["x"].min() >= 0 and batch["x"].max() < 1 for batch in made.batches)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.__setitem__(1, np.float32(2.0000002)), "has other values"),
        (lambda values: values.__setitem__(0, np.float32(-0.0)), "has other values"),
    ],
)
@pytest.mark.parametrize("part", ["scale", "B", "mean", "var"])
def test_one_bit_of_a_batchnorm_is_seen(part: str, change: Any, said: str) -> None:
    index = ("scale", "B", "mean", "var").index(part)
    values = [each.copy() for each in VALUES]
    change(values[index])
    norm = ExpectedNorm(node="bn", source="layer", values=tuple(values), epsilon=1e-3)  # type: ignore[arg-type]  # four of them
    with pytest.raises(ExportDisagreesError, match=f"{part} of BatchNorm 'layer' {said}"):
        check(model(), norms=(norm,))


def test_another_epsilon_is_seen() -> None:
    norm = ExpectedNorm(node="bn", source="layer", values=NORM.values, epsilon=1.001e-3)
    with pytest.raises(ExportDisagreesError, match=r"epsilon of BatchNorm 'layer' is 0\.001"):
        check(model(), norms=(norm,))


def test_a_batchnorm_that_is_gone_is_seen() -> None:
    gone = ExpectedNorm(node="", source="layer", values=NORM.values, epsilon=1e-3)
    with pytest.raises(ExportDisagreesError, match="did not stay a BatchNormalization node"):
        check(model(), norms=(NORM, gone))


def test_a_computed_parameter_is_seen() -> None:
    proto = model()
    proto.graph.node.insert(0, onnx.helper.make_node("Identity", ["mean"], ["mean_again"]))
    proto.graph.node[1].input[3] = "mean_again"
    with pytest.raises(ExportDisagreesError, match="mean of BatchNorm 'layer' is computed"):
        check(proto)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda b: [framework(b)[0][:, :2]], r"float32\[1, 3\] in ONNX Runtime and float32\[1, 2"),
        (lambda b: [framework(b)[0].astype("f8")], "float64"),
        (lambda b: framework(b) * 2, "has 1 outputs and the framework's 2"),
    ],
)
def test_other_outputs_are_refused(run: Any, said: str) -> None:
    with pytest.raises(ExportDisagreesError, match=said):
        check(model(), run)


def test_what_cannot_be_run_cannot_be_verified() -> None:
    proto = onnx.parser.parse_model(TEXT.replace("float", "double", 2))
    with pytest.raises(RunError, match="nothing was written"):
        check(proto)


def test_free_axes_grow_until_the_model_takes_them() -> None:
    def picky(batch: Feeds) -> list[Array]:
        if batch["x"].shape[1] < 90:
            raise ValueError("too small")
        return [batch["x"]]

    free = feeds.Input(name="x", dtype=np.dtype(np.float32), dims=(None, None))
    assert [each["x"].shape for each in reference(picky, (free,)).batches] == [(1, 96), (5, 96)]


def test_ids_come_from_the_example() -> None:
    ids = feeds.Input(
        name="i", dtype=np.dtype(np.int64), dims=(None, 40), pool=np.array([3, 9], np.int64)
    )
    drawn = feeds.make((ids,), 5)["i"]
    assert set(np.unique(drawn)) == {3, 9}
    assert drawn.dtype == np.int64


def test_feeds_are_the_same_every_time() -> None:
    assert feeds.make((INPUT,), 5)["x"].tobytes() == feeds.make((INPUT,), 5)["x"].tobytes()
    assert isinstance(reference(framework, (INPUT,)), Reference)


def test_too_large_a_model_is_refused() -> None:
    from inspector.errors import UnreadableError

    protos.refuse_too_large(protos.LIMIT, "m")
    with pytest.raises(UnreadableError, match=r"takes 2\.0 GiB, and one ONNX file holds 2 GiB"):
        protos.refuse_too_large(protos.LIMIT + 1, "m")


def masked(proto: Any) -> Any:
    """The same with minus infinity where the input is small, as masks of attention have it."""
    text = TEXT.replace("[batch, 3] y)", "[batch, 3] z)").replace(
        "(x, scale, B, mean, var) }",
        "(x, scale, B, mean, var)\n  n = Less (x, half)\n  z = Where (n, low, y) }",
    )
    return onnx.parser.parse_model(
        text.replace("float[3] var", "float half = {0.5}, float low = {-inf}, float[3] var")
    )


def test_infinities_of_a_mask_are_compared() -> None:
    def run(batch: Feeds) -> list[Array]:
        return [np.where(batch["x"] < 0.5, -np.float32(np.inf), framework(batch)[0])]

    assert check(masked(None), run).bitwise == 4

    def other(batch: Feeds) -> list[Array]:
        return [np.where(batch["x"] < 0.5, np.float32(np.inf), framework(batch)[0])]

    with pytest.raises(ExportDisagreesError, match="NaN or infinite"):
        check(masked(None), other)


def test_an_output_of_infinities_alone_tells_nothing() -> None:
    with pytest.raises(ExportDisagreesError, match="NaN or infinite on random inputs"):
        reference(lambda batch: [batch["x"] * np.float32(np.inf)], [INPUT])


def test_random_outputs_are_not_compared_and_said() -> None:
    rng = np.random.default_rng(0)

    def noise(batch: Feeds) -> Array:
        return rng.standard_normal(batch["x"].shape).astype("f4")

    with pytest.raises(ExportDisagreesError, match="its outputs are random"):
        reference(lambda batch: [noise(batch)], [INPUT])
    wanted = reference(lambda batch: [*framework(batch), noise(batch)], [INPUT])
    assert wanted.random == {1}
    two = onnx.parser.parse_model(
        TEXT.replace("=> (float[batch, 3] y)", "=> (float[batch, 3] y, float[batch, 3] r)").replace(
            "(x, scale, B, mean, var) }", "(x, scale, B, mean, var)\n  r = Neg (x) }"
        )
    )
    found = check(two, lambda batch: [*framework(batch), noise(batch)])
    assert found.max_abs <= found.tolerance < 1e-4


def test_integers_that_differ_are_counted() -> None:
    ranks = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["" : 17]>
g (float[batch, 3] x) => (int64[batch, 3] y) <int64[1] k = {3}>
{ v, y = TopK (x, k) }""")
    with pytest.raises(
        ExportDisagreesError, match=r"[0-9]+ of [0-9]+ integers of output 'y' differ"
    ):
        check(ranks, lambda batch: [np.argsort(batch["x"]).astype("i8")], norms=())


def test_a_model_in_two_files_is_never_loaded_twice_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living: list[int] = []
    most = []

    class Counted(verifying.Runner):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            living.append(1)
            most.append(len(living))

        def __del__(self) -> None:
            living.pop()

    monkeypatch.setattr(verifying, "Runner", Counted)
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    weights = {each.name: protos.array(each) for each in model().graph.initializer}
    given = reference(framework, [INPUT]), [NORM], protos.stored_norms(model()), weights
    found = verify(tmp_path / "m.onnx", *given, name="m")
    assert (max(most), len(most)) == (1, 4)
    assert found == check(model())


def test_moving_in_pieces_moves_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(7, 9)).astype("f4")
    whole = floor.neighbours(values, np.random.default_rng(1))
    monkeypatch.setattr(verifying, "_AT_ONCE", 10)
    pieces = verifying._neighbours(values, np.random.default_rng(1))
    assert pieces.tobytes() == whole.tobytes() != values.tobytes()
