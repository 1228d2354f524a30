"""What every process of a training but the first does: its share of each step and of each save, and nothing else.

In: the same settings, text and model as the first process has. Out: a `Run` without a summary. It writes, evaluates and
says nothing; while the first one does, it waits.
"""

from pathlib import Path

from storycell.api.interruption import Interruption, name_of
from storycell.api.pace import SaveTimer, taken_up, trainer_of
from storycell.api.run import Run
from storycell.checkpoint import RunConfig, RunFolder
from storycell.model import CharLM
from storycell.processes import Processes
from storycell.tokens import Prepared


class Follower:
    """The other side of a `Session`: between two reports it does what all processes have to do together."""

    def __init__(self, run_config: RunConfig, prepared: Prepared, lm: CharLM, processes: Processes) -> None:
        settings = run_config.settings.training
        self.trainer = trainer_of(settings, prepared, lm, processes)
        self.save_timer = SaveTimer(settings.save_every)

    def start(self, path: Path) -> Run:
        """Train along from step 0."""
        return self._drive(path)

    def go_on(self, folder: RunFolder) -> Run:
        """Train along from the last save of a run, which every process reads."""
        taken_up(folder, self.trainer)
        self.save_timer.begin(self.trainer.elapsed_s)
        return self._drive(folder.path)

    def _drive(self, path: Path) -> Run:
        with Interruption(launched=True) as interruption:
            for report in self.trainer.reports(lambda: interruption.number):
                if self.save_timer.due(report.elapsed_s):
                    self.trainer.snapshot()
            self.trainer.snapshot()
        return Run(path, interrupted=name_of(self.trainer.stopped_by))
