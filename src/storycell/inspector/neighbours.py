"""Similar moments: the places of a text at which the network is in nearly the same state (what LSTMVis was for).

In: a `Trace`, the rows to look from. Out: for each the nearest other rows, by the cosine between hidden states of the
last layer, none within `_APART` characters of it or of each other.
"""

import numpy as np
import numpy.typing as npt
import torch

from storycell.inspector.trace import Trace

_APART = 100
_BATCH = 256


def nearest(
    trace: Trace, rows: npt.NDArray[np.int64], count: int = 3
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """`[rows count]`: the nearest rows (-1 where there are no more) and their cosines, best first."""
    h = trace.states[-1][trace.output][1:].float()
    h = h / h.norm(dim=1, keepdim=True).clamp_min(1e-12)
    places = np.full((len(rows), count), -1, dtype=np.int64)
    cosines = np.zeros((len(rows), count), dtype=np.float32)
    for a in range(0, len(rows), _BATCH):
        batch = torch.from_numpy(rows[a : a + _BATCH])
        likeness = h[batch] @ h.T
        number = torch.arange(len(batch), dtype=torch.int64, device="cpu")[:, None]
        taken = batch[:, None]
        for j in range(count):
            around = (taken + torch.arange(-_APART, _APART + 1, dtype=torch.int64, device="cpu")).clamp(0, len(h) - 1)
            likeness[number, around] = -torch.inf
            best, place = likeness.max(dim=1)
            good = torch.isfinite(best).numpy()
            places[a : a + _BATCH, j][good] = place.numpy()[good]
            cosines[a : a + _BATCH, j][good] = best.numpy()[good]
            taken = place[:, None]
    return places, cosines
