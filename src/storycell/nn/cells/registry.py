"""The cells by name, and `register_cell`, which adds a cell of your own: a class with `step`.

Such a cell runs on the reference backend, and can be trained, sampled and inspected like the others.
"""

from storycell.errors import SettingsError
from storycell.nn.cells.cell import Cell
from storycell.nn.cells.gru import GRU
from storycell.nn.cells.lstm import LSTM, NormalisedLSTM
from storycell.nn.cells.mingru import MinGRU
from storycell.nn.cells.minlstm import MinLSTM
from storycell.nn.cells.mlstm import MultiplicativeLSTM
from storycell.nn.cells.rnn import RNN

_CELLS: dict[str, Cell] = {}
_NORMALISED: dict[str, Cell] = {"lstm": NormalisedLSTM()}  # by the cell whose form with normalised gates it is


def register_cell(cell: type[Cell]) -> type[Cell]:
    """Make a cell available under its `name`; usable as a class decorator."""
    if not cell.name or not cell.state_names:
        raise SettingsError(f"{cell.__name__} needs a `name` and `state_names` to be registered as a cell")
    _CELLS[cell.name] = cell()
    return cell


def get_cell(name: str) -> Cell:
    """The cell of that name; `SettingsError` lists the names if there is none."""
    return next((form for form in _NORMALISED.values() if form.name == name), None) or _known(name)


def _known(name: str) -> Cell:
    if name not in _CELLS:
        raise SettingsError(f"there is no cell {name!r}; the cells are {', '.join(cell_names())}")
    return _CELLS[name]


def name_form(cell: str, gate_norm: bool) -> str:
    """The name by which backends know a cell; that of its form with normalised gates is none to ask for by settings.

    `SettingsError` where there is no such cell, or no such form of it.
    """
    _known(cell)
    if gate_norm and cell not in _NORMALISED:
        raise SettingsError(
            f"gate_norm = True: the cell {cell!r} has no normalised gates, and an lstm has; leave it out"
        )
    return _NORMALISED[cell].name if gate_norm else cell


def cell_names() -> list[str]:
    """The names of all registered cells."""
    return sorted(_CELLS)


for _cell in (LSTM, GRU, RNN, MinGRU, MinLSTM, MultiplicativeLSTM):
    register_cell(_cell)
