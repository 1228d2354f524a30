"""Characters per second of generation beside torch's module called per character.

python bench/generation.py [cell H L]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from python import native
from training import TorchModel


@torch.no_grad()
def torch_loop(model, length: int) -> None:
    ids, state = torch.zeros(1, 1, dtype=torch.int64), None
    for _ in range(length):
        out, state = model.cell(model.embedding(ids), state)
        ids = torch.multinomial(torch.softmax(model.output(out[:, -1]), -1), 1)


def main() -> None:
    cell, H, L = (sys.argv[1:] + ["lstm", "256", "1"][len(sys.argv) - 1 :])[:3]
    model = TorchModel(cell, 96, int(H), int(L))
    p = {k.removeprefix("cell."): v for k, v in model.named_parameters()}
    generators = {q: native.Generator(cell, p, q) for q in ("float32", "bfloat16")}
    rows: dict = {}

    def measure(name, run, characters):
        start = time.perf_counter()
        run()
        rows.setdefault(name, []).append(characters / (time.perf_counter() - start))

    torch.set_num_threads(1)
    for _ in range(5):
        measure("torch float32, 1 stream, 1 thread", lambda: torch_loop(model, 300), 300)
        for q, g in generators.items():
            for streams in (1, 16):
                current = torch.zeros(streams, dtype=torch.int64)
                random = torch.randint(1, 2**32, (streams, 4))
                for name, options in (
                    ("", {}),
                    (" top-k 20 top-p .9", {"top_k": 20, "top_p": 0.9}),
                ):
                    measure(
                        f"native {q}, {streams} streams, 1 thread{name}",
                        lambda: g.generate(current, random, 3000, **options),  # noqa: B023
                        3000 * streams,
                    )
    base = sorted(rows["torch float32, 1 stream, 1 thread"])[2]
    print(f"{cell} H={H} L={L} V=96 isa={native.isa()}")
    for name, rates in rows.items():
        rates.sort()
        print(f"{name:52s} {rates[2]:9.0f} chars/s ({rates[0]:.0f}..{rates[-1]:.0f})  x{rates[2] / base:.1f}")


if __name__ == "__main__":
    main()
