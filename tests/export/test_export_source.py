from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inspector.errors import ExitCode, InspectorError, UnreadableError, UsageError
from inspector.export import source


def is_list(value: object) -> bool:
    return isinstance(value, list)


def open_list(text: str) -> object:
    with source.opened(source.parse(text), is_list, "a list") as found:
        return found


@pytest.mark.parametrize(
    "text", ["", "model", "model.onnx", ":cnn", "a.py:", "a.py:1x", "a-b:cnn", "a.py:f()", "a b:c"]
)
def test_a_malformed_source_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        source.parse(text)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "package.module:callable" in caught.value.hint


def test_a_windows_path_keeps_its_drive() -> None:
    assert source.parse(r"C:\nets\cnn.py:build").file == Path(r"C:\nets\cnn.py")


def test_a_file_and_its_siblings(tmp_path: Path) -> None:
    (tmp_path / "sizes.py").write_text("N = 3\n")
    (tmp_path / "net.py").write_text("import sizes\ndef build():\n    return [sizes.N]\n")
    path, modules = list(sys.path), set(sys.modules)
    assert open_list(f"{tmp_path}/net.py:build") == [3]
    assert sys.path == path
    assert not {name for name in set(sys.modules) - modules if "sizes" in name or "net" in name}


def test_imports_inside_of_functions_work_while_it_is_open(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("N = 4\n")
    (tmp_path / "net.py").write_text(
        "class L(list):\n"
        "    def n(self):\n"
        "        import late\n"
        "        return late.N\n"
        "def build():\n    return L()\n"
    )
    with source.opened(source.parse(f"{tmp_path}/net.py:build"), is_list, "a list") as found:
        assert found.n() == 4  # type: ignore[attr-defined]  # the class above


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights.py").write_text(f"NAME = {folder!r}\n")
        (tmp_path / folder / "net.py").write_text(
            "from weights import NAME\ndef build():\n    return [NAME]\n"
        )
    assert open_list(f"{tmp_path}/a/net.py:build") == ["a"]
    assert open_list(f"{tmp_path}/b/net.py:build") == ["b"]


def test_a_sibling_is_not_mistaken_for_a_module_loaded_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("mine", "net"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shared_name.py").write_text(f"NAME = {folder!r}\n")
    (tmp_path / "net" / "net.py").write_text(
        "import shared_name\ndef build():\n    return [shared_name.NAME]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    import shared_name  # type: ignore[import-not-found]  # written above

    assert open_list(f"{tmp_path}/net/net.py:build") == ["net"]
    assert sys.modules["shared_name"] is shared_name
    del sys.modules["shared_name"]


def test_a_module_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("")
    (tmp_path / "some_package" / "nets.py").write_text(
        "class Nets:\n    @staticmethod\n    def build():\n        return [1]\n"
    )
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert open_list("some_package.nets:Nets.build") == [1]
    assert sys.path == path


def test_a_model_itself_will_do(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("model = [5]\n")
    assert open_list(f"{tmp_path}/net.py:model") == [5]


CASES = {
    "no such file": ("missing.py:build", "", "there is no such file"),
    "no such module": ("no_such_package.nets:build", "", "there is no module 'no_such_package'"),
    "no such callable": ("net.py:other", "def build(): pass", "it has no callable 'other'"),
    "syntax": ("net.py:build", "def build(:", "it does not import: SyntaxError"),
    "broken import": (
        "net.py:build",
        "import no_such_thing",
        "it does not import: ModuleNotFoundError: No module named 'no_such_thing'",
    ),
    "raises": ("net.py:build", "def build(): raise ValueError('no\\nway')", "ValueError: no"),
    "leaves": ("net.py:build", "import sys\nsys.exit(3)", "it does not import: SystemExit: 3"),
    "needs arguments": ("net.py:build", "def build(n): pass", "build() raised TypeError"),
    "nothing": ("net.py:build", "def build(): pass", "build() returned None, not a list"),
    "another thing": ("net.py:build", "def build(): return {}", "returned a dict, not a list"),
    "a class of theirs": (
        "net.py:build",
        "class A: pass\ndef build(): return A()",
        "returned a source_net.A, not a list",
    ),
    "not callable": ("net.py:build", "build = 3", "'build' is a int, not a callable"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_goes_wrong_is_said_in_one_line(
    case: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, code, said = case
    (tmp_path / "net.py").write_text(code + "\n")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    with pytest.raises(UnreadableError) as caught:
        open_list(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == ExitCode.UNREADABLE
    assert sys.path == path


def test_the_names_on_offer_are_listed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from os import getcwd\ndef cnn(): pass\ndef _x(): pass\n")
    with pytest.raises(InspectorError) as caught:
        open_list(f"{tmp_path}/net.py:other")
    assert caught.value.hint == "it has cnn"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", "ValueError"),
        ("first\nsecond", "ValueError: first"),
        ("\x1b[1mbold\x1b[0m", "ValueError: bold"),
        ("Exception encountered when calling A.call().\n\nthe cause\n\nArguments", "the cause"),
        ("why\n\nTraceback (most recent call last):\n  x\nKeyError: 'k'", "KeyError: 'k'"),
    ],
)
def test_an_exception_in_one_line(message: str, line: str) -> None:
    assert source.described(ValueError(message)).endswith(line)
