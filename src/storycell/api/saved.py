"""What `last.safetensors` has to hold before a training goes on from it.

In: its tensors, and the JSON about them. Out: the JSON as a `Saved`, or a `ResumeError`. A checksum tells that a file
is what somebody wrote; this tells that it is what the next step can be computed from. Moments or states of a wrong
shape would otherwise reach code that reads past their end.
"""

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt

from storycell import cells
from storycell.checkpoint import LOGS
from storycell.config import StrictModel, validated
from storycell.errors import ResumeError, SettingsError
from storycell.model import CharLM
from storycell.optim import Together
from storycell.trainer import GOOD


class Position(StrictModel):
    """Where the trainer was."""

    step: NonNegativeInt
    chars: NonNegativeInt
    elapsed_s: NonNegativeFloat
    skipped: NonNegativeInt
    lr_scale: float = Field(gt=0, le=1)
    skips_in_a_row: NonNegativeInt
    went_back: NonNegativeInt
    good_step: NonNegativeInt | None = None  # where the last good state is from, if it is there


class Saved(StrictModel):
    """All that is said about the tensors."""

    position: Position
    best_nats: NonNegativeFloat | None
    part_chars: NonNegativeInt | None
    sum_nats: float
    counted: NonNegativeInt
    log_bytes: dict[str, NonNegativeInt]


def checked(
    name: str, tensors: dict[str, torch.Tensor], about: object, lm: CharLM, optimizer: Together, streams: int
) -> Saved:
    """The JSON of a save, once it and the tensors are known to fit what goes on from them; `name` is the file's."""
    try:
        saved = validated(Saved, about)
    except SettingsError as error:
        raise _unfit(name, str(error)) from None
    if not set(saved.log_bytes) >= set(LOGS):
        raise _unfit(name, "the lengths of the logs are missing")
    good = {key.removeprefix(GOOD): tensor for key, tensor in tensors.items() if key.startswith(GOOD)}
    if bool(good) != (saved.position.good_step is not None):
        raise _unfit(name, "the last good state and its step are not both there")
    _check({key: t for key, t in tensors.items() if not key.startswith(GOOD)}, name, lm, optimizer, streams)
    if good:
        _check(good, name, lm, optimizer, streams)
    return saved


def _check(tensors: dict[str, torch.Tensor], name: str, lm: CharLM, optimizer: Together, streams: int) -> None:
    """Raise `ResumeError` unless the tensors of one state are those that training goes on from."""
    weights = {f"model.{key}": tuple(weight.shape) for key, weight in lm.state_dict().items()}
    if missing := sorted(weights.keys() - tensors.keys()):
        raise _unfit(name, f"{missing[0]} is missing")
    shapes = {key: tuple(parameter.shape) for key, parameter in lm.named_parameters()}
    states = {f"state.{key}" for key in cells.get(lm.cell).state_names}
    carried = {key for key in tensors if key.startswith("state.")}
    if carried and carried != states:
        raise _unfit(name, f"it has the states {', '.join(sorted(carried))}")
    for key, tensor in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "state":
            fits = tuple(tensor.shape) == (lm.num_layers, streams, lm.hidden_size)
        elif kind == "optimizer":
            parameter, _, moment = rest.rpartition(".")
            expected = () if moment == "step" else shapes.get(parameter)
            fits = parameter in shapes and tuple(tensor.shape) == expected
        elif kind == "model":
            fits = weights.get(key) == tuple(tensor.shape)
        else:
            fits = kind == "average" and shapes.get(rest) == tuple(tensor.shape)
        if not fits or not tensor.is_floating_point():
            raise _unfit(name, f"{key} has shape {list(tensor.shape)} and type {tensor.dtype}")
    for key, weight in lm.named_parameters():
        start = f"optimizer.{key}."
        found = {moment.removeprefix(start) for moment in tensors if moment.startswith(start)}
        if found and found != optimizer.moments[weight]:
            raise _unfit(name, f"of {key} the optimiser needs {', '.join(sorted(optimizer.moments[weight]))}")


def _unfit(name: str, reason: str) -> ResumeError:
    return ResumeError(f"{name} does not hold what resuming needs ({reason}); restore it from a copy, or train again")
