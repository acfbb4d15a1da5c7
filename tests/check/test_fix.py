"""`bninspect check --fix` and `--diff` as their users meet them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_text import FEW, parsed

from inspector.check.rules import RULES
from inspector.facts.comparison import Verdict
from inspector.facts.manifest import KEY
from inspector.flows import compare
from inspector.flows.compare import compare_files

TRAINING = f"""agraph (float[N, 2] x) => (float[N, 2] y) {FEW}
{{ [bn] y, rm, rv = BatchNormalization <training_mode = 1> (x, s, b, m, v) }}"""
OVERRIDABLE = next(rule.info.bad for rule in RULES if rule.info.code == "BN003")
FIXABLE = ("BN001", "BN003", "BN032", "BN043", "BN044", "BN045")
NUMBERS = ("--set-epsilon", "0.001", "--set-momentum", "0.9")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str, name: str = "model.onnx") -> bytes:
    onnx.save(parsed(text), name)
    return Path(name).read_bytes()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch prints its progress, and warns that its older exporter is the older one."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_training_mode(run, folder: Path) -> None:
    was = written(TRAINING)
    ran = run("check", "model.onnx", "--fix", columns=100)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(
        "1 file with 1 BatchNorm, nothing found\n\n"
        "fixed 1 of 1 finding in model.onnx (backup model.onnx.bak)\n"
        "  BN001  bn set to inference\n"
        "         nothing else has changed; outputs move by at most "
    )
    assert Path("model.onnx.bak").read_bytes() == was
    assert names(folder) == ["model.onnx", "model.onnx.bak"]
    (node,) = onnx.load("model.onnx").graph.node
    assert list(node.output) == ["y"]


@pytest.mark.parametrize("code", FIXABLE)
def test_every_fix(code: str, run, folder: Path) -> None:
    """The bad model of each rule is a good one afterwards, and nothing is left to be fixed."""
    bad = next(rule.info.bad for rule in RULES if rule.info.code == code)
    was = written(bad)
    assert f" {code} " in run("check", "model.onnx").out
    ran = run("check", "model.onnx", "--select", code, "--fix", *NUMBERS)
    assert (ran.code, ran.err) == (0, "")
    assert "nothing found" in ran.out
    fixed = Path("model.onnx").read_bytes()
    assert Path("model.onnx.bak").read_bytes() == was != fixed
    onnx.checker.check_model(onnx.load("model.onnx"))
    again = run("check", "model.onnx", "--select", code, "--fix", *NUMBERS)
    assert (again.code, again.out) == (0, "1 file with 1 BatchNorm, nothing found\n") or (
        code == "BN044" and "5 BatchNorms, nothing found" in again.out
    )
    assert Path("model.onnx").read_bytes() == fixed
    assert names(folder) == ["model.onnx", "model.onnx.bak"]


def test_numbers_are_set_where_they_are_given_alone(run, folder: Path) -> None:
    for code in ("BN043", "BN044", "BN045"):
        bad = next(rule.info.bad for rule in RULES if rule.info.code == code)
        was = written(bad)
        assert run("check", "model.onnx", "--fix", "--select", code).code == 1
        assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]


def test_folding_is_done_where_it_is_asked_for(run, folder: Path) -> None:
    bad = next(rule.info.bad for rule in RULES if rule.info.code == "BN033")
    was = written(bad)
    for words in ((), ("--select", "BN03"), ("--select", "BN")):
        run("check", "model.onnx", "--fix", *words)
        assert Path("model.onnx").read_bytes() == was
    for words in (("--fold",), ("--select", "bn033"), ("--extend-select", "BN033")):
        Path("model.onnx").write_bytes(was)
        ran = run("check", "model.onnx", "--fix", "--no-backup", *words)
        assert ran.code == 0
        assert [node.op_type for node in onnx.load("model.onnx").graph.node] == ["Conv"]
        assert "(no backup)" in ran.out
    assert names(folder) == ["model.onnx"]


def test_what_is_left_is_reported_and_decides(run, folder: Path) -> None:
    text = f"""agraph (float[N, 2] x) => (float[N, 2] z, float[2] rm) {FEW} {{
  [one] y, rm, rv = BatchNormalization <training_mode = 1> (x, s, b, m, v)
  [two] z, am, av = BatchNormalization <training_mode = 1> (y, s, b, m, v) }}"""
    written(text)
    ran = run("check", "model.onnx", "--fix", "--select", "BN001", columns=100)
    assert ran.code == 1
    assert "something reads its further outputs" in ran.out
    assert "fixed 1 of 2 findings in model.onnx (backup model.onnx.bak)" in ran.out
    assert [len(node.output) for node in onnx.load("model.onnx").graph.node] == [3, 1]


def test_reports_for_programs_show_what_is_left(run, folder: Path) -> None:
    written(TRAINING)
    ran = run("check", "model.onnx", "--fix", "--format", "json", "-o", "report.sarif")
    assert ran.code == 0
    assert json.loads(ran.out)["files"][0]["findings"] == []
    assert "fixed 1 of 1 finding in model.onnx" in ran.err
    assert json.loads(Path("report.sarif").read_text())["runs"][0]["results"] == []
    written(TRAINING)
    ran = run("check", "model.onnx", "--fix", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_diff_writes_nothing(run, folder: Path) -> None:
    was = written(TRAINING)
    ran = run("check", "model.onnx", "--diff")
    assert ran.code == 1
    assert ran.out == (
        "--- model.onnx\n+++ model.onnx (fixed)\n@@ -9,2 +9,2 @@\n"
        "   float[2] v = {1.0, 9.0}\n"
        "-  [bn] y, rm, rv = BatchNormalization <training_mode = 1> (x, s, b, m, v)\n"
        "+  [bn] y = BatchNormalization <training_mode = 0> (x, s, b, m, v)\n"
    )
    assert ran.err.startswith("would fix BN001 in model.onnx\n")
    assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]
    # As ruff has it: --diff never writes.
    assert run("check", "model.onnx", "--diff", "--fix").out == ran.out
    assert Path("model.onnx").read_bytes() == was
    run("check", "model.onnx", "--fix")
    ran = run("check", "model.onnx", "--diff")
    assert (ran.code, ran.out, ran.err) == (0, "", "nothing would change\n")


def test_a_diff_says_what_cannot_be_read_and_that_it_would_change_nothing(
    run, folder: Path
) -> None:
    written(next(rule.info.bad for rule in RULES if rule.info.code == "BN011"))
    Path("broken.onnx").write_bytes(b"")
    ran = run("check", "model.onnx", "broken.onnx", "--diff")
    assert (ran.code, ran.out) == (3, "")
    assert "broken.onnx: " in ran.err
    assert "nothing would change, and 1 finding would be left" in ran.err


def test_names_in_a_diff_are_harmless(run, folder: Path) -> None:
    model = parsed(TRAINING)
    model.graph.node[0].name = "a\x1b[31m\nb\r\u202e"
    onnx.save(model, "model.onnx")
    for words in (("--diff",), ("--fix",)):
        ran = run("check", "model.onnx", *words)
        for each in (ran.out, ran.err):
            assert not {"\x1b", "\r", "\u202e"} & set(each)
        assert "a\\x1b[31m\\nb\\r\\u202e" in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ["--no-backup"],
        ["--fold"],
        ["--set-epsilon", "1e-3"],
        ["--fix", "--set-epsilon", "0"],
        ["--fix", "--set-epsilon", "1e-50"],
        ["--fix", "--set-epsilon", "nan"],
        ["--fix", "--set-momentum", "1.5"],
        ["--fix", "--select", "BN01", "--fold"],
        ["--diff", "--format", "json"],
        ["--diff", "-o", "report.json"],
    ],
)
def test_wrong_usage(words: list[str], run, folder: Path) -> None:
    was = written(TRAINING)
    ran = run("check", "model.onnx", *words)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]


def test_backups_are_never_overwritten(run, folder: Path) -> None:
    kept = []
    for _ in range(3):
        kept.append(written(TRAINING))
        run("check", "model.onnx", "--fix")
    assert names(folder) == ["model.onnx", *(f"model.onnx.bak{e}" for e in ("", ".1", ".2"))]


def test_permissions_and_links_stay(run, folder: Path) -> None:
    (folder / "store").mkdir()
    was = written(TRAINING, "store/blob")
    Path("store/blob").chmod(0o640)
    Path("model.onnx").symlink_to("store/blob")
    assert run("check", "model.onnx", "--fix").code == 0
    assert os.readlink("model.onnx") == "store/blob"
    assert stat.S_IMODE(Path("store/blob").stat().st_mode) == 0o640
    assert Path("store/blob.bak").read_bytes() == was
    assert names(folder) == ["model.onnx", "store"]
    assert names(folder / "store") == ["blob", "blob.bak"]


def test_a_read_only_file_is_left(run, folder: Path) -> None:
    was = written(OVERRIDABLE)
    Path("model.onnx").chmod(0o444)
    ran = run("check", "model.onnx", "--fix", "--fail-on", "never")
    assert ran.code == 3
    assert ran.out.endswith("\nerror: model.onnx: the file is read-only; nothing was changed\n")
    assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]


def test_a_folder_that_cannot_be_written_to(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = written(OVERRIDABLE)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    ran = run("check", "model.onnx", "--fix")
    assert ran.code == 1  # by what is left
    assert "error: model.onnx: the output cannot be written (Read-only file system)" in " ".join(
        ran.out.split()
    )
    assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]


@pytest.mark.parametrize("verdict", [Verdict.DIFFERENT, Verdict.UNDECIDED])
def test_what_is_not_verified_is_not_written(
    verdict: Verdict, run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(OVERRIDABLE), compare_files("model.onnx", "model.onnx")

    def other(*_: object, **__: object) -> Any:
        return replace(found[1], verdict=verdict, reason="for a test")

    monkeypatch.setattr(compare, "compare_files", other)
    ran = run("check", "model.onnx", "--fix", "--fail-on", "never")
    assert ran.code == 4
    last = " ".join(ran.out.rpartition("\n\n")[2].split())
    assert last.startswith("error: model.onnx: BN003 was not fixed: ")
    assert last.endswith(": for a test")
    assert Path("model.onnx").read_bytes() == found[0]
    assert names(folder) == ["model.onnx"]


def test_one_fix_that_fails_does_not_take_the_others_along(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(OVERRIDABLE.replace("BatchNormalization(", "BatchNormalization <momentum = 0.1> ("))
    real = compare.compare_files

    def picky(before: Any, after: Any, **options: Any) -> Any:
        momentum = onnx.load(after).graph.node[0].attribute[0].f
        verdict = {"verdict": Verdict.DIFFERENT} if momentum > 0.5 else {}
        return replace(real(before, after, **options), **verdict)

    monkeypatch.setattr(compare, "compare_files", picky)
    ran = run("check", "model.onnx", "--fix", "--set-momentum", "0.9")
    assert "fixed 1 of 2 findings" in ran.out
    assert "BN045 was not fixed: " in ran.out
    assert ran.code == 1
    model = onnx.load("model.onnx")
    assert (len(model.graph.input), round(model.graph.node[0].attribute[0].f, 3)) == (1, 0.1)


def test_an_error_of_our_own_leaves_the_file(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = written(OVERRIDABLE)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(compare, "compare_files", broken)
    ran = run("check", "model.onnx", "--fix")
    assert ran.code == 1
    told = " ".join(ran.out.split())
    assert "this is a defect of bninspect (ZeroDivisionError: on purpose)" in told
    assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]


def test_memory_that_is_out_is_no_defect(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = written(OVERRIDABLE)

    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(compare, "compare_files", broken)
    ran = run("check", "model.onnx", "--fix")
    assert ran.code == 1
    assert "it needs more memory than there is; nothing was changed" in " ".join(ran.out.split())
    assert Path("model.onnx").read_bytes() == was
    assert names(folder) == ["model.onnx"]


def test_what_was_fixed_is_told_though_a_report_cannot_be_written(
    run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = written(TRAINING)
    replace = os.replace

    def full(one: Path, other: Path) -> None:
        if Path(other).name == "r.json":
            raise OSError(28, "No space left on device")
        replace(one, other)

    monkeypatch.setattr(os, "replace", full)
    ran = run("check", "model.onnx", "--fix", "--output", "r.json")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("fixed 1 of 1 finding in model.onnx (backup model.onnx.bak)\n")
    assert "\nerror: r.json: the output cannot be written (No space left" in ran.err
    assert Path("model.onnx.bak").read_bytes() == was
    assert names(folder) == ["model.onnx", "model.onnx.bak"]


def test_a_model_that_gives_nan_is_not_said_to_fail(run, folder: Path) -> None:
    was = written(
        TRAINING.replace(
            "s, b, m, v)", "s, b, m, v) nan = Constant <value_float = nan> () y = Mul (t, nan)"
        ).replace("[bn] y,", "[bn] t,")
    )
    ran = run("check", "model.onnx", "--fix", "--select", "BN001")
    assert ran.code == 1
    told = " ".join(ran.out.split())
    assert "BN001 was not fixed: the fixed file cannot be verified: " in told
    assert "holds NaN or infinity" in told
    assert Path("model.onnx").read_bytes() == was


KILLED = {
    "while it is verified": "import inspector.flows.compare as at; at.compare_files = wait",
    "before it is replaced": "os.replace = wait",
}


@pytest.mark.skipif(os.name != "posix", reason="other systems have no SIGKILL")
@pytest.mark.parametrize("when", KILLED)
def test_a_process_that_is_killed_leaves_the_file(when: str, folder: Path) -> None:
    was = written(TRAINING)
    script = f"""
