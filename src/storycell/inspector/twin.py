"""The untrained twin: the same network as it was before it saw a text, the yardstick of what training bought."""

from storycell.model import CharLM


def untrained(lm: CharLM, seed: int = 1) -> CharLM:
    """A network of the same cell and sizes with the weights that `seed` draws."""
    first = lm.recurrent.layers()[0]
    return CharLM(
        lm.vocab_size,
        lm.hidden_size,
        lm.num_layers,
        lm.cell,
        embedding_size=lm.embedding_size,
        gate_bias="bias_ih" in first,
        forget_bias=lm.forget_bias,
        backend=lm.backend.name,
        seed=seed,
    ).to(lm.output.weight)
