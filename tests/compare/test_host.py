"""Models run in a process of their own: what they do to it is an answer, not our end."""

from __future__ import annotations

import io
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from inspector.compare.measuring import both
from inspector.compare.runtime.frames import FrameError, receive, send
from inspector.compare.runtime.host import Host, HostGoneError
from inspector.compare.runtime.run import Fed
from inspector.errors import RunError, UsageError
from inspector.facts.comparison import Verdict
from inspector.facts.patch import Runnable
from tests.compare.conftest import Compare

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
DOUBLE = HEAD + "g (float[N,3] x) => (float[N,3] y) { y = Add(x, x) }"
ENDLESS = (
    HEAD
    + """g (float[N,3] x) => (float[N,3] y) <int64 n = {4611686018427387904}, bool c = {1}> {
    y = Loop(n, c, x) <body = b (int64 i, bool go, float[N,3] s) => (bool on, float[N,3] t) {
        on = Identity(go)
        t = Relu(s)
    }>
}"""
)
GREEDY = (
    HEAD
    + """g (float[N,3] x) => (float[N,3] y) <int64[1] s = {100000000}> {
    big = ConstantOfShape(s)
    most = ReduceMax(big)
    y = Add(x, most)
}"""
)
X = np.arange(6, dtype=np.float32).reshape(2, 3)

linux = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits of Linux")


def source(text: str) -> Runnable:
    return Runnable(data=onnx.parser.parse_model(text).SerializeToString())


class TestFrames:
    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((0, 3), np.float32),
            np.float16([1.5, np.nan, np.inf]),
            np.array(7, np.int64),
            np.array([[True, False]]),
            np.arange(12, dtype=">i4").reshape(3, 4).T,
            np.arange(4).astype(np.complex64) * 1j,
        ],
    )
    def test_arrays_arrive_as_they_were(self, array: np.ndarray) -> None:
        stream = io.BytesIO()
        send(stream, {"do": "x"}, {"a": array, "b": X}, b"tail")
        stream.seek(0)
        header, arrays, data = receive(stream)
        assert header == {"do": "x"}
        assert data == b"tail"
        assert arrays["a"].dtype == array.dtype
        assert arrays["a"].tobytes() == array.tobytes()
        assert arrays["a"].shape == array.shape
        np.testing.assert_array_equal(arrays["b"], X)

    def test_texts_arrive(self) -> None:
        stream = io.BytesIO()
        send(stream, {}, {"a": np.array([["ä", "\x1b[31m"], ["", "b"]], dtype=object)})
        stream.seek(0)
        arrays = receive(stream)[1]
        assert arrays["a"].tolist() == [["ä", "\x1b[31m"], ["", "b"]]

    def test_a_message_that_ends_early_is_said(self) -> None:
        stream = io.BytesIO()
        send(stream, {}, {"a": X})
        for end in (0, 5, 20, len(stream.getvalue()) - 1):
            with pytest.raises(FrameError):
                receive(io.BytesIO(stream.getvalue()[:end]))

    def test_a_length_beyond_reason_is_refused(self) -> None:
        with pytest.raises(FrameError):
            receive(io.BytesIO(struct.pack("<QQ", 2**60, 0)))


