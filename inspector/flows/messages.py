"""What was found in a file, as a line between two processes.

JSON and no pickle: the process that writes it has read a file from anyone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspector.facts.finding import CheckedFile, Finding


def to_line(file: CheckedFile) -> bytes:
    """One line, with the end of it; NaN and infinity are written as Python reads them."""
    return json.dumps(asdict(file), default=_plain).encode("ascii") + b"\n"


def _plain(number: Any) -> Any:
    """One of NumPy's own numbers as Python's."""
    return number.item()


def from_line(line: bytes) -> CheckedFile:
    """The same facts again.

    Raises
    ------
    ValueError
        It is no such line.
    """
    from inspector.facts.finding import CheckedFile, Ignored

    try:
        plain = json.loads(line)
        return CheckedFile(
            path=plain["path"],
            findings=tuple(_finding(each) for each in plain["findings"]),
            ignored=tuple(
                Ignored(finding=_finding(each["finding"]), reason=each["reason"])
                for each in plain["ignored"]
            ),
            layers=plain["layers"],
            unreadable=plain["unreadable"],
            notes=tuple(plain["notes"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no facts about a file: {error}") from error


def _finding(plain: Mapping[str, Any]) -> Finding:
    from inspector.facts.batchnorm import Confidence
    from inspector.facts.finding import Finding, Severity

    typed = {
        "severity": Severity(plain["severity"]),
        "confidence": Confidence(plain["confidence"]),
    }
    lists = {name: tuple(each) for name, each in plain.items() if isinstance(each, list)}
    return Finding(**{**plain, **lists, **typed})
