"""``python -m inspector`` is the same as ``bninspect``."""

from inspector.cli.main import run

run()
