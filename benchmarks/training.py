"""How fast are whole training steps, beside torch's own layers? The grid of widths, layers and threads.

    python benchmarks/training.py [--rounds N] [--hidden 128 256 …] [--threads 1 2]

Keeps `benchmarks/results/training.json` and draws `docs/speed.png` from what it measured at the most threads.
"""

import argparse
import itertools
from pathlib import Path

from storycell.lab.bench.results import chart, measure
from storycell.lab.bench.train import train
from storycell.lab.bench.workload import Workload
from storycell.threads import cores

HERE = Path(__file__).parent


def main() -> None:
    """Measure the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, cores()}))
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training.json")
    parser.add_argument("--chart", type=Path, default=HERE.parent / "docs" / "speed.png")
    args = parser.parse_args()
    workloads = [
        Workload(hidden=H, layers=L, threads=threads, rounds=args.rounds, precision=args.precision, loop=H <= 512)
        for threads, H, L in itertools.product(args.threads, args.hidden, args.layers)
    ]
    rows = measure(train, workloads, args.out)
    args.chart.write_bytes(chart(rows, max(args.threads)))


if __name__ == "__main__":
    main()
