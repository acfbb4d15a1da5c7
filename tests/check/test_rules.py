"""Each rule, on the models that its own documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from onnx_text import parsed

from inspector.check.rule import Rule
from inspector.check.rules import RULES
from inspector.facts.finding import CheckedFile, CheckSettings
from inspector.flows.check import check_one

BY_CODE = [pytest.param(rule, id=rule.info.code) for rule in RULES]


def checked(text: str, rule: Rule, folder: Path) -> CheckedFile:
    """What one rule finds in a model."""
    onnx.save(parsed(text), folder / "model.onnx")
    baseline = None
    if rule.info.baseline:
        baseline = folder / "before.onnx"
        onnx.save(parsed(rule.info.baseline), baseline)
    settings = CheckSettings(select=(rule.info.code,))
    return check_one(folder / "model.onnx", settings, baseline=baseline)


@pytest.mark.parametrize("rule", BY_CODE)
def test_a_rule_finds_its_bad_model(rule: Rule, tmp_path: Path) -> None:
    file = checked(rule.info.bad, rule, tmp_path)

    assert file.findings
    for each in file.findings:
        assert each.rule == rule.info.code
        assert each.severity is rule.info.severity
        assert each.message
        assert each.remedy
        # The layer is named, where it is about one, and so is what is wrong with it.
        assert each.layer in each.message
        assert each.evidence


@pytest.mark.parametrize("rule", BY_CODE)
def test_a_rule_does_not_find_its_good_model(rule: Rule, tmp_path: Path) -> None:
    file = checked(rule.info.good, rule, tmp_path)

    assert not file.findings
    assert not file.unreadable


def test_codes_and_names_are_unique_and_in_order() -> None:
    codes = [rule.info.code for rule in RULES]

    assert codes == sorted(set(codes))
    assert len({rule.info.name for rule in RULES}) == len(RULES)
    assert all(re.fullmatch(r"BN\d{3}", code) for code in codes)


def test_each_rule_is_a_file_of_its_name() -> None:
    folder = Path(__file__).parents[2] / "inspector" / "check" / "rules"
    names = {f"{rule.info.code.lower()}_{rule.info.name.replace('-', '_')}" for rule in RULES}

    assert {path.stem for path in folder.glob("bn*.py")} == names
