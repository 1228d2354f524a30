"""What learns most from one text in the same time: storycell, a small transformer, torch's LSTM, n-grams, compressors?

    python benchmarks/rivals.py TEXT [--seconds 60] [--threads 1] [--rates 1e-3 3e-3]    (pip install '.[bench,torch]')
    python benchmarks/rivals.py --fresh 20000000     the embedded grammar's stories, more than anybody reads

All see the same text and the same part held out, in characters. Whoever is trained has the same seconds of processor
time, optimiser included, evaluation not, so other work on the machine does not matter much. The loss is
over the whole held-out text, nats per character, float32. Recurrent models read it from a zero state; the transformer,
which sees 64 characters, is given at least 32 of them before each that counts. A rival with several learning rates has
that time with each of them, and its best one counts; storycell has one try, with its recipes' settings. Compressors and
the n-gram read the training text once, whatever time it takes, which is stated.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyppmd
import torch
import torch.nn.functional as F
from torch import nn

from storycell import config, threads
from storycell.data import batches
from storycell.data.corpus import open_corpus
from storycell.data.prepare import prepare_cached
from storycell.data.stories.corpus import generate
from storycell.data.tokens import Prepared, as_blocks
from storycell.evaluation import evaluator
from storycell.evaluation.compressors import xz
from storycell.evaluation.ngram import NGram
from storycell.lab.bench.baselines import TorchModel
from storycell.lab.bench.results import keep
from storycell.training import best, start
from storycell.training.processes import ProcessGroup
from storycell.training.trainer import Trainer

BLOCK, GPT_BATCH = 64, 12  # nanoGPT's recipe for a CPU: config/train_shakespeare_char.py with the flags of its README
STREAMS, CHUNK = 32, 64
ORDER = 10
WARMUP, FINAL = 0.05, 0.1  # shares of the time and of the rate
Score = Callable[[np.ndarray], float]


class Transformer(nn.Module):
    """nanoGPT's shape (Karpathy 2022): pre-norm, GELU, learnt positions, no biases, tied output; no dropout."""

    def __init__(self, V: int, layers: int = 4, heads: int = 4, width: int = 128) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(V, width), nn.Embedding(BLOCK, width)
        self.heads, self.layers = heads, nn.ModuleList()
        for _ in range(layers):
            parts = {
                "norm_a": nn.LayerNorm(width, bias=False),
                "qkv": nn.Linear(width, 3 * width, bias=False),
                "mix": nn.Linear(width, width, bias=False),
                "norm_m": nn.LayerNorm(width, bias=False),
                "up": nn.Linear(width, 4 * width, bias=False),
                "down": nn.Linear(4 * width, width, bias=False),
            }
            self.layers.append(nn.ModuleDict(parts))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                scale = (2 * layers) ** -0.5 if "mix" in name or "down" in name else 1.0
                nn.init.normal_(weight, std=0.02 * scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids `[B T]` -> logits `[B T V]`."""
        B, T = ids.shape
        x = self.tokens(ids) + self.places.weight[:T]
        for layer in self.layers:
            q, k, v = (
                part.view(B, T, self.heads, -1).transpose(1, 2)
                for part in layer["qkv"](layer["norm_a"](x)).chunk(3, -1)
            )
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + layer["mix"](seen.transpose(1, 2).reshape(B, T, -1))
            x = x + layer["down"](F.gelu(layer["up"](layer["norm_m"](x))))
        return F.linear(self.norm(x), self.tokens.weight)


def trained(model: nn.Module, step: Callable[[int], torch.Tensor], rate: float, seconds: float) -> int:
    """Train by AdamW along a cosine for so much processor time; returns the steps."""
    matrices = [w for w in model.parameters() if w.dim() > 1]
    others = [w for w in model.parameters() if w.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
    began, steps = time.process_time(), 0
    while (spent := (time.process_time() - began) / seconds) < 1:
        along = max(0.0, (spent - WARMUP) / (1 - WARMUP))
        height = spent / WARMUP if spent < WARMUP else FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * along))
        for group in optimizer.param_groups:
            group["lr"] = rate * max(height, 1e-3)
        optimizer.zero_grad(set_to_none=True)
        step(steps).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    return steps


def transformer(prepared: Prepared, rate: float, seconds: float) -> dict[str, Any]:
    """nanoGPT's recipe for a CPU."""
    torch.manual_seed(1)
    V, ids = len(prepared.vocab), np.asarray(prepared.train_ids).astype(np.int64)
    model, draw = Transformer(V), np.random.default_rng(1)

    def step(_: int) -> torch.Tensor:
        at = draw.integers(0, len(ids) - BLOCK - 1, GPT_BATCH)
        chunk = torch.from_numpy(np.stack([ids[a : a + BLOCK + 1] for a in at]))
        return F.cross_entropy(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())

    steps = trained(model, step, rate, seconds)
    held_out = np.asarray(prepared.valid_ids).astype(np.int64)
    total, half = 0.0, BLOCK // 2
    with torch.no_grad():
        starts = list(range(0, max(1, len(held_out) - BLOCK), half))
        for first in range(0, len(starts), 256):
            rows = [held_out[a : a + BLOCK + 1] for a in starts[first : first + 256]]
            for length in {len(row) for row in rows}:
                chunk = torch.from_numpy(np.stack([row for row in rows if len(row) == length]))
                losses = F.cross_entropy(model(chunk[:, :-1]).transpose(1, 2), chunk[:, 1:], reduction="none").numpy()
                total += losses[:, half:].sum()
                if first == 0 and length == len(rows[0]):
                    total += losses[0, :half].sum()
        scored = starts[-1] + len(held_out[starts[-1] : starts[-1] + BLOCK + 1]) - 1
    return row_of(model, steps * GPT_BATCH * BLOCK, total / scored)


def torch_lstm(prepared: Prepared, rate: float, seconds: float) -> dict[str, Any]:
    """Two of torch's own LSTM layers of 256, state carried from chunk to chunk."""
    torch.manual_seed(1)
    V, ids = len(prepared.vocab), prepared.train_ids
    model = TorchModel("lstm", V, 64, 256, 2)
    chunks = batches.Streams(ids, STREAMS, CHUNK)
    carried: list[Any] = [None]

    def step(k: int) -> torch.Tensor:
        fed, targets = (torch.from_numpy(part) for part in chunks.at(k))
        logits, state = model(fed, carried[0])
        carried[0] = tuple(part.detach() for part in state)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    steps = trained(model, step, rate, seconds)
    held_out = torch.from_numpy(np.asarray(prepared.valid_ids).astype(np.int64))[None]
    total, state = 0.0, None
    with torch.no_grad():
        for a in range(0, held_out.shape[1] - 1, 4096):
            fed, targets = held_out[:, a : a + 4096], held_out[0, a + 1 : a + 4097]
            logits, state = model(fed[:, : len(targets)], state)
            total += float(F.cross_entropy(logits[0], targets, reduction="sum"))
    return row_of(model, steps * STREAMS * CHUNK, total / (held_out.shape[1] - 1))


def row_of(model: nn.Module, chars: int, nats: float) -> dict[str, Any]:
    """What is said of a torch model."""
    return {"params": sum(w.numel() for w in model.parameters()), "train_chars": chars, "loss_nats": float(nats)}


def ours(prepared: Prepared, recipe: str, seconds: float, count: int) -> dict[str, Any]:
    """storycell, by the clock of the processor."""
    group = ProcessGroup()
    given = {"minutes": seconds / 60, "threads": count, "backend": "native"}
    settings = start.resolve_settings(group, config.resolve(recipe, **given))

    def trainer_of(one: config.Settings) -> Trainer:
        learner = start.build_learner(one, len(prepared.vocab))
        return Trainer(learner, batches.make(prepared.train_ids, one.training), one.training, time.process_time)

    if recipe == "best":
        speeds = best.measure(settings, best.CANDIDATES, trainer_of)
        settings = settings.with_changes(**best.plan(settings, prepared.train.chars, speeds).changes)
    trainer = trainer_of(settings)
    for _ in trainer.reports():
        pass
    assert prepared.valid_ids is not None
    result = evaluator.evaluate(trainer.learner.model, prepared.valid_ids, prepared.vocab)
    params = sum(math.prod(shape) for shape in trainer.learner.layout.parameters.values())
    network = f"{settings.model.layers} x {settings.model.hidden}"
    more = {"stderr_nats": result.stderr_nats, "network": network}
    return {"params": params, "train_chars": trainer.chars, "loss_nats": result.loss_nats, **more}


def ngram(prepared: Prepared) -> dict[str, Any]:
    """Kneser-Ney."""
    assert prepared.valid_ids is not None
    counted = NGram.fit(np.asarray(prepared.train_ids), len(prepared.vocab), ORDER)
    nats = counted.score(prepared.valid_ids)
    return {"params": counted.params, "train_chars": prepared.train.chars, "loss_nats": float(nats.mean())}


def ppmd(data: bytes) -> int:
    """The size under ppmd's variant H of order 16."""
    encoder = pyppmd.Ppmd7Encoder(16, 1 << 30)
    return len(encoder.encode(data) + encoder.flush())


def compressor(prepared: Prepared, size: Callable[[bytes], int]) -> dict[str, Any]:
    """What a compressor needs for the held-out text once it has read the other."""
    assert prepared.valid_ids is not None
    known, text = (b"\n".join(as_blocks(ids, prepared.vocab)) for ids in (prepared.train_ids, prepared.valid_ids))
    bits = 8 * (size(known + b"\n" + text) - size(known))
    nats = bits * math.log(2) / (len(prepared.valid_ids) - 1)
    return {"params": 0, "train_chars": prepared.train.chars, "loss_nats": float(nats)}


def main() -> None:
    """Train everybody in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", help="a file, or a corpus by name")
    parser.add_argument("--fresh", type=int, metavar="CHARS", help="so many characters of new embedded stories instead")
    parser.add_argument("--seconds", type=float, default=60.0, help="of processor time for each training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3], help="of the rivals; the best counts")
    parser.add_argument("--out", type=Path, help="keep the JSON here")
    args = parser.parse_args()
    if (args.text is None) == (args.fresh is None):
        parser.error("give a text, or --fresh CHARS")
    torch.set_num_threads(args.threads)
    with threads.computing_on(args.threads, args.threads), TemporaryDirectory() as folder:
        words, name = args.text, str(args.text)
        if args.fresh:
            name = f"{args.fresh:,} characters of fresh stories"
            words, written = Path(folder) / "fresh.txt", 0
            with words.open("w", encoding="utf-8") as file:
                for story in generate(seed=2):
                    written += file.write(f"{story}<|endoftext|>\n")
                    if written >= args.fresh:
                        break
        prepared = prepare_cached(open_corpus([str(words)]), vocab="characters")
        contestants: dict[str, Callable[[], dict[str, Any]]] = {
            "storycell, `best`": lambda: ours(prepared, "best", args.seconds, args.threads),
            "storycell, `base`": lambda: ours(prepared, "base", args.seconds, args.threads),
        }
        for rate in args.rates:
            contestants[f"nanoGPT's shape, AdamW {rate:g}"] = lambda r=rate: transformer(prepared, r, args.seconds)
            contestants[f"torch LSTM 2 x 256, AdamW {rate:g}"] = lambda r=rate: torch_lstm(prepared, r, args.seconds)
        contestants[f"Kneser-Ney {ORDER}-gram"] = lambda: ngram(prepared)
        contestants["ppmd, order 16, after the training text"] = lambda: compressor(prepared, ppmd)
        contestants["xz after the training text"] = lambda: compressor(prepared, xz)
        rows = []
        for contestant, measure in contestants.items():
            began = time.process_time()
            rows.append({"name": contestant, **measure(), "processor_s": round(time.process_time() - began, 1)})
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: row["loss_nats"])
    print("\n| | parameters | characters read | nats per character |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['name']} | {row['params']:,} | {row['train_chars']:,} | {row['loss_nats']:.3f} |")
    facts = {"text": name, "held_out_chars": prepared.valid.chars if prepared.valid else 0}
    keep({**facts, "seconds": args.seconds, "threads": args.threads, "rows": rows}, args.out)


if __name__ == "__main__":
    main()
