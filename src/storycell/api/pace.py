"""What all processes of a training do alike, so that they stay in step: how it begins and when it is saved.

In: settings, text, model, a run folder. Out: a `Trainer` at the step where it goes on. `SaveTimer` decides from numbers
that all processes share; a save takes all of them, since each holds the carried state of its own streams.
"""

from storycell import batches
from storycell.api.machine import best_device
from storycell.api.saved import Saved, checked
from storycell.checkpoint import RunFolder
from storycell.config import TrainSettings
from storycell.errors import ResumeError
from storycell.model import CharLM
from storycell.processes import Processes
from storycell.tokens import Prepared
from storycell.trainer import Trainer


def trainer_of(settings: TrainSettings, prepared: Prepared, lm: CharLM, processes: Processes) -> Trainer:
    """The trainer of this process, at step 0, with its share of the streams."""
    lm.use(settings.backend, settings.precision)
    lm = lm.to(processes.device(best_device(settings.device)))
    return Trainer(lm, batches.make(prepared.train_ids, settings), settings, processes=processes)


def taken_up(folder: RunFolder, trainer: Trainer) -> Saved:
    """Bring the trainer to the last save of a run; `ResumeError` if that does not fit, in any process."""
    tensors, about = folder.load_last(trainer.model)
    name = str(folder.path / "last.safetensors")
    saved = checked(name, tensors, about, trainer.model, trainer.optimizer, trainer.batches.B)
    try:
        trainer.restore(tensors, saved.position.model_dump())
    except (KeyError, TypeError, RuntimeError) as error:
        raise ResumeError(f"{name} does not hold what resuming needs ({error}); train again") from None
    trainer.processes.require_same("a last.safetensors", saved.position.model_dump_json())
    return saved


class SaveTimer:
    """Says when to save: `every_s` seconds after the step that followed the last save, which takes time, too."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self._since_s: float | None = 0.0

    def begin(self, elapsed_s: float) -> None:
        """Count from here."""
        self._since_s = elapsed_s

    def due(self, elapsed_s: float) -> bool:
        """Whether to save after the step whose report says `elapsed_s`; asked once after every step."""
        if self._since_s is None:
            self._since_s = elapsed_s
        if elapsed_s - self._since_s < self.every_s:
            return False
        self._since_s = None
        return True
