"""The golden file, `tests/golden/networks.json`: small networks and what they compute, for every implementation.

Written from the reference cells in float64 by `python tests/support/golden.py`. For each network: its sizes, from which
`weights` makes the same numbers anywhere (multiples of 1/128 by a linear congruential generator, so they are exact in
float16, too); ids and targets `[B T]` with the nats of every target, the mean's gradient by every parameter, the logits
after the last id and the states after it; a prompt with the logits after it, and texts that follow on it.

A text is only taken if it does not change when every logit is moved by `MARGIN` in random directions, so that all who
round less than that write it.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from storycell.data.vocab import Vocabulary
from storycell.engine.cells import weight_shapes
from storycell.generation.sampler import Draw, Sampling
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY

FILE = Path(__file__).parents[1] / "golden" / "networks.json"
VOCAB = Vocabulary("\n .abcdefghé")
PROMPT = "abc é"
CHARS = 60
MARGIN = 1e-4
KINDS = [
    (cell, L, H, D, bias) for cell in ("lstm", "gru", "rnn") for L, H, D, bias in ((1, 5, 0, False), (2, 6, 3, True))
]
SAMPLINGS: list[dict[str, Any]] = [  # of plain temperatures the exported files know, too
    {"temperature": 0.0},
    {"temperature": 0.8},
    {"temperature": 1.5},
    {"temperature": 1.2, "top_k": 4},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 1.4, "top_k": 9, "top_p": 0.95, "min_p": 0.02},
]
FIRST_SEEDS = [0, 1, 7, 2**32 + 5, 2**40, 2**63, 2**64 - 1000]  # the first after each that gives a text

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """A network's."""

    cell: str
    layers: int
    hidden: int
    embedding: int
    gate_bias: bool


def numbers(count: int, state: int) -> tuple[Array, int]:
    """From -1 to 1 in steps of 1/128, and the generator's state after them."""
    out = np.empty(count)
    for k in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out[k] = ((state >> 24) - 128) / 128
    return out, state


def weights(sizes: Sizes) -> dict[str, Array]:
    """All parameters by torch's names; a story's end is made improbable."""
    shapes = weight_shapes(len(VOCAB), sizes.hidden, sizes.layers, sizes.cell, sizes.embedding, sizes.gate_bias)
    made, state = {}, 1
    for name, shape in shapes.items():
        flat, state = numbers(int(np.prod(shape)), state)
        made[name] = flat.reshape(shape) * (2 if len(shape) == 2 else 1)
    made["output.bias"][BOUNDARY] = -4
    return made


def texts_ids() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """ids and targets `[B T]`; every id is among them."""
    ids = (np.arange(2 * 16) * 5 % len(VOCAB)).reshape(2, 16)
    return ids[:, :-1], ids[:, 1:]


def reference(sizes: Sizes, backend: str = "reference") -> CharLM:
    """The network as a module, float32."""
    lm = CharLM(
        len(VOCAB), sizes.hidden, sizes.layers, sizes.cell,
        embedding_size=sizes.embedding, gate_bias=sizes.gate_bias, backend=backend, precision="fp32",
    )  # fmt: skip
    lm.load_state_dict({name: torch.tensor(weight, dtype=torch.float32) for name, weight in weights(sizes).items()})
    return lm.eval()


def computed(sizes: Sizes) -> dict[str, Any]:
    """What the reference computes in float64, all but the texts."""
    lm = reference(sizes).double()
    ids, targets = (torch.from_numpy(a.copy()) for a in texts_ids())
    logits, state = lm(ids)
    nats = torch.nn.functional.cross_entropy(logits.mT, targets, reduction="none")
    named = dict(lm.named_parameters())
    gradients = torch.autograd.grad(nats.mean(), [*named.values()])
    with torch.no_grad():
        after_prompt, _ = lm(torch.tensor([prompt_ids()]))
    return {
        "nats": nats.detach().numpy(),
        "mean_nats": nats.mean().item(),
        "logits": logits[:, -1].detach().numpy(),
        "state": {name: value.numpy() for name, value in state.items()},
        "gradients": {name: gradient.numpy() for name, gradient in zip(named, gradients, strict=True)},
        "logits_after_prompt": after_prompt[0, -1].numpy(),
    }


def prompt_ids() -> list[int]:
    """What is fed before the first character is drawn."""
    return [BOUNDARY, *VOCAB.prompt_ids(PROMPT)[0]]


def text(sizes: Sizes, sampling: Sampling, seed: int) -> str | None:
    """What follows on the prompt, `CHARS` at most; None where one may round to another text, or it is too short."""
    lm, draw, written = reference(sizes).double(), Draw(seed), list[int]()
    noise, state, fed = np.random.default_rng(0), None, prompt_ids()
    with torch.no_grad():
        for _ in range(CHARS):
            out, state = lm(torch.tensor([fed]), state)
            logits = out[0, -1].numpy()
            before, chosen = copy.deepcopy(draw), sampling.choose(logits, draw)
            for _ in range(20):
                moved = logits + MARGIN * noise.choice((-1, 1), len(logits))
                if sampling.choose(moved, copy.deepcopy(before)) != chosen:
                    return None
            if chosen == BOUNDARY:
                break
            written.append(chosen)
            fed = [chosen]
    return VOCAB.decode(written) if len(written) > CHARS // 3 else None


def texts(sizes: Sizes) -> list[dict[str, Any]]:
    """One text for each sampling, with the seed that it was drawn from."""
    found = []
    for settings, seed in zip(SAMPLINGS, FIRST_SEEDS, strict=True):
        while (drawn := text(sizes, Sampling(**settings), seed)) is None:
            seed += 1
        found.append({"sampling": settings, "seed": seed, "text": drawn})
    return found


def plain(value: Any) -> Any:
    """Arrays as lists of numbers of ten digits."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def golden() -> dict[str, Any]:
    """The whole file."""
    networks = []
    for kind in KINDS:
        sizes = Sizes(*kind)
        networks.append({"sizes": vars(sizes), **plain(computed(sizes)), "texts": texts(sizes)})
    ids, targets = texts_ids()
    seeds = {str(seed): Draw(seed).words for seed in FIRST_SEEDS}
    return {
        "characters": VOCAB.characters, "prompt": PROMPT, "chars": CHARS, "ids": ids.tolist(),
        "targets": targets.tolist(), "words_of_seeds": seeds, "networks": networks,
    }  # fmt: skip


if __name__ == "__main__":
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in golden().items()]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("{" + ",\n".join(lines).replace('{"sizes"', '\n{"sizes"') + "}\n", encoding="utf-8")
