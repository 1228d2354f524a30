"""Small models with random weights, of every kind that can be exported, and what the run itself makes of them."""

import numpy as np
import numpy.typing as npt

from storycell.config import ModelSettings
from storycell.data.vocab import BYTES, Vocabulary
from storycell.generation import sampler
from storycell.language_model import LanguageModel
from storycell.runs.network import new_model
from storycell.types import BOUNDARY

FORMS = Vocabulary("".join(sorted("\n abefilns-1AếéÅ한국o\u0308")))  # accents in one character, and one by itself
PROMPTS = [
    "a\r\nb\ra",
    "\ufeff<|endoftext|>\r\na\r\n<|endoftext|>",
    "e\u0301e\u0302\u0301ê\u0301A\u030a\u212b",
    "ö" + "o\u0308" + "ä",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "a\u200db\u00ad\ufe0f\ufeff",
    "ﬁﬂﬃßＡ\u00a0\u2011１",
]
CHARACTERS = Vocabulary("".join(sorted("\n abcdefgh\"'<>&\\?é”😀")))
# Embedding 2 is stored as it is, 40 is multiplied out, 0 is one-hot; H = 5 and 7 are multiples of nothing.
KINDS = {
    f"{cell}-L{L}-H{H}-D{D}-{'bias' if bias else 'no bias'}": (cell, L, H, D, bias)
    for cell in ("lstm", "gru", "rnn")
    for L, H, D, bias in ((1, 5, 2, True), (2, 7, 0, False), (3, 16, 40, True))
}
# With n-grams of up to 4 characters in 29 rows, with matches of up to 5, and with both.
CONTEXTS = {"ngrams": (4, 0), "ngrams-matches": (4, 5), "matches": (0, 5)}
KINDS |= {
    f"{cell}-L2-H7-D3-{context}": (cell, 2, 7, 3, cell != "gru")
    for context in CONTEXTS
    for cell in ("lstm", "gru", "rnn")
}
# Normalised gates: of a table, of an embedding that is multiplied out, and of one that a context is added to.
KINDS |= {
    "lstm-L2-H7-D0-gate norm": ("lstm", 2, 7, 0, True),
    "lstm-L1-H16-D2-gate norm": ("lstm", 1, 16, 2, True),
    "lstm-L3-H16-D40-gate norm": ("lstm", 3, 16, 40, True),
    "lstm-L2-H7-D3-gate norm-ngrams-matches": ("lstm", 2, 7, 3, True),
    "lstm-L1-H5-D3-gate norm-matches": ("lstm", 1, 5, 3, True),
}
# Each kind with one rounding, and each size, embedding and cell with all three.
ROUNDED = {kind: ("fp32", "fp16", "int8")[(k + k // 3) % 3] for k, kind in enumerate(KINDS)}
PROMPT = "a é”😀\nbad a é”😀\nbad a ?"  # what has stood before, and what it did not go on with


def context_of(kind: str) -> tuple[int, int]:
    """The longest n-gram and the longest match of a kind, 0 where it has none."""
    return CONTEXTS.get(kind.split("-", 4)[-1].removeprefix("gate norm-"), (0, 0))


def model(kind: str, vocab: Vocabulary = CHARACTERS) -> LanguageModel:
    """A model with weights wide enough that its gates open and close, and not so wide that it is chaotic.

    Both biases of normalised gates are as large as what they are added to, so that neither passes for the other.
    """
    cell, L, H, D, bias = KINDS[kind]
    ngrams, matches = context_of(kind)
    sizes = ModelSettings(
        cell=cell,
        layers=L,
        hidden=H,
        embedding=D,
        gate_bias=bias,
        ngrams=ngrams,
        ngram_rows=29,
        matches=matches,
        gate_norm="gate norm" in kind,
    )
    drawn, random = new_model(len(vocab), sizes), np.random.default_rng(5)
    weights = {n: random.normal(0, 1.5 * H**-0.5, w.shape) for n, w in drawn.weights().items()}
    if drawn.gate_norm:
        weights |= {n: random.normal(0, 1, w.shape) for n, w in weights.items() if n.startswith("recurrent.bias")}
    return drawn.with_weights(weights)


def logits_after(run: LanguageModel, prompt: str, vocab: Vocabulary = CHARACTERS) -> npt.NDArray[np.float32]:
    """The run's logits of the character after a prompt, `[V]`."""
    ids, _ = vocab.prompt_ids(prompt)
    last: npt.NDArray[np.float32] = run.logits([[BOUNDARY, *ids]])[0][0, -1]
    return last


def text(
    run: LanguageModel, prompt: str, chars: int, temperature: float, seed: int, vocab: Vocabulary = CHARACTERS
) -> str:
    """What the run writes, the prompt included."""
    ids, read = vocab.prompt_ids(prompt)
    drawn = sampler.streams(run, ids, sampler.Sampling(temperature), [seed], chars)
    written = [k for (k,) in drawn if k is not None]
    return vocab.decode([*ids, *written]) if vocab is BYTES else read + vocab.decode(written)
