"""Our own kernels, in C++ under `native/`: the fastest way to compute `lstm`, `gru` and `rnn` on a CPU.

The first layer looks its input up in a table (an embedding and its projection, folded once a step), the loss never
writes the logits to memory, threads split over streams, and the instruction set is chosen when the program runs. It
refuses rather than converts: what is not float32 on a CPU belongs to torch's backend.
"""
