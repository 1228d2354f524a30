"""Whole training steps beside torch's, interleaved in one run; prints medians, spread, ratios.

python bench/training.py [cell H L B T] [--isa NAME] [--rounds N]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from python import native

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class TorchModel(torch.nn.Module):
    def __init__(self, cell: str, V: int, H: int, L: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(V, H)
        module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell]
        self.cell = module(H, H, L, batch_first=True)
        self.output = torch.nn.Linear(H, V)


def step(kind: str, cell: str, model, opt, ids, targets) -> None:
    if kind.startswith("native"):
        p = {k.removeprefix("cell."): v for k, v in model.named_parameters()}
        loss, _ = native.sequence_loss(cell, p, ids, targets, precision=kind.split()[1])
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="autocast" in kind):
            logits = model.output(model.cell(model.embedding(ids))[0])
        flat = logits.float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(flat, targets.flatten())
    opt.zero_grad(set_to_none=True)
    loss.backward()
    few = native.one_torch_thread() if kind.startswith("native") else contextlib.nullcontext()
    with few:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        opt.step()


def product_rate(dtype: torch.dtype, n: int = 1024) -> float:
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    best = 1e9
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", default=["lstm", "256", "1", "64", "128"])
    parser.add_argument("--isa", default="")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="comma-separated kinds, e.g. native")
    args = parser.parse_args()
    cell, (H, L, B, T), V = args.sizes[0], map(int, args.sizes[1:]), 96
    native.use_isa(args.isa)
    torch.manual_seed(0)
    ids, targets = torch.randint(0, V, (B, T)), torch.randint(0, V, (B, T))
    kinds = ["torch float32", "torch autocast", "native float32", "native bfloat16"]
    kinds = [k for k in kinds if not args.only or any(o in k for o in args.only.split(","))]
    runs = {}
    for kind in kinds:
        model = TorchModel(cell, V, H, L)
        runs[kind] = (model, torch.optim.Adam(model.parameters(), fused=True))
        for _ in range(2):
            step(kind, cell, *runs[kind], ids, targets)
    times: dict = {kind: [] for kind in kinds}
    for _ in range(args.rounds):
        for kind in kinds:
            time.sleep(0.02)  # let the other kind's threads stop spinning
            step(kind, cell, *runs[kind], ids, targets)  # and the caches hold this kind's data
            start = time.perf_counter()
            step(kind, cell, *runs[kind], ids, targets)
            times[kind].append(time.perf_counter() - start)
    rates = {
        torch.float32: product_rate(torch.float32),
        torch.bfloat16: product_rate(torch.bfloat16),
    }
    flop = 6 * (GATES[cell] * H * H * (2 * L - 1) + H * V) * B * T
    print(f"{cell} H={H} L={L} B={B} T={T} V={V} isa={native.isa()} threads={torch.get_num_threads()}")
    print("torch.mm GFLOP/s: float32 %.0f, bfloat16 %.0f" % tuple(r / 1e9 for r in rates.values()))
    median = {k: sorted(v)[len(v) // 2] for k, v in times.items()}
    for kind in kinds:
        v, m = times[kind], median[kind]
        rate = rates[torch.float32 if "float32" in kind else torch.bfloat16]
        line = f"{kind:16s} {m * 1e3:8.1f} ms ({min(v) * 1e3:.1f}..{max(v) * 1e3:.1f})"
        line += f" {B * T / m:9.0f} chars/s"
        for other in kinds[:2]:
            if other.startswith("torch"):
                line += f"  x{median[other] / m:.2f} {other}"
        if kind.startswith("native"):
            line += f"  {flop / m / 1e9:.0f} GFLOP/s = {flop / m / rate:.0%} of torch.mm"
        print(line)


if __name__ == "__main__":
    main()
