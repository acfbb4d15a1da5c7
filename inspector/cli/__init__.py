"""The command line: parse, call a flow, render. Nothing else prints or exits."""

from inspector.cli.main import main

__all__ = ["main"]
