"""Names in real models, from the file to each format."""

from __future__ import annotations

import json

import onnx
import pytest
from checks import HOSTILE
from onnx_text import parsed
from throwaway import BAD

from inspector.facts.finding import CheckSettings
from inspector.flows.check import check_files
from inspector.report.github import to_github
from inspector.report.junit import to_junit
from inspector.report.markdown_check import to_markdown
from inspector.report.sarif import to_sarif
from inspector.report.words import printable

# protobuf's strings hold no surrogates.
NAMES = [each for each in HOSTILE if not any("\ud800" <= one <= "\udfff" for one in each)]


def reports(name, folder):
    """Each format's report of a bad model whose BatchNorm is called `name`."""
    model = parsed(BAD)
    model.graph.node[0].name = name
    onnx.save(model, folder / "model.onnx")
    check = check_files(folder / "model.onnx", CheckSettings(select=("BN011",)))
    assert [each.layer for each in check.files[0].findings] == [name]
    return {to.__name__: to(check) for to in (to_sarif, to_junit, to_github, to_markdown)}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_one_harmless_line_in_each_format(name, tmp_path):
    told = reports(name, tmp_path)

    for text in told.values():
        assert all(line.isprintable() for line in text.splitlines())
    (result,) = json.loads(told["to_sarif"])["runs"][0]["results"]
    assert result["locations"][0]["logicalLocations"][0]["name"] == printable(name)
    assert told["to_github"].count("\n") == 1
    assert told["to_github"].startswith("::error file=")
    assert told["to_junit"].count("<failure") == 1
    assert "<script" not in told["to_junit"] + told["to_markdown"].replace("`<script", "")
    assert sum(line.startswith("| error ") for line in told["to_markdown"].split("\n")) == 1
