"""Options that several commands have."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """Formats of a report."""

    text = "text"
    json = "json"


class TableFormat(StrEnum):
    """Formats of a table."""

    text = "text"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class Style(StrEnum):
    """Whose summary a table looks like."""

    keras = "keras"
    torch = "torch"
    onnx = "onnx"


TableFormatOption = Annotated[TableFormat, typer.Option("--format", help="How to write the table.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to write the report.")]
OutputOption = Annotated[
    str, typer.Option("--output", "-o", metavar="FILE", help="The ONNX file to write.")
]
OpsetOption = Annotated[
    int | None,
    typer.Option("--opset", help="ONNX operator set; 18 where left out."),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with 1 unless identical or equivalent.")
]
AtolOption = Annotated[
    float | None,
    typer.Option(
        "--atol",
        min=0.0,
        help="Absolute tolerance instead of the measured one; alone it sets --rtol to 0.",
    ),
]
RtolOption = Annotated[
    float | None,
    typer.Option(
        "--rtol",
        min=0.0,
        help="Relative tolerance, to the larger of the two; alone it sets --atol to 0.",
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="LEFT:RIGHT",
        help="Layouts of the inputs (NHWC:NCHW, or 'same') where the graphs do not tell.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the random inputs.")]
ExternalDirOption = Annotated[
    list[str] | None,
    typer.Option(
        "--external-dir",
        metavar="DIR",
        help="A folder that external data may be read from, beside the model's own; repeatable.",
    ),
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file.")]

ExampleOption = Annotated[
    str | None,
    typer.Option(
        "--example",
        metavar="FILE",
        help="Example inputs: an .npz of forward's arguments, or one .npy. Without it and "
        "--input-shape, the module's example_input_array serves.",
    ),
]
InputShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="DIMS",
        help="Shape of an input with its batch, as 1,3,224,224; once for each input.",
    ),
]
DynamicOption = Annotated[
    str | None,
    typer.Option(
        "--dynamic",
        metavar="AXES",
        help="Axes of any length: batch,height,width,depth,length, name=axis, or none; what the "
        "model allows of the batch where left out.",
    ),
]
UnsafeOption = Annotated[
    bool,
    typer.Option(
        "--unsafe", help="Also load files that can run code of their own: only what you trust."
    ),
]
NoVerifyOption = Annotated[
    bool,
    typer.Option(
        "--no-verify", help="Do not run the result against the framework; the file then says so."
    ),
]


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ["BNINSPECT_DEBUG"] = "1"


DebugOption = Annotated[
    bool,
    typer.Option(
        "--debug",
        callback=_debug,
        is_eager=True,
        help="Show tracebacks, and what the exporters print.",
    ),
]
