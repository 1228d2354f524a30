"""Solutions of step 5."""

from numpy.typing import NDArray


def chunks(ids: NDArray, streams: int, chunk: int) -> list[tuple[NDArray, NDArray]]:
    steps = (len(ids) - 1) // streams // chunk  # the last character is only a target
    used = streams * steps * chunk
    inputs, targets = ids[:used].reshape(streams, -1), ids[1 : used + 1].reshape(streams, -1)
    return [(inputs[:, a : a + chunk], targets[:, a : a + chunk]) for a in range(0, steps * chunk, chunk)]


def reach(place: int, chunk: int) -> int:
    return place % chunk


def parameters(V: int, H: int, layers: int) -> int:
    return 4 * H * (V + H) + (layers - 1) * 4 * H * (H + H) + V * H + V
