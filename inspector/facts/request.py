"""What a user asks of a comparison beside the two models."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from inspector.errors import UsageError

TIMEOUT = 900.0
"""Seconds that all the runs of a comparison may take together, unless asked otherwise."""

TAPPED = 2**30
"""Bytes that values in the middle of the models may take at a time, unless asked otherwise."""


class CompareOptions(TypedDict, total=False):
    """Options of a comparison, as keywords; `Request` says what each means."""

    atol: float | None
    rtol: float | None
    layout: str | None
    pairs: Sequence[str]
    data: str | os.PathLike[str] | None
    samples: int | None
    seed: int
    layers: bool
    providers: Sequence[str]
    timeout: float
    max_memory: int | None
    patch_out: str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A comparison's options, each with the value it has where nobody asks.

    Parameters
    ----------
    atol, rtol
        Tolerance in place of the measured rounding floor; one alone sets the other to 0.
    layout
        Input layouts as ``LEFT:RIGHT`` or ``same``, where the graphs do not tell them.
    pairs
        Inputs and outputs that correspond, as ``left=right``; the rest is paired by name, then by
        order and type.
    data
        Inputs to feed instead of random ones: an .npz file, or a folder of .npy or .npz files.
    samples
        Rows to feed, in batches.
    seed
        Of the random inputs.
    layers
        Whether to compare at every layer even where the outputs agree.
    providers
        ONNX Runtime's execution providers, in order of preference.
    timeout
        Seconds that all runs may take together.
    max_memory
        Bytes that running the models may take; None for what the machine has, of which values in
        the middle of the models take at most `TAPPED`.
    patch_out
        Where to write the right model with the proved causes patched.
    """

    atol: float | None = None
    rtol: float | None = None
    layout: str | None = None
    pairs: Sequence[str] = ()
    data: str | os.PathLike[str] | None = None
    samples: int | None = None
    seed: int = 0
    layers: bool = False
    providers: Sequence[str] = ("CPUExecutionProvider",)
    timeout: float = TIMEOUT
    max_memory: int | None = None
    patch_out: str | os.PathLike[str] | None = None

    @property
    def tapped(self) -> int:
        """Bytes that values in the middle of the models may take at a time."""
        return min(TAPPED, self.max_memory or TAPPED)

    @classmethod
    def of(cls, options: CompareOptions) -> Request:
        """A request from keywords.

        Raises
        ------
        TypeError
            There is no such option.
        """
        known = {each.name for each in fields(cls)}
        unknown = sorted(options.keys() - known)
        if unknown:
            raise TypeError(f"compare takes no option {unknown[0]!r}")
        given: dict[str, Any] = dict(options)
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What the user allows: ``|left − right| ≤ atol + rtol · max(|left|, |right|)``."""

    atol: float
    rtol: float


def asked_tolerance(atol: float | None, rtol: float | None) -> Tolerance | None:
    """What the user asks for; one alone sets the other to 0, neither leaves it to the floor.

    Raises
    ------
    inspector.errors.UsageError
        One is negative, NaN or infinite: nothing would ever differ.
    """
    if atol is None and rtol is None:
        return None
    found = Tolerance(atol=atol or 0.0, rtol=rtol or 0.0)
    # Written so that NaN fails.
    if not (0.0 <= found.atol < math.inf and 0.0 <= found.rtol < math.inf):
        raise UsageError(
            "a tolerance is a number of 0 or more, and not infinite", hint="see --atol and --rtol"
        )
    return found