import os, sys, time
def wait(*_, **__):
    print("here", flush=True)
    time.sleep(600)
{KILLED[when]}
sys.argv = ["bninspect", "check", "model.onnx", "--fix"]
from inspector.cli.main import main
main()
"""
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(  # noqa: S603  # this Python, with the script above
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        assert any(each.endswith(".part") for each in names(folder))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert Path("model.onnx").read_bytes() == was
    for _ in range(600):
        left = [each for each in names(folder) if each.endswith(".part")]
        if not left:
            break
        time.sleep(0.05)
    kept = ["model.onnx.bak"] if "replaced" in when else []
    assert names(folder) == ["model.onnx", *kept]
    for each in kept:
        assert Path(each).read_bytes() == was


@pytest.mark.parametrize("data_file", ["model.data", "0.part"])
def test_external_data_is_neither_touched_nor_taken_in(data_file: str, run, folder: Path) -> None:
    model = parsed(
        """agraph (float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] z)
<float[2, 3, 3, 3] w, float[2, 2, 1, 1] u, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [conv] h = Conv(x, w)
  [bn] y, rm, rv = BatchNormalization <training_mode = 1> (h, s, b, m, v)
  [last] z = Conv(y, u) }"""
    )
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in "wu":
            values = rng.normal(size=values.shape).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, "model.onnx", save_as_external_data=True, location=data_file, size_threshold=0)
    data = Path(data_file).read_bytes()
    assert run("check", "model.onnx", "--fix").code == 0
    kept = onnx.load("model.onnx", load_external_data=False)
    assert all(tensor.external_data for tensor in kept.graph.initializer)
    assert onnx.load("model.onnx").graph.initializer[0].raw_data
    ran = run("check", "model.onnx", "--fix", "--fold")
    assert ran.code == 0
    assert Path(data_file).read_bytes() == data
    folded = onnx.load("model.onnx", load_external_data=False)
    assert {t.name: bool(t.external_data) for t in folded.graph.initializer} == {
        "w": False,
        "u": True,
        "conv_bias": False,
    }
    assert compare_files("model.onnx.bak.1", "model.onnx").verdict is not Verdict.DIFFERENT
    assert set(names(folder)) == {data_file, "model.onnx", "model.onnx.bak", "model.onnx.bak.1"}


def test_a_manifest_that_would_be_untrue_goes(run, folder: Path) -> None:
    for text, goes in ((TRAINING, True), (OVERRIDABLE, False)):
        model = parsed(text)
        model.metadata_props.add(key=KEY, value="{}")
        model.metadata_props.add(key="author", value="me")
        onnx.save(model, "model.onnx")
        ran = run("check", "model.onnx", "--fix")
        kept = [each.key for each in onnx.load("model.onnx").metadata_props]
        assert kept == (["author"] if goes else [KEY, "author"])
        assert ("the export's manifest was taken out" in ran.out) is goes


def test_text_forms_are_left(run, folder: Path) -> None:
    Path("model.onnxtxt").write_text(onnx.printer.to_text(parsed(TRAINING)))
    was = Path("model.onnxtxt").read_bytes()
    ran = run("check", "model.onnxtxt", "--fix")
    assert ran.code == 1
    assert "error: model.onnxtxt: " in ran.out
    assert Path("model.onnxtxt").read_bytes() == was
    assert names(folder) == ["model.onnxtxt"]


def test_torch_in_training_mode(run, folder: Path) -> None:
    """What `torch.onnx.export` writes of a module that nobody has called `eval` on."""
    torch = pytest.importorskip("torch", reason="it is torch's export")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    for _ in range(3):
        module(torch.randn(8, 3, 9, 9) * 3 + 1)
    mode = torch.onnx.TrainingMode.TRAINING
    x = torch.randn(5, 3, 9, 9)
    with quiet():
        torch.onnx.export(
            module, (x,), "model.onnx", dynamo=False, training=mode, do_constant_folding=False
        )
    was = Path("model.onnx").read_bytes()
    assert run("check", "model.onnx", "--select", "BN001").code == 1
    ran = run("check", "model.onnx", "--select", "BN001", "--fix")
    assert ran.code == 0
    assert "outputs move by at most" in ran.out
    assert Path("model.onnx.bak").read_bytes() == was
    import onnxruntime

    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = module.eval()(x).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_torch_written_out(run, folder: Path) -> None:
    """A frozen BatchNorm as torchvision and detectron2 write it, and what torch exports of it."""
    torch = pytest.importorskip("torch", reason="it is torch's export")

    class Frozen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.rand(4) + 0.25)

        def forward(self, x: Any) -> Any:
            weight, bias, mean, var = [each.reshape(1, -1, 1, 1) for each in self.buffers()]
            scale = weight * (var + 1e-5).rsqrt()
            return x * scale + (bias - mean * scale)

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Frozen(), torch.nn.ReLU()).eval()
    x = torch.randn(2, 3, 9, 9)
    with quiet():
        torch.onnx.export(module, (x,), "model.onnx", dynamo=False, do_constant_folding=False)
    ran = run("check", "model.onnx", "--select", "BN032", "--fix")
    assert ran.code == 0
    assert "fixed 1 of 1 finding" in ran.out
    model = onnx.load("model.onnx")
    assert [node.op_type for node in model.graph.node] == ["Conv", "BatchNormalization", "Relu"]
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, own in zip(model.graph.node[1].input[1:], module[1].buffers(), strict=True):
        np.testing.assert_array_equal(stored[name], own.numpy())
    found = compare_files("model.onnx.bak", "model.onnx")
    assert found.verdict in (Verdict.IDENTICAL, Verdict.EQUIVALENT, Verdict.AGREES)
    assert all(each.within for each in found.outputs)


def test_layers_that_are_ignored_are_not_folded(run, folder: Path) -> None:
    written(
        """agraph (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
<float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] s = {1.0, 2.0}, float[2] b = {0.5, -0.5},
 float[2] m = {0.25, -4.0}, float[2] v = {1.0, 9.0}>
{ [c1] h = Conv(x, w)
  [one] i = BatchNormalization(h, s, b, m, v)
  [relu] j = Relu(i)
  [c2] k = Conv(j, w)
  [two] y = BatchNormalization(k, s, b, m, v) }"""
    )
    Path("bninspect.toml").write_text(
        '[[ignores]]\nrules = ["BN033"]\nlayers = ["one"]\nreason = "it is trained on"\n'
    )
    assert run("check", "model.onnx", "--fix", "--fold").code == 0
    left = [each.name for each in onnx.load("model.onnx").graph.node]
    assert "one" in left
    assert "two" not in left
