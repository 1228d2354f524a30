"""What takes several runs, or a run and a text: compare, reproduce, novelty, compress, bench.

Each gives rows (plain JSON), some an offline HTML page; every figure in them comes from a measurement.
"""
