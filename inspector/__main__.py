"""``python -m inspector`` is the same as ``bninspect``."""

from inspector.cli import main

main()
