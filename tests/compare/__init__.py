"""Tests of `inspector.compare`."""
