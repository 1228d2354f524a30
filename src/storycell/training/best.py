"""What the recipe `best` trains: network, streams, dropout and weight decay, from the text, the budget and the machine.

Of every candidate network it is known what loss it reached after so many characters, on a text of 1 MB that is read
again and again and on one of 9.4 MB (`LEARNT`; LOG.md has the runs, and says which points are estimates); another size
of text lies between. How many characters a budget in minutes comes to is measured: each candidate trains a few real
steps on this machine (`measure`), before the budget begins, and the one with the lowest expected loss is taken. A
budget in characters or steps needs no measurement: it counts as the time that the two cores of the table took for it,
so it makes the same network everywhere.

How often the text will be read then says how fast and with how much dropout and decay it is learnt, and whether its
gates are normalised and n-grams are learnt.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

from storycell.config import NORMALISED_RATE, Settings
from storycell.training.trainer import Trainer


class Network(NamedTuple):
    """A candidate: LSTM layers, and their width."""

    layers: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.layers} x {self.hidden}"


SHALLOW, NARROW, WIDE = Network(1, 256), Network(2, 256), Network(2, 384)
CANDIDATES = (SHALLOW, NARROW, WIDE)
NOMINAL = {NARROW: 90_000.0, WIDE: 42_000.0}  # characters/s on two cores of Zen 5, for budgets without a clock

Curve = tuple[tuple[float, float], ...]  # (characters trained on, loss in nats per character over the held-out text)
LEARNT: dict[int, dict[Network, Curve]] = {  # by the characters of the text
    1_004_000: {  # Tiny Shakespeare
        SHALLOW: ((3.0e6, 1.397), (7.5e6, 1.363)),
        NARROW: ((3.0e6, 1.371), (11.6e6, 1.301), (36.0e6, 1.289)),
        WIDE: ((1.5e6, 1.370), (5.7e6, 1.287), (19.6e6, 1.262)),
    },
    9_300_000: {  # TinyStories
        SHALLOW: ((4.0e6, 0.885), (7.5e6, 0.840), (34.0e6, 0.740)),
        NARROW: ((4.0e6, 0.766), (16.0e6, 0.684), (43.0e6, 0.660)),
        WIDE: ((4.0e6, 0.751), (20.0e6, 0.662), (56.6e6, 0.621)),
    },
}

SMALL_TEXT = 4_000_000  # characters: a smaller text is read in smaller steps
PASSES = (2.5, 6.5, 20)  # how often the text is read: up to the first the first dropout and decay, and so on
SMALL_PASSES = (2.5, 4.5, 15)  # a small one
DROPOUTS = (0.0, 0.05, 0.1, 0.2)
WEIGHT_DECAYS = (0.05, 0.1, 0.3, 0.3)
PLAIN_RATES = (5 / 6, 7 / 6, 7 / 6, 7 / 6)  # of the recipe's learning rate for plain gates, of two layers
PLAIN_RATE_OF_ONE = 7 / 6
GATES_NORMALISED = (True, True, True, False)  # plain ones learn less in few readings, and less by heart in many
NGRAMS = (8, 0, 0, 0)  # the longest, for a text that is not read often enough to learn it by heart
NGRAM_ROWS, WIDE_NGRAM_ROWS = 131_072, 98_304  # so that what is saved stays below 16 MB
TRAINS = 0.95  # of a budget in minutes, at least; the rest is evaluations
MEASURED_S = 1.0  # seconds, for each network
MEASURED_SHARE = 0.02  # of a budget in minutes, for all networks together, where that is less
MOST_STEPS = 12  # that are measured


@dataclass(frozen=True)
class Plan:
    """What to train, and why."""

    changes: dict[str, Any]  # settings by name
    reason: str


def plan(
    settings: Settings,
    train_chars: int,
    speeds: Mapping[Network, float],
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Plan:
    """The best of the networks in `speeds` (characters a second of each) for a text of `train_chars` characters.

    `asked` are settings by name that stay as they are.
    """
    training = settings.training
    unit, amount = training.budget
    streams = choose_streams(settings, train_chars)
    if unit == "minutes":
        chars = {network: speed * 60 * amount * TRAINS for network, speed in speeds.items()}
    else:  # the same characters for each; which is worth its time is asked of the time that narrow layers take
        asked_chars = amount * (streams * training.chunk if unit == "steps" else 1)
        chars = {network: asked_chars * speed / speeds.get(NARROW, speed) for network, speed in speeds.items()}
    if len(speeds) == 1:  # it was asked for, or comes with the weights
        chosen, expected = next(iter(speeds)), {}
    else:
        expected = {network: expected_nats(network, n, train_chars) for network, n in chars.items()}
        chosen = min(expected, key=lambda network: expected[network])
    reads = chars[chosen] if unit == "minutes" else asked_chars
    often = bisect_right(PASSES if train_chars >= SMALL_TEXT else SMALL_PASSES, reads / train_chars)
    normalised = asked.get("gate_norm", settings.model.gate_norm and GATES_NORMALISED[often])
    rate = training.lr
    if not normalised:
        rate *= PLAIN_RATES[often] if chosen.layers > 1 else PLAIN_RATE_OF_ONE
        rate /= NORMALISED_RATE if settings.model.gate_norm else 1.0
    changes: dict[str, Any] = {
        "layers": chosen.layers,
        "hidden": chosen.hidden,
        "streams": streams,
        "gate_norm": normalised,
        "lr": rate,
        "dropout": DROPOUTS[often],
        "weight_decay": WEIGHT_DECAYS[often],
        "ngrams": NGRAMS[often] if settings.model.embedding else 0,
        "ngram_rows": NGRAM_ROWS if chosen.hidden <= NARROW.hidden else WIDE_NGRAM_ROWS,
    }
    changes |= {name: value for name, value in asked.items() if name in changes}
    gates = " with normalised gates" if normalised else ""
    said = (
        f"best: an LSTM of {chosen}{gates}, {changes['streams']} streams, learning rate {changes['lr']:g}, "
        f"dropout {changes['dropout']:g}, weight decay {changes['weight_decay']:g}: about {reads / 1e6:.2g} million "
        "characters"
    )
    if unit == "minutes":
        said += f" ({speeds[chosen]:,.0f} characters/s measured here, {amount:g} minutes)"
    said += f" of a text of {train_chars / 1e6:.2g} million"
    if expected:
        said += "; expected " + ", ".join(f"{network} {nats:.2f}" for network, nats in expected.items())
        said += " nats per character, were the text like those that this was learnt from"
    return Plan(changes, said)


def choose_streams(settings: Settings, train_chars: int) -> int:
    """How many streams read a text of so many characters."""
    return min(settings.training.streams, 32 if train_chars < SMALL_TEXT else 64)


def expected_nats(network: Network, chars: float, train_chars: int) -> float:
    """The loss that one of the `CANDIDATES` may be expected to reach after so many characters of a text."""
    small, large = LEARNT
    share = math.log(train_chars / small) / math.log(large / small)
    share = min(1.0, max(0.0, share))
    return (1 - share) * _read_off(LEARNT[small][network], chars) + share * _read_off(LEARNT[large][network], chars)


def _read_off(curve: Curve, chars: float) -> float:
    """A loss from a curve, straight in the logarithm of the characters; after its last point nothing is promised."""
    chars = min(chars, curve[-1][0])
    after = next((k for k in range(1, len(curve)) if chars <= curve[k][0]), len(curve) - 1)
    (a, high), (b, low) = curve[after - 1], curve[after]
    return high + (low - high) * math.log(max(chars, 1.0) / a) / math.log(b / a)


def measure(
    settings: Settings, networks: Iterable[Network], build: Callable[[Settings], Trainer]
) -> dict[Network, float]:
    """Characters a second of each network, in the real steps of the trainers that `build` makes of settings.

    It takes `MEASURED_S` or so for each, less for a short budget, and at least two steps: the first one, which warms
    caches, is counted only where it took all that time. By the clock of the first process, so all of them agree.
    """
    networks = list(networks)
    unit, amount = settings.training.budget
    budget_s = amount * 60 if unit == "minutes" else math.inf
    limit_s = min(MEASURED_S, MEASURED_SHARE * budget_s / len(networks))
    speeds = {}
    for network in networks:
        changes = {"layers": network.layers, "hidden": network.hidden, "steps": MOST_STEPS + 1}
        trainer = build(settings.with_changes(**changes))
        times, before_s = [], 0.0
        for report in trainer.reports():
            times.append(report.elapsed_s - before_s)
            before_s = report.elapsed_s
            if before_s >= limit_s:
                break
        per_step = trainer.chars / trainer.step
        speeds[network] = per_step / max(median(times[1:] or times), 1e-9)
    return speeds
