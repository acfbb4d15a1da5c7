"""Whether a saved program (.pt2) can be opened without running code that its file brings along.

`torch.export.load` trusts its file: it falls back to pickle, calls any attribute of `torch` that
the graph names, evaluates sizes as Python (through sympy), imports modules for containers, and
loads compiled libraries (torch/export/pt2_archive/_package.py, torch/_export/serde/serialize.py).
Everything that a program needs can be told from data, so the data are looked at first.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspector.errors import UnreadableError, UsageError

_NAMESPACES = frozenset({"aten", "prims", "quantized_decomposed", "torchvision"})
_HIGHER_ORDER = frozenset(
    """cond while_loop scan map_impl associative_scan wrap_with_set_grad_enabled
    wrap_with_autocast""".split()
)
_FILES = frozenset({"from_file", "save", "load"})
"""Operators that touch the disk."""

_NUMBERS = frozenset(
    """getitem add sub mul truediv floordiv mod pow neg pos abs eq ne lt le gt ge and_ or_ xor not_
    lshift rshift invert""".split()
)
_SYMBOLIC = re.compile(r"sym_(int|float|max|min|not|ite|sum|fresh_size|constrain_range|sqrt)")
_WORD = re.compile(r"(?!__)[A-Za-z_]\w*")
_NAME = re.compile(r"[\w.]*")
_IN_CODE = frozenset(
    """name as_name parameter_name buffer_name tensor_constant_name custom_obj_name user_input_name
    forward_arg_names fqn class_fqn""".split()
)
"""Fields that PyTorch writes into Python code which it then compiles."""

_SIZES = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.Call, ast.keyword, ast.BinOp,
    ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_IMPORTS = ("default_factory_module", "__enum__")
_CODE = ("data/aotinductor/", "data/constants/custom_obj", "data/constants/opaque_obj")


def check_program(path: Path) -> None:
    """Refuse a saved program that runs code of its own while it is opened or run.

    Raises
    ------
    inspector.errors.UsageError
        It holds compiled code, pickled objects, or names functions that are no operators.
    inspector.errors.UnreadableError
        It is no saved program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_view(path, [each.filename for each in members])
            for each in members:
                # PyTorch finds names whatever the case of their letters.
                name = (each.filename.partition("/")[2] or each.filename).lower()
                if name.startswith(_CODE):
                    raise _refused(path, f"it holds compiled code or objects ({name})")
                if name.startswith("models/") or name.endswith(".json"):
                    _check_json(json.loads(archive.read(each)), path)
                elif name.endswith(".pt"):
                    _check_pickle(archive.read(each), name, path)
    except (zipfile.BadZipFile, OSError, ValueError, RecursionError) as error:
        raise UnreadableError(
            f"it is no saved program ({type(error).__name__})",
            where=str(path),
            hint="write it with torch.export.save(program, path)",
        ) from error


def _check_view(path: Path, names: list[str]) -> None:
    """Refuse an archive in which PyTorch's own reader finds other members than Python's."""
    import torch

    try:
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError:
        # Of versions before 2.8: those PyTorch reads with Python's.
        return
    if sorted(records) != sorted(each.partition("/")[2] for each in names):
        raise _refused(path, "it is two archives in one file")


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(
        why,
        where=str(path),
        hint="add --unsafe if you trust the file: opening it can run any code that whoever made it "
        "put into it",
    )


def _check_pickle(content: bytes, name: str, path: Path) -> None:
    import torch

    if not content:
        return
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load's errors share no base
        raise _refused(path, f"it holds pickled objects that are no tensors ({name})") from error


def _check_json(found: Any, path: Path) -> None:
    for key, value in _strings(found):
        if key == "use_pickle":
            raise _refused(path, "it holds pickled weights")
        if key == "path_name" and value.lower().startswith(("custom_obj", "opaque_obj")):
            raise _refused(path, "it holds pickled objects")
        shown = repr(value if len(value) < 60 else f"{value[:60]}…")
        if key in ("target", "as_operator") and not _is_operator(value):
            raise _refused(path, f"its graph calls {shown}, which is no operator of PyTorch")
        if key == "expr_str" and not _is_size(value):
            raise _refused(path, f"a size in it is {shown}, which is no number")
        if key in _IN_CODE and not _NAME.fullmatch(value):
            raise _refused(path, f"it has {shown} for a name")
        if any(each in value for each in _IMPORTS):
            raise _refused(path, "its inputs or outputs are containers of types of its own")
        if key == "in_spec" and not all(_NAME.fullmatch(e) for e in _keys(json.loads(value))):
            raise _refused(path, "its inputs have names that are none")


def _keys(spec: Any) -> Iterator[str]:
    """The names that a description of containers holds, which is JSON inside of JSON."""
    for key, value in _strings(spec):
        if key == "context" and value:
            yield from (each for _, each in _strings(json.loads(value)))


def _strings(found: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text with the name of the field that it is in; a flag that is set counts as one."""
    if isinstance(found, str):
        yield key, found
    elif found is True:
        yield key, ""
    elif isinstance(found, dict):
        for name, value in found.items():
            yield "", name
            # What the exporter remembers of the source code is never evaluated.
            if name != "metadata":
                yield from _strings(value, name)
    elif isinstance(found, list):
        for value in found:
            yield from _strings(value, key)


def _is_operator(target: str) -> bool:
    parts = target.split(".")
    if parts[0] not in ("torch", "math", "_operator"):
        # Not a function: the name of an input, a parameter or a value.
        return bool(_NAME.fullmatch(target))
    if not all(_WORD.fullmatch(each) for each in parts):
        return False
    match parts:
        case ["torch", "ops", "higher_order", name]:
            return name in _HIGHER_ORDER
        case ["torch", "ops", namespace, name, *overload]:
            return namespace in _NAMESPACES and name not in _FILES and len(overload) <= 1
        case ["torch", name]:
            return bool(_SYMBOLIC.fullmatch(name))
        case ["math", _]:
            return True
        case ["_operator", name]:
            return name in _NUMBERS
    return False


def _is_size(given: str) -> bool:
    """Whether sympy, which evaluates it as Python, finds a number and names of sizes alone."""
    try:
        nodes = list(ast.walk(ast.parse(given, mode="eval")))
    except SyntaxError:
        return False
    named = {
        id(node.args[0])
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Symbol", "Float", "Integer")
        and node.args
    }
    for node in nodes:
        if not isinstance(node, _SIZES):
            return False
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and not (id(node) in named and re.fullmatch(r"[\w.+-]*", text)):
            return False
        # sympy's classes begin with a capital; its functions of small letters may read texts.
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id[:1].isupper()
        ):
            return False
    return True
