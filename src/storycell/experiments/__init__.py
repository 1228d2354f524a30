"""Experiments: what takes several runs, or a run and its text, to answer.

`bench` measures speed beside torch's own layers.
"""
