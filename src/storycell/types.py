"""The axis legend: the letters that every docstring and error message uses for the axes of an array.

| letter | axis                                   |
|--------|----------------------------------------|
| `B`    | streams side by side                   |
| `T`    | characters in one chunk                |
| `V`    | vocabulary, the two reserved ids included |
| `D`    | width into a layer                     |
| `H`    | hidden width                           |
| `L`    | layers                                 |
| `G`    | gates of a cell: LSTM 4, GRU 3, RNN 1  |

Arrays are batch first outside (`[B T H]`) and time first only inside a kernel. Gates are stacked along the first axis
of a weight, `i f g o` for the LSTM and `r z n` for the GRU, as torch stacks them. States are `[L B H]`, one array for
each name in the cell's `state_names`.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

BOUNDARY = 0  # the id between two stories
UNKNOWN = 1  # the id of a character that is not in the vocabulary; it is never sampled
RESERVED = 2  # ids before those of characters
LABEL_END = "\x1f"  # a story with labels begins with their values, this unit separator behind each

Ids: TypeAlias = npt.NDArray[np.unsignedinteger]  # [n] character ids, uint8 where V <= 256, otherwise uint16


def check(name: str, array: Any, axes: str, **sizes: int) -> None:
    """Raise `ValueError` unless an array or tensor has the axes named in `axes` (such as `"B T"`), of the `sizes`."""
    letters, shape = axes.split(), list(array.shape)
    if len(shape) != len(letters):
        raise ValueError(f"{name} must be [{axes}], {len(letters)} axes; it has shape {shape}")
    for letter, size in zip(letters, shape, strict=True):
        if letter in sizes and sizes[letter] != size:
            raise ValueError(f"{name} must be [{axes}] with {letter} = {sizes[letter]}; it has shape {shape}")
