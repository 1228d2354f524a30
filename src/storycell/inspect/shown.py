"""A model in which what a layer shows is changed: h becomes `scale * h + shift` for all who read it.

A hidden state is read by matrices only (the layer's own gates, the layer above or the output), so the change can be
written into their weights and biases, once: `W (s * h + d) = (W * s) h + W d`. The changed model is an ordinary one. It
generates, is scored, traced, exported as fast as any. The layer's own state stays as it was computed; it is its readers
who see another. So does the very first step, which reads `shift` where there was zero.

`silenced` makes a unit a constant, which takes away what it tells; `steered` adds a direction.
"""

from typing import Any

import numpy as np

from storycell.engine.cells import CELLS
from storycell.engine.inference import EngineNetwork
from storycell.errors import SettingsError
from storycell.language_model import Floats, LanguageModel


def silenced(model: LanguageModel, layer: int, units: Any, values: Any) -> LanguageModel:
    """The model with some units of a layer showing `values`, whatever they compute; `SettingsError` as `changed`."""
    scale, shift = np.ones(model.hidden_size), np.zeros(model.hidden_size)
    scale[units], shift[units] = 0, values
    return changed(model, layer, scale, shift)


def steered(model: LanguageModel, layer: int, addition: Any) -> LanguageModel:
    """The model with `addition` `[H]` on top of what a layer shows at every step; `SettingsError` as `changed`."""
    return changed(model, layer, np.ones(model.hidden_size), addition)


def can_change(model: LanguageModel) -> bool:
    """Whether what a layer shows can be changed by weights: of lstm, gru and rnn, whose readers are known."""
    return model.cell in CELLS


def changed(model: LanguageModel, layer: int, scale: Any, shift: Any) -> LanguageModel:
    """The model with `scale * h + shift`, both `[H]`, in place of the h of a layer.

    `SettingsError` for a layer that it does not have, numbers that are not `[H]` or not finite, and for cells other
    than lstm, gru and rnn, whose readers are not known. A model without gate biases is given some, and then computed by
    the engine.
    """
    H = model.hidden_size
    scale, shift = np.asarray(scale, np.float64), np.asarray(shift, np.float64)
    if not can_change(model):
        raise SettingsError(f"what a {model.cell!r} shows can not be changed; {', '.join(CELLS)} can")
    if not 0 <= layer < model.num_layers:
        raise SettingsError(f"layer {layer}: layers count from 0 to {model.num_layers - 1}")
    if scale.shape != (H,) or shift.shape != (H,) or not np.isfinite([scale, shift]).all():
        raise SettingsError(
            f"what is added to a layer must be {H} finite numbers, one a unit; it has {list(shift.shape)}"
        )
    weights = model.weights()
    has_bias = "recurrent.bias_ih_l0" in weights
    if not has_bias:
        weights |= {
            f"recurrent.bias_{source}_l{k}": np.zeros(len(weights[f"recurrent.weight_hh_l{k}"]), np.float32)
            for k in range(model.num_layers)
            for source in ("ih", "hh")
        }
    added = "hh" if model.gate_norm else "ih"  # the bias of a normalised gate that is divided with its sums
    readers = [(f"recurrent.weight_hh_l{layer}", f"recurrent.bias_hh_l{layer}")]
    readers += (
        [("output.weight", "output.bias")]
        if layer == model.num_layers - 1
        else [(f"recurrent.weight_ih_l{layer + 1}", f"recurrent.bias_{added}_l{layer + 1}")]
    )
    for weight, bias in readers:
        W: Floats = weights[weight].astype(np.float64)
        weights[bias] = (weights[bias] + W @ shift).astype(np.float32)
        weights[weight] = (W * scale).astype(np.float32)
    if has_bias:
        return model.with_weights(weights)
    return EngineNetwork(
        weights, model.cell, ngrams=model.context.ngrams, matches=model.context.matches, generates_in=model.generates_in
    )
