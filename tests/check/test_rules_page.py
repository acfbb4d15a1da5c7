"""docs/rules.md holds what the rules say of themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import make_rules_page

from inspector.check.rule import Rule
from inspector.check.rules import RULES

TEXT = make_rules_page.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule.info.code) for rule in RULES])
def test_each_rule_has_its_section(rule: Rule) -> None:
    info = rule.info
    _, found, rest = TEXT.partition(f"\n## {info.code} {info.name}\n")
    section = rest.partition("\n## ")[0]

    assert found, "python scripts/make_rules_page.py writes it"
    assert info.summary in section
    assert info.why in section
    assert info.remedy.rstrip(".")[1:] in section
    assert info.bad.strip("\n") in section
    assert info.good.strip("\n") in section
    for each in info.thresholds:
        assert f"`{each.name}` | {each.default:g} |" in section


def test_the_page_has_nothing_else() -> None:
    assert make_rules_page.main(check=True) == 0


def test_a_page_that_is_behind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = tmp_path / "rules.md"
    behind.write_text(TEXT.replace("## BN011", "## BN099"), encoding="utf-8")
    monkeypatch.setattr(make_rules_page, "PAGE", behind)
    with pytest.raises(SystemExit, match="make_rules_page"):
        make_rules_page.main(check=True)
    make_rules_page.main(check=False)
    assert behind.read_text(encoding="utf-8") == TEXT
