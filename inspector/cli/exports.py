"""The commands that begin with a framework's model."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.cli.collector import collect_cycles
from inspector.cli.options import (
    AtolOption,
    DebugOption,
    DynamicOption,
    ExampleOption,
    Format,
    FormatOption,
    InputShapeOption,
    LayoutOption,
    NoVerifyOption,
    OpsetOption,
    OutputOption,
    RtolOption,
    SeedOption,
    StrictOption,
    UnsafeOption,
)
from inspector.cli.terminal import print_report, progress, wants_color, width
from inspector.cli.usage import Command, Group
from inspector.errors import ExitCode, InspectorError, UsageError

if TYPE_CHECKING:
    from inspector.report.render import Fact

export_app = typer.Typer(
    cls=Group,
    help="Export a framework's model to ONNX with every BatchNorm kept, and verify it.",
)


def add_exports(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.add_typer(export_app, name="export", short_help="Export to ONNX with every BatchNorm kept.")
    app.command(
        "export-compare", cls=Command, short_help="Export two sources, and compare what comes out."
    )(export_compare)
    app.command(cls=Command, short_help="Put BatchNorms back into a stock export.")(restore)


@export_app.command("keras", cls=Command)
def export_keras(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="package.module:callable, path/to/file.py:callable, a .keras or .h5 file, or a "
            "SavedModel folder.",
        ),
    ],
    output: OutputOption,
    input_shape: InputShapeOption = None,
    dynamic: DynamicOption = None,
    inputs_as_nchw: Annotated[
        bool,
        typer.Option("--inputs-as-nchw", help="Let images be fed with their channels first."),
    ] = False,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="A module with custom objects, imported before loading; repeatable.",
        ),
    ] = None,
    opset: OpsetOption = None,
    unsafe: UnsafeOption = False,
    no_verify: NoVerifyOption = False,
    debug: DebugOption = False,
    format: FormatOption = Format.text,
) -> None:
    """Export a Keras model."""
    from inspector.export import export_keras as run

    made = partial(run, source, output, opset=opset, unsafe=unsafe, verify=not no_verify)
    axes, shapes = _axes(dynamic), _shapes(input_shape)
    made = partial(made, inputs_as_nchw=inputs_as_nchw, imports=imports or ())
    _export(partial(made, input_shape=shapes, dynamic=axes), format)


@export_app.command("torch", cls=Command)
def export_torch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="package.module:callable, path/to/file.py:callable, a .pt2 program or a "
            "TorchScript file.",
        ),
    ],
    output: OutputOption,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="A state dict to load: .pt, .pth, .bin, .ckpt or .safetensors.",
        ),
    ] = None,
    input_shape: InputShapeOption = None,
    example: ExampleOption = None,
    dynamic: DynamicOption = None,
    opset: OpsetOption = None,
    unsafe: UnsafeOption = False,
    no_verify: NoVerifyOption = False,
    debug: DebugOption = False,
    format: FormatOption = Format.text,
) -> None:
    """Export a PyTorch module."""
    from inspector.export import export_torch as run

    made = partial(run, source, output, opset=opset, unsafe=unsafe, verify=not no_verify)
    axes, shapes = _axes(dynamic), _shapes(input_shape)
    made = partial(made, weights=weights, example=example)
    _export(partial(made, input_shape=shapes, dynamic=axes), format)


def _export(run: Callable[..., Fact], format: Format) -> None:
    collect_cycles()
    with progress() as stage:
        fact = run(progress=stage)
    _show(fact, format)


def export_compare(
    left: Annotated[
        str, typer.Argument(metavar="LEFT", help="A source, as export takes it, or an ONNX file.")
    ],
    right: Annotated[
        str, typer.Argument(metavar="RIGHT", help="What to hold against it, in the same forms.")
    ],
    left_weights: Annotated[
        str | None,
        typer.Option("--left-weights", metavar="FILE", help="A state dict for the left module."),
    ] = None,
    right_weights: Annotated[
        str | None,
        typer.Option("--right-weights", metavar="FILE", help="The same for the right."),
    ] = None,
    left_input_shape: Annotated[
        list[str] | None,
        typer.Option(
            "--left-input-shape",
            metavar="DIMS",
            help="Shape of an input of the left source, with its batch, as 1,3,224,224; once for "
            "each input.",
        ),
    ] = None,
    right_input_shape: Annotated[
        list[str] | None,
        typer.Option("--right-input-shape", metavar="DIMS", help="The same for the right."),
    ] = None,
    left_example: Annotated[
        str | None,
        typer.Option(
            "--left-example",
            metavar="FILE",
            help="Example inputs of a PyTorch module on the left: an .npz, or one .npy.",
        ),
    ] = None,
    right_example: Annotated[
        str | None,
        typer.Option("--right-example", metavar="FILE", help="The same for the right."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="FOLDER", help="Keep the exported files there."),
    ] = None,
    unsafe: UnsafeOption = False,
    strict: StrictOption = False,
    atol: AtolOption = None,
    rtol: RtolOption = None,
    layout: LayoutOption = None,
    seed: SeedOption = 0,
    debug: DebugOption = False,
    format: FormatOption = Format.text,
) -> None:
    """Export what needs exporting, and compare: one function or not, and why.

    The exit code is that of compare.
    """
    from inspector.cli.verdicts import exit_code
    from inspector.pipelines import Side
    from inspector.pipelines import export_compare as run

    collect_cycles()
    given = (
        ("left", left, left_weights, left_input_shape, left_example),
        ("right", right, right_weights, right_input_shape, right_example),
    )
    sides = [
        Side(
            source=source,
            weights=weights,
            input_shape=_shapes(shapes, f"--{which}-input-shape"),
            example=example,
            unsafe=unsafe,
        )
        for which, source, weights, shapes, example in given
    ]
    with progress() as stage, _side_named(stage) as say:
        fact = run(*sides, keep=keep, atol=atol, rtol=rtol, layout=layout, seed=seed, progress=say)
    _show(fact, format)
    raise typer.Exit(int(exit_code(fact.comparison.verdict, strict=strict)))


@contextmanager
def _side_named(stage: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """`stage`, and errors that say which side they are about and what its options are called.

    What exports a source knows no sides; each of its stages begins with the side it is for.
    """
    side = ""

    def say(text: str) -> None:
        nonlocal side
        before, colon, _ = text.partition(": ")
        side = before if colon and before in ("left", "right") else ""
        stage(text)

    try:
        yield say
    except InspectorError as error:
        if side:
            error.what = f"{error.what} ({side} source)"
            error.hint = _OF_A_SIDE.sub(rf"--{side}-\1", error.hint)
        raise


_OF_A_SIDE = re.compile(r"--(weights|input-shape|example)\b")


def restore(
    stock: Annotated[
        str, typer.Argument(metavar="STOCK", help="An ONNX file that has lost BatchNorms.")
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="The model it was exported from, as export takes it; an ONNX file of it with its "
            "BatchNorms kept; or a file of its weights alone.",
        ),
    ],
    output: OutputOption,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="FILE", help="A state dict for a PyTorch source."),
    ] = None,
    input_shape: InputShapeOption = None,
    example: ExampleOption = None,
    unsafe: UnsafeOption = False,
    debug: DebugOption = False,
    format: FormatOption = Format.text,
) -> None:
    """Put native BatchNorms back into a stock export, with the framework's own tensors.

    Exits with 1 where some could not be restored, each named with the reason, or where the file is
    not the source's function in another layer, which restoring does not change.
    """
    from inspector.pipelines import Side, restore_file

    collect_cycles()
    side = Side(
        source=source,
        weights=weights,
        input_shape=_shapes(input_shape),
        example=example,
        unsafe=unsafe,
    )
    with progress() as stage:
        fact = restore_file(stock, side, output, progress=stage)
    _show(fact, format)
    if not fact.complete or (fact.with_reference is not None and not fact.with_reference.within):
        raise typer.Exit(ExitCode.FINDINGS)


def _show(fact: Fact, format: Format) -> None:
    from inspector.report import render

    print_report(render(fact, format, width=width(), color=wants_color(sys.stdout)))


def _axes(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    from inspector.export.axes import parse

    return parse(text)


def _shapes(texts: list[str] | None, option: str = "--input-shape") -> list[tuple[int, ...]] | None:
    return [_shape(each, option) for each in texts] if texts else None


def _shape(text: str, option: str) -> tuple[int, ...]:
    """Dims from ``1,3,224,224`` or ``1x3x224x224``."""
    try:
        dims = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        dims = ()
    if not dims or min(dims) < 1:
        raise UsageError(
            f"{option} {text!r} is no shape",
            hint="write positive numbers with commas between, as 1,3,224,224",
        )
    return dims
