"""What scripts/fuzz_read.py is made of: seeds, mutations, the target, its engines, coverage.

Read `target.py` first: it says what is promised of any input.
"""
