"""The command that holds two models against each other."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated

import typer

from inspector.cli.collector import collect_cycles
from inspector.cli.options import (
    AtolOption,
    ExternalDirOption,
    Format,
    FormatOption,
    LayoutOption,
    RtolOption,
    SeedOption,
    StrictOption,
)
from inspector.cli.terminal import print_report, progress, wants_color, width
from inspector.cli.usage import Command
from inspector.errors import UsageError
from inspector.facts.request import TIMEOUT

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|[kmgt]i?)b?", re.IGNORECASE)
_LETTERS = "kmgt"


def add_compare(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(cls=Command, short_help="Are two models one function or not, and why.")(compare)


def compare(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="An ONNX file.")],
    right: Annotated[
        str, typer.Argument(metavar="RIGHT", help="The ONNX file to hold against it.")
    ],
    strict: StrictOption = False,
    atol: AtolOption = None,
    rtol: RtolOption = None,
    layout: LayoutOption = None,
    map: Annotated[  # the option's name
        list[str] | None,
        typer.Option(
            "--map",
            metavar="LEFT=RIGHT",
            help="An input or output of LEFT and the one of RIGHT that it is; repeatable.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE|DIR",
            help="Feed these instead of random inputs: an .npz file, or a folder of .npy (one an "
            "input) or .npz files (one a batch), in LEFT's layout.",
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="Rows to feed, random ones or of --data.")
    ] = None,
    seed: SeedOption = 0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare at every layer, even if the outputs agree.")
    ] = False,
    patch_out: Annotated[
        str | None,
        typer.Option(
            "--patch-out",
            metavar="FILE",
            help="Write RIGHT with the proved causes patched, so that it does what LEFT does.",
        ),
    ] = None,
    providers: Annotated[
        str | None,
        typer.Option(
            "--providers",
            metavar="A,B",
            help="ONNX Runtime's execution providers; CPUExecutionProvider where left out.",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1.0, help="Seconds that all runs may take together."),
    ] = TIMEOUT,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help="Memory that running the models may take, as 512MB or 4GB; what is free where "
            "left out, of which values in the middle of the models take at most 1 GB.",
        ),
    ] = None,
    external_dir: ExternalDirOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Run two models on the same inputs: are they one function or not, and why."""
    from inspector.cli.verdicts import exit_code
    from inspector.flows import compare_files
    from inspector.memory import limited_memory
    from inspector.report import render

    collect_cycles()
    # NumPy's own threads have nothing to do here, and take the models' time to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with limited_memory(), progress() as stage:
        fact = compare_files(
            left,
            right,
            external_dirs=external_dir or (),
            progress=stage,
            atol=atol,
            rtol=rtol,
            layout=layout,
            pairs=map or (),
            data=data,
            samples=samples,
            seed=seed,
            layers=layers,
            patch_out=patch_out,
            timeout=timeout,
            max_memory=None if max_memory is None else size_of(max_memory),
            **({} if providers is None else {"providers": _listed(providers)}),
        )
    print_report(render(fact, format, width=width(), color=wants_color(sys.stdout)))
    raise typer.Exit(int(exit_code(fact.verdict, strict=strict)))


def _listed(providers: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in providers.split(",") if each.strip())


def size_of(text: str) -> int:
    """Bytes, from ``512MB``, ``1.5 GiB`` or a plain number.

    Raises
    ------
    inspector.errors.UsageError
        It is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise UsageError(f"{text!r} is no size of memory", hint="write it as 512MB or 4GB")
    unit = found[2].lower()
    base = 1024 if unit.endswith("i") else 1000
    power = _LETTERS.index(unit[0]) + 1 if unit else 0
    return int(float(found[1]) * base**power)
