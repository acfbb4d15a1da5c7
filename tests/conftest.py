"""What every test may use: a runner of the command line, models from text, the corpus."""

from __future__ import annotations

import csv
import gc
import io
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, settings
from onnx_text import parsed

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"
GOLDEN = ROOT / "tests" / "golden"
TEXTS = ROOT / "tests" / "texts"


# TensorFlow reads it once, in whichever test of a process imports it first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Tests are to say what changed, not what they drew: HYPOTHESIS_PROFILE=search looks further.
# No clock decides: a busy machine is no fault of what is tested.
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("same", derandomize=True, **CALM)
settings.register_profile("search", derandomize=False, **CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--overwrite", action="store_true", help="write golden files anew")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run of the command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run `bninspect` in this process; its streams are no terminal unless `tty` says so."""

    def runner(
        *args: object,
        columns: int = 80,
        encoding: str = "utf-8",
        env: Mapping[str, str] | None = None,
    ) -> Ran:
        from inspector.cli.main import main

        for name in ("NO_COLOR", "FORCE_COLOR", "BNINSPECT_DEBUG", "TERM"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        raw = io.BytesIO(), io.BytesIO()
        streams = [io.TextIOWrapper(each, encoding=encoding, newline="") for each in raw]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["bninspect", *map(os.fspath, map(_arg, args))])
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            try:
                with pytest.raises(SystemExit) as exit:
                    main()
            finally:
                gc.enable()  # `main` may leave it off, and this process goes on
        for each in streams:
            each.flush()
        code = exit.value.code
        assert code is None or isinstance(code, int), f"exit with {code!r}"
        out, err = (each.getvalue().decode(encoding) for each in raw)
        return Ran(code=code or 0, out=out, err=err)

    return runner


def _arg(value: object) -> str | os.PathLike[str]:
    return value if isinstance(value, os.PathLike) else str(value)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a model, given in ONNX's text form or as a message, to a file."""

    def write(model: str | onnx.ModelProto, name: str = "model.onnx") -> Path:
        proto = parsed(model) if isinstance(model, str) else model
        path = tmp_path / name
        path.write_bytes(proto.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of models from elsewhere, where it is there."""
    if not (CORPUS / "manifest.csv").exists():
        pytest.skip("the corpus of real models is not at ../shared/corpus")
    return CORPUS


@pytest.fixture(scope="session")
def corpus_rows(corpus: Path) -> list[dict[str, str]]:
    """Rows of the corpus' manifest."""
    with (corpus / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with a golden file; ``pytest --overwrite`` writes the file instead."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--overwrite"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        assert path.exists(), f"no golden file {name}: write it with pytest --overwrite"
        assert text == path.read_text(encoding="utf-8")

    return check
