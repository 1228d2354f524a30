"""Traces and holds: gates against torch's own equations, held values where they are told to be."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import storycell
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.generation import sampler
from storycell.generation.sampler import held_step, hold_of
from storycell.inspect.trace import Coloured, trace
from storycell.nn.adapter import TorchModel
from storycell.nn.cells.cell import Cell, Values, Weights
from storycell.nn.cells.registry import cell_names, get_cell, register_cell
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, RESERVED

EXACT = 1e-9  # float64: rounding only
FLOAT32 = 2e-5  # float32, sums of some hundred products
VOCAB = Vocabulary("".join(sorted(set("\n \"'.,!?abcdefghijklmnopqrstuvwxyzABCT"))))
TEXT = 'Anna had a cat. "Come here!" said Ben, the boy.\nThen they all went away. ' * 12


def network(cell: str, layers: int = 2, hidden: int = 12, embedding: int = 5, seed: int = 3) -> CharLM:
    lm = CharLM(len(VOCAB), hidden, layers, cell, embedding_size=embedding, seed=seed).double().eval()
    with torch.no_grad():
        for weight in lm.parameters():
            weight.mul_(0.8)
    return lm


def ids_of(*stories: str) -> np.ndarray:
    parts = [np.concatenate([[BOUNDARY], VOCAB.encode(story)]) for story in stories]
    return np.concatenate(parts).astype(VOCAB.dtype)


def by_torchs_equations(lm: CharLM, ids: np.ndarray) -> list[dict[str, torch.Tensor]]:
    """The LSTM's values from torch.nn.LSTM's documented equations, written out on its own weights, one story."""
    layer = torch.nn.LSTM(lm.embedding_size, lm.hidden_size, lm.num_layers, batch_first=True).double()
    layer.load_state_dict(lm.recurrent.state_dict())
    x = lm.embedding(torch.from_numpy(ids.astype(np.int64)))
    found = []
    for k in range(lm.num_layers):
        W_i, W_h = getattr(layer, f"weight_ih_l{k}").chunk(4), getattr(layer, f"weight_hh_l{k}").chunk(4)
        b_i, b_h = getattr(layer, f"bias_ih_l{k}").chunk(4), getattr(layer, f"bias_hh_l{k}").chunk(4)
        h = c = torch.zeros(lm.hidden_size, dtype=torch.float64)
        rows = []
        for x_t in x:
            i, f, g, o = (W_i[j] @ x_t + b_i[j] + W_h[j] @ h + b_h[j] for j in range(4))
            i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
            c = f * c + i * g
            h = o * torch.tanh(c)
            rows.append({"i": i, "f": f, "g": g, "o": o, "c": c, "h": h})
        found.append({name: torch.stack([row[name] for row in rows]) for name in "ifgoch"})
        x = found[-1]["h"]
    y, (_, c_n) = layer(lm.embedding(torch.from_numpy(ids.astype(np.int64)))[None])
    assert (y[0] - found[-1]["h"]).abs().max() < EXACT  # the equations are indeed those of torch's layer
    assert (c_n[-1, 0] - found[-1]["c"][-1]).abs().max() < EXACT
    return found


@torch.no_grad()
def test_every_gate_equals_torchs_lstm_equations() -> None:
    lm, ids = network("lstm"), ids_of(TEXT)
    path = trace(TorchModel(lm), ids, VOCAB)
    expected = by_torchs_equations(lm, ids)
    assert path.names == ("i", "f", "g", "o", "c", "h")
    assert path.text == TEXT
    for layer in range(2):
        for name in path.names:
            assert path[name, layer].shape == (len(TEXT), 12)
            assert np.abs(path[name, layer] - expected[layer][name][1:].numpy()).max() < EXACT
            assert np.array_equal(path.column(name, layer, 7), path[name, layer][:, 7])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_states_losses_and_guesses_equal_the_models_own(cell: str) -> None:
    """Stories long enough for several pieces, read side by side, each from a zero state."""
    lm = network(cell)
    stories = [TEXT, "short. ", TEXT[:300], TEXT[5:700]]
    ids = ids_of(*stories)
    path = trace(TorchModel(lm), ids, VOCAB)
    assert path.text == "\0".join(stories)
    start = 0
    for story in stories:
        alone = ids_of(story).astype(np.int64)
        with torch.no_grad():
            logits, _ = lm(torch.from_numpy(alone[None]))
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], torch.from_numpy(alone[1:]), reduction="none")
        assert np.abs(path.nats[start : start + len(story)] - losses.numpy()).max() < EXACT
        rows = slice(start, start + len(story))
        assert np.abs(path.probabilities(rows) - logits[0, 1:].softmax(-1).numpy()).max() < EXACT
        start += len(story) + 1


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "mingru", "minlstm", "mlstm"])
def test_bulk_values_equal_the_walk(cell: str) -> None:
    """States come from the walk, gates from one batch over all characters; asked for together, they agree."""
    lm = network(cell).float()
    path = trace(TorchModel(lm), ids_of(TEXT, TEXT[:50]), VOCAB)
    for layer in range(2):
        for name in get_cell(cell).state_names:
            bulk = np.concatenate([part[name] for part in path.parts(layer)])
            assert np.abs(bulk - path[name, layer]).max() < FLOAT32
        (few,) = path.parts(layer, slice(40, 90, 7))
        assert np.abs(few["h"] - path["h", layer][40:90:7]).max() < FLOAT32
        (backwards,) = path.parts(layer, slice(90, 40, -7))
        assert np.abs(backwards["h"] - path["h", layer][90:40:-7]).max() < FLOAT32


def test_a_trace_says_what_it_has_and_shows_itself_in_a_notebook() -> None:
    path = trace(TorchModel(network("gru")), ids_of("<b>" if "<" in VOCAB.characters else "a cat"), VOCAB)
    with pytest.raises(SettingsError, match=r"no 'c' of layer 0: it has r, z, n, h"):
        path["c", 0]
    with pytest.raises(SettingsError, match="layer 2"):
        path["h", 2]
    assert "[T H]" in repr(path)
    assert "<pre" in path._repr_html_()
    assert "rgba(213,94,0" in path._repr_html_()
    assert "rgba(0,114,178" not in path._repr_html_()


def test_a_text_coloured_by_a_unit_is_blue_where_it_is_high_and_orange_where_it_is_low() -> None:
    path = trace(TorchModel(network("lstm")), ids_of("a cat<b>"), VOCAB)
    coloured = path.colour(0, 2)
    assert coloured.title == "c of layer 0, unit 2"
    assert np.array_equal(coloured.values, path["c", 0][:, 2])
    page = Coloured("x", "a<\0", np.array([1.0, -0.5, 0.0]))._repr_html_()
    shades = re.findall(r"rgba\((.*?)\)\" title=\"(.*?)\">(.*?)</span>", page)
    assert shades == [
        ("0,114,178,1.00", "1.00", "a"),
        ("213,94,0,0.51", "-0.50", "&lt;"),
        ("0,114,178,0.00", "0.00", "⏎"),
    ]
    with pytest.raises(SettingsError, match="layer 2"):
        path.colour(2, 0)
    with pytest.raises(SettingsError, match="unit"):
        path.colour(0, 10**6)


@pytest.mark.parametrize(("cell", "name"), [("lstm", "i"), ("lstm", "f"), ("lstm", "o"), ("gru", "z"), ("gru", "r")])
def test_a_held_gate_changes_the_lines_below_it(cell: str, name: str) -> None:
    """By hand, for one unit: what follows from the held gate, and nothing else moves within the step."""
    lm = network(cell, layers=1)
    model, random = TorchModel(lm), np.random.default_rng(1)
    state = {n: random.standard_normal((3, 12)) for n in model.state_names}
    x = model.inputs(np.array([[5, 9, 2]]))[0]
    before = model.layer_step(0, x, state)
    after = model.layer_step(0, x, state, hold_of(0, {(name, 0, 4): 0.25}))
    assert np.array_equal(after[name][:, 4], np.full(3, 0.25))
    others = [k for k in range(12) if k != 4]
    assert all(np.array_equal(before[n][:, others], after[n][:, others]) for n in before)
    v = {n: value[:, 4] for n, value in after.items()}
    if cell == "lstm":
        c = v["f"] * state["c"][:, 4] + v["i"] * v["g"]
        assert np.abs(v["c"] - c).max() < EXACT
        assert np.abs(v["h"] - v["o"] * np.tanh(c)).max() < EXACT
    else:
        assert np.abs(v["h"] - ((1 - v["z"]) * v["n"] + v["z"] * state["h"][:, 4])).max() < EXACT
        if name == "r":
            assert np.abs(v["n"] - before["n"][:, 4]).min() > 1e-6
    assert np.abs(v["h"] - before["h"][:, 4]).min() > 1e-6


@pytest.mark.parametrize("cell", [name for name in cell_names() if "test" not in name])
def test_every_value_of_every_cell_can_be_held(cell: str) -> None:
    lm = network(cell, layers=1)
    model = TorchModel(lm)
    zero = {name: value[0] for name, value in model.zero_state(2).items()}
    for name in model.value_names:
        hold = hold_of(0, {(name, 0, 3): 0.125, (name, 0, 7): 0.5})
        value = model.layer_step(0, model.inputs(np.array([[4, 6]]))[0], zero, hold)[name]
        assert value[:, [3, 7]].tolist() == [[0.125, 0.5]] * 2


def test_a_hold_of_what_a_unit_does_anyway_changes_nothing_and_another_does(made: Path) -> None:
    model = storycell.load(made)
    text = model.generate("Once upon a", chars=40, seed=3)
    none = {("h", 0, 2): 0.0, ("o", 0, 2): 0.0}
    silent = model.generate("Once upon a", chars=40, seed=3, hold=none)
    with torch.no_grad():
        model.lm.output.weight[:, 2] = 0.0  # nobody listens to unit 2 any more, neither the output ...
        model.lm.recurrent.weight_hh_l0[:, 2] = 0.0  # ... nor the next step
    assert model.generate("Once upon a", chars=40, seed=3, hold={("c", 0, 2): 50.0}) == silent
    assert model.generate("Once upon a", chars=40, seed=3) == silent
    loud = {("h", 0, k): 3.0 * (-1) ** k for k in (0, 1, 3)}
    assert model.generate("Once upon a", chars=40, seed=3, hold=loud) != text


def test_wrong_holds_are_named(made: Path) -> None:
    model = storycell.load(made)
    for hold, message in [
        ({("q", 0, 1): 1.0}, "hold 'q': the values of a lstm are i, f, g, o, c, h"),
        ({("c", 1, 1): 1.0}, "layers count from 0 to 0"),
        ({("c", 0, 8): 1.0}, "units from 0 to 7"),
    ]:
        with pytest.raises(SettingsError, match=message):
            model.generate("Once", chars=2, hold=hold)


def test_a_cell_of_ones_own_is_traced_but_not_held() -> None:
    class Slow(Cell):
        """h = 0.5 h + tanh(W x)"""

        name, state_names = "slow-test", ("h",)

        def step(self, x: torch.Tensor, state: Values, w: Weights) -> Values:  # type: ignore[override]
            return {"h": 0.5 * state["h"] + torch.tanh(x @ w["weight_ih"].T)}

    register_cell(Slow)
    lm = network("slow-test", layers=1)
    path = trace(TorchModel(lm), ids_of("a cat"), VOCAB)
    assert path.names == ("h",)
    with torch.no_grad():
        x = torch.tanh(lm.embedding.weight[VOCAB.characters.index("a") + RESERVED] @ lm.recurrent.weight_ih_l0.T)
        start = torch.tanh(lm.embedding.weight[BOUNDARY] @ lm.recurrent.weight_ih_l0.T)
    assert np.abs(path["h", 0][0] - (0.5 * start + x).numpy()).max() < EXACT
    with pytest.raises(SettingsError, match="lets nothing be held"):
        held_step(TorchModel(lm), {("h", 0, 1): 1.0})


def test_the_loop_that_holds_writes_without_a_hold_what_the_sampler_writes(made: Path) -> None:
    model = storycell.load(made)
    prompt, _ = model.vocab.prompt_ids("Once")
    written = []
    for step in (None, held_step(model.network, {})):
        streams = [sampler.Stream(storycell.Sampling(), seed) for seed in (5, 6, 7)]
        for stream in streams:
            sampler.read(model.network, stream, prompt, step)
        written.append([w.ids for w in sampler.advance(model.network, streams, 30, step=step)])
    assert written[0] == written[1]
    assert sum(map(len, written[0])) > 30
