"""How fast does a model write, beside torch's own layers called character by character?

    python benchmarks/generation.py [--rounds N]

Keeps `benchmarks/results/generation.json`.
"""

import argparse
import itertools
from pathlib import Path

from storycell.lab.bench.results import measure
from storycell.lab.bench.sample import sample
from storycell.lab.bench.workload import Workload


def main() -> None:
    """One stream and many, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "generation.json")
    args = parser.parse_args()
    workloads = [
        Workload(hidden=H, layers=L, streams=streams, rounds=args.rounds, precision=precision)
        for H, L, streams, precision in itertools.product(args.hidden, args.layers, args.streams, args.precision)
    ]
    measure(sample, workloads, args.out)


if __name__ == "__main__":
    main()
