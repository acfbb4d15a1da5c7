"""What scripts/bench_compare.py is made of: networks, changes of known truth, proofs, the score.

Read `truth.py` first: it says when a pair counts. Nothing here but `judge.py` knows bninspect.
"""
