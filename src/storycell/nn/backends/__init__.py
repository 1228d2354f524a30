"""What computes the cells over whole chunks: our kernels, torch's layers, or the reference loop.

A backend takes inputs `[B T D]` (or characters), a state and the weights of every layer, and gives the outputs of the
last layer `[B T H]`, logits or losses, and the final state. All compute the same; `reference` is the oracle.
"""
