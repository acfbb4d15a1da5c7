"""``python -m inspector`` is the same as ``bninspect``."""

try:
    from inspector.cli.main import run

    run()
except KeyboardInterrupt:  # before there is anything that catches it
    raise SystemExit(130) from None
