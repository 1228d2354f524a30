"""Experiments: what takes several runs, or a run and its text, to answer.

`novelty` asks whether a model copies the text it has learnt.
"""
