"""Whether two models are the same function, and if not, why not.

`inspector.flows` composes the steps: pair, feed, run, difference, explain, judge.
"""
