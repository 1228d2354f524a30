"""Our own kernels, in C++ under `native/`: the fastest way to compute `lstm`, `gru` and `rnn` on a CPU.

In and out as `Backend`. The first layer looks its input up in a table (an embedding and its projection, folded once a
step), the loss never writes the logits to memory, threads split over streams, and the instruction set is chosen when
the program runs.

The surprising decision: it refuses rather than converts. What is not float32 on a CPU belongs to torch's backend.
"""

from storycell.backends.native.adam import AdamW, clip
from storycell.backends.native.backend import NativeBackend
from storycell.backends.native.drop_in import Pass
from storycell.backends.native.generator import Generator, Written
from storycell.backends.native.library import isa, one_torch_thread, use_isa
from storycell.backends.native.stack import new_masks

__all__ = [
    "AdamW",
    "Generator",
    "NativeBackend",
    "Pass",
    "Written",
    "clip",
    "isa",
    "new_masks",
    "one_torch_thread",
    "use_isa",
]
