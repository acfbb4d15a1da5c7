"""Inputs from the user's files: matched, laid out, cut, cast, and refused in one line."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compare.conftest import Compare
from compare.nets import Net, keras_like, torch_like
from compare.read import model_of
from inspector.compare.feeding.exact import exactly
from inspector.compare.feeding.feeds import Batch
from inspector.compare.feeding.given import MOST_GIVEN, Given, open_given
from inspector.compare.pairing.layout import Layouts
from inspector.compare.pairing.pair import Pair, pair_inputs
from inspector.errors import InspectorError, UndecidedError, UnreadableError, UsageError
from inspector.facts.comparison import Verdict

NONE = Layouts(axes={}, flat={}, told_by={})
RNG = np.random.default_rng(0)


def pairs_of(left: str, right: str, layout: str | None = None) -> tuple[Pair, ...]:
    models = [model_of(f"({inputs}) => (float[1] y) {{ }}") for inputs in (left, right)]
    return pair_inputs(*models, (NONE, NONE), layout)


def batches_of(found: Given, pairs: Sequence[Pair], most: int = 32) -> tuple[Batch, ...]:
    return found.batches([each.permutations[0] for each in pairs], most=most)


def rows(count: int, *dims: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.standard_normal((count, *dims)).astype(dtype)


@pytest.fixture
def npz(tmp_path: Path):
    def write(**arrays: Any) -> Path:
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        return path

    return write


TWO = "float[N, 3] a, int64[N] b"


class TestMatching:
    def test_names_of_the_left_come_before_those_of_the_right(self, npz: Any) -> None:
        pairs = pairs_of("float[N, 3] a, float[N, 4] b", "float[N, 4] a, float[N, 3] b")
        left, right = rows(5, 3), rows(5, 4)
        (batch,) = batches_of(open_given(npz(a=left, b=right), pairs), pairs)
        np.testing.assert_array_equal(batch.left.values["a"], left)
        np.testing.assert_array_equal(batch.right.values["b"], left)
        np.testing.assert_array_equal(batch.right.values["a"], right)

    @pytest.mark.parametrize("name", ["a", "p", "anything", "arr_0"])
    def test_one_input_takes_one_array(self, npz: Any, name: str) -> None:
        pairs = pairs_of("float[N, 3] a", "float[N, 3] p")
        (batch,) = batches_of(open_given(npz(**{name: rows(5, 3)}), pairs), pairs)
        assert batch.left.values["a"].shape == (5, 3)
        assert list(batch.right.values) == ["p"]

    def test_positions_where_numpy_made_the_names_up(self, tmp_path: Path) -> None:
        pairs = pairs_of(TWO, TWO)
        np.savez(tmp_path / "x.npz", rows(4, 3), np.arange(4))
        (batch,) = batches_of(open_given(tmp_path / "x.npz", pairs), pairs)
        assert batch.left.values["b"].tolist() == [0, 1, 2, 3]

    def test_names_that_no_file_may_have(self, tmp_path: Path) -> None:
        pairs = pairs_of('float[N, 3] "model/a:0", int64[N] b', TWO.replace(" a", " q"))
        np.save(tmp_path / "model_a_0.npy", rows(4, 3))
        np.save(tmp_path / "b.npy", np.arange(4))
        (batch,) = batches_of(open_given(tmp_path, pairs), pairs)
        assert batch.left.values["model/a:0"].shape == (4, 3)

    def test_a_name_that_is_missing(self, npz: Any) -> None:
        with pytest.raises(
            UsageError, match=r"no array for input 'a'.*'aa', 'c'; did you mean 'aa'"
        ):
            open_given(npz(aa=rows(4, 3), b=np.arange(4), c=np.arange(4)), pairs_of(TWO, TWO))

    @pytest.mark.parametrize("folder", [False, True])
    def test_what_goes_to_no_input_may_be_anything(self, tmp_path: Path, folder: bool) -> None:
        pairs = pairs_of("float[N, 3] a", "float[N, 3] a")
        arrays = {"a": rows(4, 3), "labels": np.array([{"x": 1}, None], dtype=object)}
        for name, values in arrays.items():
            np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
        np.savez(tmp_path.parent / "all.npz", **arrays)
        (tmp_path / "._a.npy").write_bytes(b"")
        path = tmp_path if folder else tmp_path.parent / "all.npz"
        (batch,) = batches_of(open_given(path, pairs), pairs)
        np.testing.assert_array_equal(batch.left.values["a"], arrays["a"])

    def test_no_inputs_at_all(self, npz: Any) -> None:
        with pytest.raises(UsageError, match="take no inputs"):
            open_given(npz(a=rows(1, 3)), ())


class TestLayout:
    PAIRS = "float[N, 4, 5, 3] a", "float[N, 3, 4, 5] a"

    @pytest.mark.parametrize("side", [0, 1])
    def test_the_side_whose_shape_fits(self, npz: Any, side: int) -> None:
        pairs = pairs_of(*self.PAIRS)
        images = rows(5, 4, 5, 3)
        data = (images, images.transpose(0, 3, 1, 2))[side]
        found = open_given(npz(a=data), pairs)
        (batch,) = batches_of(found, pairs)
        np.testing.assert_array_equal(batch.left.values["a"], images)
        np.testing.assert_array_equal(batch.right.values["a"], images.transpose(0, 3, 1, 2))
        assert batch.right.values["a"].flags.c_contiguous
        assert len(found.notes) == side
        assert all("right model's [N, 3, 4, 5]" in each for each in found.notes)

    def test_the_left_side_where_both_fit(self, npz: Any) -> None:
        pairs = pairs_of("float[N, 4, 4, 4] a", "float[N, 4, 4, 4] a", "NHWC:NCHW")
        images = rows(2, 4, 4, 4)
        found = open_given(npz(a=images), pairs)
        (batch,) = batches_of(found, pairs)
        np.testing.assert_array_equal(batch.left.values["a"], images)
        np.testing.assert_array_equal(batch.right.values["a"], images.transpose(0, 3, 1, 2))
        assert found.notes == ()

    def test_neither_fits(self, npz: Any) -> None:
        with pytest.raises(
            UsageError, match=r"shape \[5, 4, 5, 2\], and input 'a' is \[N, 4, 5, 3\]"
        ):
            open_given(npz(a=rows(5, 4, 5, 2)), pairs_of(*self.PAIRS))
        with pytest.raises(UsageError, match="first dimension counts rows"):
            open_given(npz(a=rows(4, 5, 3)), pairs_of(*self.PAIRS))


class TestRows:
    def test_cut_in_batches_of_32(self, npz: Any) -> None:
        pairs = pairs_of(TWO, TWO)
        a, b = rows(70, 3), np.arange(70)
        found = open_given(npz(a=a, b=b), pairs)
        batches = batches_of(found, pairs)
        assert [each.size for each in batches] == [32, 32, 6]
        np.testing.assert_array_equal(np.concatenate([e.left.values["a"] for e in batches]), a)
        np.testing.assert_array_equal(np.concatenate([e.right.values["b"] for e in batches]), b)
        assert found.describe == "images.npz (70 rows)"
        assert {each.size for each in batches_of(found, pairs, most=1)} == {1}

    def test_no_more_than_a_batch_is_held(self, npz: Any) -> None:
        pairs = pairs_of("float[N, 8000] a", "float[N, 8000] a")
        batches = batches_of(open_given(npz(a=rows(640, 8000)), pairs), pairs)
        assert len(batches) == 20
        tracemalloc.start()
        for _ in range(2):
            for each in batches:
                assert each.left.values["a"].shape == each.right.values["a"].shape
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 640 * 8000 * 4 / 3

    def test_large_rows_come_in_fewer(self, npz: Any) -> None:
        pairs = pairs_of("float[N, 3, 224, 224] a", "float[N, 3, 224, 224] a")
        found = open_given(npz(a=rows(5, 3, 224, 224)), pairs)
        assert [each.size for each in batches_of(found, pairs)] == [2, 2, 1]

    def test_samples_and_the_most_that_is_fed(self, npz: Any) -> None:
        pairs = pairs_of("float[N, 3] a", "float[N, 3] a")
        path = npz(a=rows(MOST_GIVEN + 6, 3))
        found = open_given(path, pairs, samples=40)
        assert [each.size for each in batches_of(found, pairs)] == [32, 8]
        assert found.describe == f"images.npz (40 of {MOST_GIVEN + 6} rows)"
        assert f"({MOST_GIVEN} of" in open_given(path, pairs).describe
        assert f"({MOST_GIVEN + 6} rows)" in open_given(path, pairs, samples=10**6).describe
        with pytest.raises(UsageError, match="--samples"):
            open_given(path, pairs, samples=0)

    def test_fixed_batches_and_what_is_left_over(self, npz: Any) -> None:
        pairs = pairs_of("float[4, 3] a", "float[N, 3] a")
        found = open_given(npz(a=rows(10, 3)), pairs)
        assert [each.size for each in batches_of(found, pairs)] == [4, 4]
        assert found.notes == ("the last 2 rows fill no batch of 4: not fed",)
        assert found.describe == "images.npz (8 of 10 rows)"
        found = open_given(npz(a=rows(12, 3)), pairs, samples=5)
        assert [each.size for each in batches_of(found, pairs)] == [4, 4]
        with pytest.raises(UsageError, match="3 rows, and the models take 4"):
            open_given(npz(a=rows(3, 3)), pairs)

    def test_fixed_batches_of_two_sizes(self, npz: Any) -> None:
        pairs = pairs_of("float[4, 3] a", "float[6, 3] a")
        (batch,) = batches_of(open_given(npz(a=rows(12, 3)), pairs), pairs)
        assert [len(part["a"]) for part in batch.left.parts()] == [4, 4, 4]
        assert [len(part["a"]) for part in batch.right.parts()] == [6, 6]
        far = pairs_of("float[63, 3] a", "float[64, 3] a")
        with pytest.raises(UndecidedError, match="63 rows at a time"):
            open_given(npz(a=rows(63 * 64, 3)), far)

    def test_what_is_no_batch_goes_into_each(self, npz: Any) -> None:
        inputs = "float[N, 3] a, float[2] k, float s, float[K, 5] m, float[N, K] q"
        pairs = pairs_of(inputs, inputs)
        path = npz(a=rows(40, 3), k=rows(2), s=np.float32(3), m=rows(7, 5), q=rows(40, 7))
        first, second = batches_of(open_given(path, pairs), pairs)
        assert (first.size, second.size) == (32, 8)
        for each in (first, second):
            assert each.left.values["k"].shape == (2,)
            assert each.left.values["s"].shape == ()
            assert each.right.values["m"].shape == (7, 5)

    def test_rows_that_do_not_correspond(self, npz: Any) -> None:
        with pytest.raises(UsageError, match="'a' has 4, 'b' has 5"):
            open_given(npz(a=rows(4, 3), b=np.arange(5)), pairs_of(TWO, TWO))
        with pytest.raises(UsageError, match="0 rows"):
            open_given(npz(a=rows(0, 3), b=np.arange(0)), pairs_of(TWO, TWO))

    def test_a_batch_in_each_file(self, tmp_path: Path) -> None:
        pairs = pairs_of("float[N, 3] a", "float[N, 3] a")
        for at, count in ((10, 5), (2, 50), (1, 7)):
            np.savez(tmp_path / f"batch_{at}.npz", a=rows(count, 3))
        found = open_given(tmp_path, pairs)
        assert [each.size for each in batches_of(found, pairs)] == [7, 50, 5]
        assert found.describe == f"{tmp_path.name} (62 rows)"
        found = open_given(tmp_path, pairs, samples=8)
        assert [each.size for each in batches_of(found, pairs)] == [7, 1]
        assert found.describe == f"{tmp_path.name} (8 rows from the first 2 of 3 files)"


class TestTypes:
    @pytest.mark.parametrize(
        ("data", "dtype"),
        [
            (np.float16, "float"),
            (">f4", "float"),
            (np.uint8, "float"),
            (np.uint8, "int64"),
            (np.int64, "float"),
            (np.int64, "uint8"),
            (np.float64, "int32"),
            (np.int8, "bool"),
            (np.bool_, "int64"),
        ],
    )
    def test_what_stays_the_same_is_cast(self, npz: Any, data: Any, dtype: str) -> None:
        pairs = pairs_of(f"{dtype}[N] a", f"{dtype}[N] a")
        values = np.array([0, 1, 1, 0]).astype(data)
        (batch,) = batches_of(open_given(npz(a=values), pairs), pairs)
        np.testing.assert_array_equal(batch.left.values["a"], values)
        assert batch.left.values["a"].dtype.byteorder in "=|"

    def test_rounding_is_said_and_is_the_same_on_both_sides(self, npz: Any) -> None:
        pairs = pairs_of("float16[N] a", "float[N] a")
        found = open_given(npz(a=np.array([0.1, 0.2])), pairs)
        (batch,) = batches_of(found, pairs)
        np.testing.assert_array_equal(batch.left.values["a"], batch.right.values["a"])
        assert found.notes == ("given 'a' is float64: rounded to float16 on both sides",)

    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            ([0.5], "int64"),
            ([300], "uint8"),
            ([-1], "uint64"),
            ([2], "bool"),
            ([2**53 + 1], "double"),
            ([2**24 + 1], "float"),
            ([2**63 - 1], "float"),
            ([1e30], "int64"),
            ([1e30], "float16"),
            ([float("nan")], "float"),
            ([float("inf")], "float"),
        ],
    )
    def test_what_would_change_is_refused(self, npz: Any, values: list[float], dtype: str) -> None:
        pairs = pairs_of(f"{dtype}[N] a", f"{dtype}[N] a")
        (batch,) = batches_of(open_given(npz(a=np.array(values)), pairs), pairs)
        with pytest.raises(UsageError, match=r"does not fit into|NaN or infinity"):
            batch.left.values["a"]

    def test_texts(self, npz: Any) -> None:
        pairs = pairs_of("string[N] a", "string[N] a")
        for data in (np.array(["x", "ü"]), np.array([b"x", "ü".encode()])):
            (batch,) = batches_of(open_given(npz(a=data), pairs), pairs)
            assert batch.left.values["a"].tolist() == ["x", "ü"]
        with pytest.raises(UsageError, match="takes string"):
            open_given(npz(a=np.arange(3)), pairs)
        with pytest.raises(UsageError, match="takes float32"):
            open_given(npz(a=np.array(["1"])), pairs_of("float[N] a", "float[N] a"))

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 300)), max_size=4),
        st.sampled_from("bool int8 uint8 int32 int64 uint64 float16 float32 float64".split()),
    )
    def test_integers_are_exact_or_refused(self, numbers: list[int], dtype: str) -> None:
        values = np.array(numbers, np.int64)
        try:
            cast = exactly(values, np.dtype(dtype), "a")
        except UsageError:
            return
        assert [int(each) for each in cast] == numbers


def header(text: str) -> bytes:
    body = text.encode() + b" " * 20 + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def saved(values: np.ndarray) -> bytes:
    to = io.BytesIO()
    np.save(to, values, allow_pickle=True)
    return to.getvalue()


BROKEN: Mapping[str, bytes] = {
    "empty": b"",
    "text": b"hello",
    "cut off": saved(np.zeros((50, 3), np.float32))[:-4],
    "objects": saved(np.array([{"a": 1}, None], dtype=object)),
    "complex": saved(np.zeros((4, 3), np.complex64)),
    "records": saved(np.zeros(4, dtype=[("x", "f4")])),
    "huge shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }"),
    "negative": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3), }"),
    "no shape": header("{'descr': '<f4'}"),
    "nested": header("(" * 5000),
    "long header": b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + b"{" * 20_000,
    "another version": b"\x93NUMPY\x09\x00" + b"\x00" * 40,
}


class TestBroken:
    PAIRS = pairs_of("float[N, 3] a", "float[N, 3] a")

    def read(self, path: Path) -> list[np.ndarray]:
        batches = batches_of(open_given(path, self.PAIRS), self.PAIRS)
        return [each.left.values["a"] for each in batches]

    def refused(self, path: Path, kind: type[InspectorError] = UnreadableError) -> str:
        with pytest.raises(kind) as caught:
            self.read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        return str(caught.value)

    @pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
    def test_broken_arrays(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.npy"
        path.write_bytes(content)
        assert str(path) in self.refused(path)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", content)
        assert "a.npz" in self.refused(tmp_path / "a.npz")

    def test_a_header_that_lies_is_found_before_anything_is_read(self, tmp_path: Path) -> None:
        for at, name in enumerate(("cut off", "huge shape", "negative")):
            folder = tmp_path / str(at)
            folder.mkdir()
            (folder / "a.npy").write_bytes(BROKEN[name])
            with zipfile.ZipFile(folder / "a.npz", "w") as archive:
                archive.writestr("a.npy", BROKEN[name])
            for path in folder.iterdir():
                with pytest.raises(UnreadableError, match="its header says"):
                    open_given(path, self.PAIRS)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"x" * 100])
    def test_broken_archives(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.npz"
        path.write_bytes(content)
        self.refused(path)

    def test_damage_inside_of_an_archive(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        np.savez_compressed(path, a=np.zeros((5000, 3), np.float32))
        data = bytearray(path.read_bytes())
        rng = np.random.default_rng(0)
        for _ in range(100):
            bad = bytearray(data)
            bad[int(rng.integers(0, len(bad)))] ^= 1 << int(rng.integers(0, 8))
            path.write_bytes(bad)
            try:
                self.read(path)
            except InspectorError as error:
                assert "\n" not in str(error)  # noqa: PT017  # that there is an error is not said

    def test_what_is_not_there_or_no_file(self, tmp_path: Path) -> None:
        assert "no such file" in self.refused(tmp_path / "none.npz")
        self.refused(tmp_path, UsageError)
        (tmp_path / "a.txt").write_text("a")
        self.refused(tmp_path / "a.txt", UsageError)
        (tmp_path / "folder.npz").mkdir()
        self.refused(tmp_path / "folder.npz", UsageError)
        np.savez(tmp_path / "b.npz", a=rows(1, 3))
        np.save(tmp_path / "a.npy", rows(1, 3))
        assert "both .npy and .npz" in self.refused(tmp_path, UsageError)
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "pipe.npy")
            assert "no file" in self.refused(tmp_path / "pipe.npy")

    def test_an_archive_without_arrays(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("readme.txt", "hello")
        assert "no arrays" in self.refused(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_columns_first(self, tmp_path: Path, name: str) -> None:
        values = rows(70, 3)
        write = np.save if name.endswith("npy") else np.savez_compressed
        write(tmp_path / name, np.asfortranarray(values))
        np.testing.assert_array_equal(np.concatenate(self.read(tmp_path / name)), values)


class TestWhole:
    """Through a whole comparison."""

    def test_the_result_says_what_was_fed(self, compare: Compare, tmp_path: Path) -> None:
        left, right = keras_like(Net()), torch_like(Net())
        dims = [each.dim_value or 9 for each in left.graph.input[0].type.tensor_type.shape.dim]
        np.savez(tmp_path / "images.npz", x=rows(9, *dims[1:], dtype=np.float64))
        found = compare(left, right, data=tmp_path / "images.npz")
        assert found.verdict is Verdict.EQUIVALENT
        assert found.batch_sizes == (9,)
        assert any("rounded to float32" in each for each in found.information)
        right = torch_like(Net(epsilon=1e-5))
        assert compare(left, right, data=tmp_path / "images.npz").verdict is Verdict.DIFFERENT

    def test_nan_in_the_data_is_wrong_usage(self, compare: Compare, tmp_path: Path) -> None:
        model = (
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y)'
            " { y = Relu(x) }"
        )
        values = rows(40, 3)
        values[35, 1] = np.nan
        np.savez(tmp_path / "x.npz", x=values)
        with pytest.raises(UsageError, match=r"rows 32 to 39.* holds NaN"):
            compare(model, model, data=tmp_path / "x.npz")
        assert compare(model, model, data=tmp_path / "x.npz", samples=30).verdict is (
            Verdict.IDENTICAL
        )

    def test_an_input_without_rank_takes_what_is_given(
        self, compare: Compare, tmp_path: Path
    ) -> None:
        made = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (y) { y = Relu(x) }'
        )
        made.graph.input[0].type.tensor_type.ClearField("shape")
        np.savez(tmp_path / "x.npz", x=rows(4, 3))
        assert compare(made, made, data=tmp_path / "x.npz").verdict is Verdict.IDENTICAL

    def test_samples_of_random_inputs(self, compare: Compare) -> None:
        model = torch_like(Net())
        found = compare(model, model, samples=40)
        assert found.batch_sizes == (1, 32, 7)
        with pytest.raises(UsageError, match="--samples"):
            compare(model, model, samples=0)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(1, 80),
    samples=st.one_of(st.none(), st.integers(1, 100)),
    fixed=st.tuples(st.sampled_from(["N", "1", "2", "3"]), st.sampled_from(["N", "2", "3"])),
    compressed=st.booleans(),
    most=st.sampled_from([1, 32]),
)
def test_rows_are_fed_in_their_order_and_once(
    tmp_path: Path,
    count: int,
    samples: int | None,
    fixed: tuple[str, str],
    compressed: bool,
    most: int,
) -> None:
    pairs = pairs_of(*(f"float[{each}, 2] a" for each in fixed))
    values = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    write = np.savez_compressed if compressed else np.savez
    write(tmp_path / "v.npz", a=values)
    try:
        found = open_given(tmp_path / "v.npz", pairs, samples=samples)
    except UsageError as error:
        assert "take" in str(error)  # noqa: PT017  # what is not refused is looked at below
        return
    batches = batches_of(found, pairs, most)
    for side in ("left", "right"):
        joined = np.concatenate([getattr(each, side).values["a"] for each in batches])
        np.testing.assert_array_equal(joined, values[: len(joined)])
    wanted = min(count, samples or MOST_GIVEN)
    step = int(np.lcm.reduce([int(each) for each in fixed if each != "N"] or [1]))
    assert len(joined) <= count
    assert abs(len(joined) - wanted) < step
