"""Stand-in for the batched sampler until it lands."""

from copy import copy
from dataclasses import dataclass, field

import numpy as np
import torch

from storycell.model import CharLM
from storycell.sampler import Draw, Sampling
from storycell.vocab import BOUNDARY


class Stream:
    def __init__(self, sampling: Sampling, seed: int) -> None:
        self.sampling, self.draw = sampling, Draw(seed)
        self.state = None
        self.next_id = BOUNDARY
        self.ended = False

    def copy(self):
        new = copy(self)
        new.draw = Draw(0)
        new.draw._s = list(self.draw._s)
        return new


@dataclass
class Written:
    ids: list[int] = field(default_factory=list)
    logits: object = None


def _step(lm: CharLM, stream: Stream, ids):
    state = None if stream.state is None else {k: v.unsqueeze(1) for k, v in stream.state.items()}
    with lm.reading():
        logits, state = lm(torch.tensor([ids]), state)
    stream.state = {k: v[:, 0] for k, v in state.items()}
    return logits[0, -1].numpy()


def read(lm, stream, ids):
    if ids:
        _step(lm, stream, [stream.next_id, *ids[:-1]])
        stream.next_id = ids[-1]


def advance(lm, streams, chars, *, logits=False):
    out = []
    for s in streams:
        w, rows = Written(), []
        for _ in range(chars):
            if s.ended:
                break
            row = _step(lm, s, [s.next_id])
            s.next_id = s.sampling.choose(row, s.draw)
            if s.next_id == BOUNDARY:
                s.ended = True
                break
            w.ids.append(s.next_id)
            rows.append(row)
        if logits:
            w.logits = np.array(rows, dtype=np.float32).reshape(len(rows), -1)
        out.append(w)
    return out
