"""Recurrent cells, one file each: the formula, then the same lines in code.

A cell is a pure step. It takes the input of one character `x [B D]`, the state (one `[B H]` for each of `state_names`)
and the weights of one layer, by name, and returns every value that it computed, by name, `[B H]` each, the new state
among them; so what `inspect` shows is what the step itself returns.
"""
