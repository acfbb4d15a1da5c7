"""Tests of `inspector.write`."""
