from __future__ import annotations

from importlib import import_module

rendering = import_module("inspector.report.render")  # the package exports a function of that name


def test_each_fact_has_a_text() -> None:
    facts = {each.strip() for each in rendering.Fact.split("|")}
    assert facts == rendering._TEXTS.keys()
    for module, name in rendering._TEXTS.values():
        assert callable(getattr(import_module(f"inspector.report.{module}"), name))
