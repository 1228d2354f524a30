"""What the values inside a cell are called: the table `names.json`, which the scripts of the pages read as well."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Value:
    """A gate or state: `forget gate`, from 0 to 1 if it is a gate, and what it does in one sentence."""

    name: str
    is_gate: bool
    meaning: str


VALUES = {
    symbol: Value(entry["name"], entry["isGate"], entry["meaning"])
    for symbol, entry in json.loads((resources.files("storycell.web") / "names.json").read_text("utf-8")).items()
}
"""By its letter in the cells' equations, in the order in which values are offered: states first, then gates."""
GATES = tuple(symbol for symbol, value in VALUES.items() if value.is_gate)


def name_of(symbol: str) -> str:
    """`forget gate` for `f`; a value that a cell of one's own adds keeps its letter."""
    return VALUES[symbol].name if symbol in VALUES else symbol


def in_order(symbols: Iterable[str]) -> list[str]:
    """The values in the order of the table, those that it does not know last."""
    order = list(VALUES)
    return sorted(symbols, key=lambda symbol: order.index(symbol) if symbol in VALUES else len(order))
