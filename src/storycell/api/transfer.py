"""Weights of one model into another that knows more characters: what `--init` does.

In: a fresh model and the donor. Out: nothing; the model is filled. What concerns a character moves with it; a new
character keeps its fresh input weights and starts less likely than any of the donor's.
"""

import torch

from storycell.api.model import Model
from storycell.model import CharLM
from storycell.vocab import RESERVED, Vocabulary


@torch.no_grad()
def adopt(lm: CharLM, vocab: Vocabulary, donor: Model) -> None:
    """Fill `lm`, whose vocabulary `vocab` contains the donor's, with the donor's weights."""
    place = {c: k + RESERVED for k, c in enumerate(vocab.characters)}
    columns = [*range(RESERVED), *(place[c] for c in donor.vocab.characters)]
    rows = torch.tensor(columns, dtype=torch.int64, device="cpu")
    given = donor.lm.state_dict()
    lm.output.weight.mul_(0.1)
    lm.output.bias.fill_(given["output.bias"][RESERVED:].min().item() - 2.0)
    for name, weight in lm.state_dict().items():
        if name in ("embedding.weight", "output.weight", "output.bias"):
            weight[rows] = given[name]
        elif name == "recurrent.weight_ih_l0" and lm.embedding is None:
            weight[:, rows] = given[name]
        else:
            weight.copy_(given[name])
