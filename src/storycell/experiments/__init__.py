"""Experiments: what takes several runs, or a run and its text, to answer.

`compare` puts runs and baselines beside each other on one text; `reproduce` trains the article's models on equal terms
and tabulates them; `novelty` asks whether a model copies the text it has learnt; `bench` measures speed beside torch's
own layers. Each gives rows (plain JSON), some an offline HTML page; every figure in them comes from a measurement.
"""
