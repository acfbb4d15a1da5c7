"""Turn facts into text: ``render(fact, format)`` is a pure function, one module a format."""

from inspector.report.render import FORMATS, render

__all__ = ["FORMATS", "render"]
