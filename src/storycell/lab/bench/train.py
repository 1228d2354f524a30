"""`bench train`: whole training steps (forward, loss, backward, clipping, AdamW), in characters per second.

Compared are storycell, torch's layer in float32 and under autocast to bf16 (and compiled), the article's loop, and the
ceiling. All read the same random characters from the state that their step before left, as training does.
"""

import warnings
from typing import Any

import torch
import torch.nn.functional as F

from storycell import threads
from storycell.lab.bench import results, roofline
from storycell.lab.bench.baselines import PlainLoop, TorchModel, detach
from storycell.lab.bench.timing import Work, time_interleaved
from storycell.lab.bench.workload import V, Workload
from storycell.nn import optim
from storycell.nn.model import CharLM

CLIP, RATE = 1.0, 1e-3


def train(workload: Workload) -> dict[str, Any]:
    """Measure training steps; the figures as `figures.summary` gives them."""
    workload = workload.model_copy(
        update={"streams": workload.streams or 64, "threads": workload.threads or threads.default()},
    )
    assert workload.streams
    assert workload.threads
    with threads.computing_on(workload.threads, workload.threads):
        lm = _model(workload)
        precision = "bf16" if lm.rounds_to_bf16 else "fp32"
        contestants = {"storycell": ours(lm, _ids(workload))} | _rivals(workload)
        skipped = _add_compiled(contestants, workload) if workload.compile else None
        rates = time_interleaved(contestants | roofline.products(precision), workload.rounds)
    flop_per_s, reason = roofline.best_product(rates)
    flop = roofline.training_flop(workload.cell, workload.layers, workload.hidden, V)
    chosen = {"precision": precision, "backend": lm.backend.name, "torch_compile_skipped": skipped}
    ceiling = results.Ceiling(flop_per_s / flop, f"{reason} in {precision}")
    return results.summary("train", workload.model_dump() | chosen, rates, ceiling)


def _model(workload: Workload) -> CharLM:
    lm = CharLM(
        V,
        workload.hidden,
        workload.layers,
        workload.cell,
        embedding_size=workload.embedding,
        precision=workload.precision,
    )
    return lm.train()


def _ids(workload: Workload) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (workload.streams or 1, workload.chunk + 1)
    text = torch.randint(2, V, shape, generator=generator, dtype=torch.int64, device="cpu")
    return text[:, :-1], text[:, 1:]


def ours(lm: CharLM, text: tuple[torch.Tensor, torch.Tensor]) -> Work:
    """A step of storycell, on the backend that it chose."""
    ids, targets = text
    optimizer = optim.adamw(lm, [{"params": lm.parameters()}], RATE, (0.9, 0.999))
    state = lm.zero_state(len(ids))

    def work() -> int:
        nonlocal state
        with lm.backend.exclusive():  # as the trainer does
            nats, state = lm(ids, state, targets=targets)
            torch.autograd.backward(nats)
            optim.clip(lm, CLIP)
            optimizer.step()
            optimizer.zero_grad()
        return ids.numel()

    return work


def theirs(model: torch.nn.Module, text: tuple[torch.Tensor, torch.Tensor], bf16: bool = False) -> Work:
    """A step of another model, in float32 or under autocast to bf16."""
    ids, targets = text
    optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=True)
    state = None

    def work() -> int:
        nonlocal state
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, state = model(ids, state)
        state = detach(state)
        nats = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        torch.autograd.backward(nats)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return ids.numel()

    return work


def _rivals(workload: Workload) -> dict[str, Work]:
    sizes, text = (workload.hidden, workload.layers), _ids(workload)
    rivals = {
        name: theirs(TorchModel(workload.cell, V, workload.embedding, *sizes), text, bf16)
        for name, bf16 in (("torch_fp32", False), ("torch_bf16", True))
    }
    if workload.loop and workload.cell in PlainLoop.GATES:
        rivals["article"] = theirs(PlainLoop(workload.cell, V, *sizes), text)
    return rivals


def _add_compiled(contestants: dict[str, Work], workload: Workload) -> str | None:
    """Add torch.compile's version where it runs; otherwise the reason why not."""
    model = TorchModel(workload.cell, V, workload.embedding, workload.hidden, workload.layers)
    try:
        with warnings.catch_warnings(action="ignore"):  # a compiler's, about itself
            work = theirs(torch.compile(model), _ids(workload), bf16=True)  # type: ignore[arg-type]
            work()
    except Exception as error:  # whatever a compiler can raise
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    contestants["torch_compile"] = work
    return None