def _is_gone(process: int) -> bool:
    """Whether a process ends; the system takes a moment to take back what it held."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


class TestHost:
    def test_it_runs_what_it_loads(self) -> None:
        with Host() as host:
            runner = host.load(source(DOUBLE), name="m")
            other = host.load(source(DOUBLE), name="m", optimise=False)
            for each in (runner, other, runner):
                np.testing.assert_array_equal(each.run(Fed(values={"x": X}))["y"], 2 * X)

    def test_a_path_runs(self, tmp_path: Path) -> None:
        path = tmp_path / "mödel \n.onnx"
        path.write_bytes(source(DOUBLE).data)
        with Host() as host:
            found = host.load(path, name="m").run(Fed(values={"x": X}))
        np.testing.assert_array_equal(found["y"], 2 * X)

    def test_a_batch_goes_in_in_parts(self) -> None:
        with Host() as host:
            found = host.load(source(DOUBLE), name="m").run(Fed(values={"x": X}, rows=1))
        np.testing.assert_array_equal(found["y"], 2 * X)

    def test_a_model_that_does_not_load_is_said_at_its_run_and_no_other(self) -> None:
        with Host() as host:
            wrong = host.load(Runnable(data=b"nonsense"), name="wrong")
            right = host.load(source(DOUBLE), name="right")
            np.testing.assert_array_equal(right.run(Fed(values={"x": X}))["y"], 2 * X)
            for _ in range(2):
                with pytest.raises(RunError, match="does not load") as caught:
                    wrong.run(Fed(values={"x": X}))
                assert caught.value.where == "wrong"
            np.testing.assert_array_equal(right.run(Fed(values={"x": X}))["y"], 2 * X)

    def test_a_run_that_fails_leaves_the_rest(self) -> None:
        with Host() as host:
            runner = host.load(source(DOUBLE), name="m")
            with pytest.raises(RunError):
                runner.run(Fed(values={"x": X.astype(np.int64)}))
            np.testing.assert_array_equal(runner.run(Fed(values={"x": X}))["y"], 2 * X)

    def test_models_that_are_let_go_of_do_not_disturb(self) -> None:
        with Host() as host:
            kept = host.load(source(DOUBLE), name="kept")
            for _ in range(5):
                found = host.load(source(DOUBLE), name="m").run(Fed(values={"x": X}))
                np.testing.assert_array_equal(found["y"], 2 * X)
            np.testing.assert_array_equal(kept.run(Fed(values={"x": X}))["y"], 2 * X)

    def test_what_is_loaded_ahead_is_asked_for_once(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        path.write_bytes(source(DOUBLE).data)
        with Host() as host:
            for _ in range(2):  # a model against itself
                host.load_ahead(path, name="m", optimise=False)
            self._catch_up(host)
            path.unlink()
            found = [host.load(path, name="m", optimise=False) for _ in range(2)]
            late = host.load(path, name="m", optimise=False)
            other = host.load(path, name="m", optimise=True)
            for each in found:
                np.testing.assert_array_equal(each.run(Fed(values={"x": X}))["y"], 2 * X)
            for each in (late, other):
                with pytest.raises(RunError, match="does not load"):
                    each.run(Fed(values={"x": X}))
        assert found[0] is not found[1]

    def test_what_is_loaded_ahead_for_nothing_is_let_go_of(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        path.write_bytes(b"nonsense")
        with Host() as host:
            host.load_ahead(path, name="m", optimise=True)
            self._catch_up(host)
            host.forget_ahead()
            path.write_bytes(source(DOUBLE).data)
            found = host.load(path, name="m").run(Fed(values={"x": X}))
        np.testing.assert_array_equal(found["y"], 2 * X)

    @staticmethod
    def _catch_up(host: Host) -> None:
        """What was asked for before a run is done after it."""
        host.load(source(DOUBLE), name="m").run(Fed(values={"x": X}))

    @linux
    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (signal.SIGSEGV, "signal SIGSEGV"),
            (signal.SIGABRT, "signal SIGABRT"),
            (signal.SIGKILL, "memory was out"),
        ],
    )
    def test_a_crash_is_told_with_its_signal(self, number: int, words: str) -> None:
        with Host() as host:
            runner = host.load(source(ENDLESS), name="endless.onnx")
            threading.Timer(1.0, os.kill, (host.process, number)).start()
            with pytest.raises(HostGoneError, match=words) as caught:
                runner.run(Fed(values={"x": X}))
            assert caught.value.where == "endless.onnx"
            assert "\n" not in str(caught.value)
            with pytest.raises(HostGoneError, match=words):
                host.load(source(DOUBLE), name="m").run(Fed(values={"x": X}))

    def test_a_run_without_end_is_ended(self) -> None:
        begin = time.monotonic()
        with Host(timeout=2.0) as host:
            runner = host.load(source(ENDLESS), name="m")
            with pytest.raises(HostGoneError, match="not done within 2 s"):
                runner.run(Fed(values={"x": X}))
        assert time.monotonic() - begin < 60

    @linux
    def test_memory_is_limited(self) -> None:
        with Host(memory=100_000_000) as host:
            runner = host.load(source(GREEDY), name="m")
            with pytest.raises(RunError, match="400 MB, more than is left to it"):
                runner.run(Fed(values={"x": X}))
            # It goes on with what fits.
            fits = host.load(source(DOUBLE), name="m")
            np.testing.assert_array_equal(fits.run(Fed(values={"x": X}))["y"], 2 * X)

    def test_a_provider_that_is_not_there_is_wrong_usage(self) -> None:
        with Host(providers=("NoSuchProvider",)) as host:
            runner = host.load(source(DOUBLE), name="m")
            with pytest.raises(UsageError, match="no execution provider 'NoSuchProvider'"):
                runner.run(Fed(values={"x": X}))

    def test_nothing_is_left_behind(self) -> None:
        with Host() as host:
            number = host.process
            host.load(source(ENDLESS), name="m")
        assert _is_gone(number)

    def test_what_the_runtime_prints_stays_off_the_screen(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with Host() as host:
            wrong = host.load(Runnable(data=b"nonsense"), name="wrong")
            with pytest.raises(RunError):
                wrong.run(Fed(values={"x": X}))
        assert capfd.readouterr() == ("", "")


class TestVerdicts:
    @pytest.mark.parametrize("lengths", ["1, 60000, 60000", "1099511627776, 1099511627776"])
    def test_inputs_that_no_memory_holds(self, compare: Compare, lengths: str) -> None:
        model = HEAD + f"g (float[{lengths}] x) => (float[{lengths}] y) {{ y = Relu(x) }}"
        begin = time.monotonic()
        found = compare(model, model, max_memory=2**30)
        assert found.verdict is Verdict.UNDECIDED
        assert "its inputs take" in found.reason
        assert "and there are 1.1 GB" in found.reason
        assert time.monotonic() - begin < 30

    def test_samples_that_no_memory_holds(self, compare: Compare) -> None:
        begin = time.monotonic()
        found = compare(DOUBLE, DOUBLE, samples=10**10, max_memory=10**9)
        assert found.verdict is Verdict.UNDECIDED
        assert "10,000,000,000 samples take 480.0 GB, and there are 1.0 GB" in found.reason
        assert time.monotonic() - begin < 30

    def test_a_model_that_is_refused_is_fed_once(
        self, compare: Compare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fed = []
        made = both.make_batches

        def counted(*given: Any, **options: Any) -> Any:
            fed.append(options["plan"])
            return made(*given, **options)

        monkeypatch.setattr(both, "make_batches", counted)
        model = (
            '<ir_version: 8, opset_import: ["" : 17, "far.away" : 1]>\n'
            "g (int64[N, M] x) => (int64[N, M] y) { y = far.away.Fold(x) }"
        )
        found = compare(model, model)
        assert found.verdict is Verdict.UNDECIDED
        assert "far.away" in found.reason
        assert len(fed) == 1

    def test_memory_that_is_out_in_judging(
        self, compare: Compare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def out(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr(both, "hold", out)
        found = compare(DOUBLE, DOUBLE)
        assert found.verdict is Verdict.UNDECIDED
        assert found.reason.startswith("comparing them takes more memory than there is")

    def test_a_run_without_end_is_undecided(self, compare: Compare) -> None:
        found = compare(ENDLESS, ENDLESS, timeout=3.0)
        assert found.verdict is Verdict.UNDECIDED
        assert "not done within 3 s" in found.reason

    @linux
    def test_a_model_that_needs_more_memory_than_given_is_undecided(self, compare: Compare) -> None:
        found = compare(GREEDY, GREEDY, max_memory=100_000_000)
        assert found.verdict is Verdict.UNDECIDED
        assert "400 MB" in found.reason
        assert compare(GREEDY, GREEDY).verdict is Verdict.IDENTICAL
