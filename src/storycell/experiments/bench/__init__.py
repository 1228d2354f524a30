"""Speed, beside torch's own layers and a plain loop, interleaved in one run.

`train` measures whole training steps, `sample` writing, `prepare` turning text into token files. Each takes a
`Workload` and gives figures as plain JSON, the machine and its ceiling among them.
"""

from storycell.experiments.bench.generation import sample
from storycell.experiments.bench.preparing import prepare
from storycell.experiments.bench.training import train
from storycell.experiments.bench.workload import Workload

__all__ = ["Workload", "prepare", "sample", "train"]
