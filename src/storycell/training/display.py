"""Progress of training and preparing: a live bar on a terminal, a bar below the cell of a notebook, lines elsewhere.

All but the notebook's is on standard error. rich draws, and is imported where there is a terminal to draw on: its
import takes a tenth of a verb's start. In a notebook rich's bar needs ipywidgets, and what it drew is gone when the
notebook is opened again; a picture that replaces itself needs nothing and stays.
"""

import html
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

from storycell import loss
from storycell.data.resumable import Progress, no_progress

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

    from storycell.training.trainer import Report

_REFRESH_S = 0.2


def say(note: str) -> None:
    """A note for the user."""
    print(note, file=sys.stderr, flush=True)


def _is_live() -> bool:
    """Whether standard error can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _in_notebook() -> bool:
    """Whether this is a notebook's kernel: what was displayed there can be replaced."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def preparing(work: str = "reading the text: ") -> Iterator[Progress]:
    """A progress callback, as of `tokens`: a bar on a terminal, nothing elsewhere. The bar is gone when it is done.

    Each step has a bar of its own, from its first call to the one that is done; a total of 0 is one that is not known.
    """
    if not _is_live():
        yield no_progress
        return
    from rich import progress
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(compact=True))
    bar = progress.Progress(
        *columns,
        console=Console(stderr=True),
        auto_refresh=False,  # a thread of its own would slow the reading, and not survive a fork
        transient=True,
        redirect_stdout=False,  # the console is standard error
    )
    step, shown_at = "", 0.0

    def show(what: str, done: int, total: int) -> None:
        nonlocal step, shown_at
        if what != step:
            for task in bar.task_ids:
                bar.remove_task(task)
            bar.add_task(f"{work}{what}", total=total or None)
            step, shown_at = what, 0.0
        bar.update(bar.task_ids[0], completed=done, total=total or None)
        if done >= total > 0:
            bar.stop()
            step = ""
        elif time.monotonic() - shown_at > _REFRESH_S:
            shown_at = time.monotonic()
            bar.start()
            bar.refresh()

    try:
        yield show
    finally:
        bar.stop()


class TrainingDisplay:
    """Shows reports as they come; `lines`: where nothing can be drawn, lines are written."""

    def __init__(self, lines: bool = True) -> None:
        self._in_notebook = _in_notebook()
        self._is_live = not self._in_notebook and _is_live()
        self._writes = lines and not self._is_live and not self._in_notebook
        self._live: Live | None = None
        self._shown: Any = None  # the notebook's handle of what is shown
        self._valid_nats: float | None = None
        self._sample = ""
        self._smooth_nats: float | None = None
        self._shown_at = 0.0

    def __enter__(self) -> "TrainingDisplay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, report: "Report") -> None:
        """Take in a report; redraw if it is time to."""
        if report.notice and self._live:
            self._live.console.print(report.notice, highlight=False, markup=False, soft_wrap=True)
        elif report.notice and (self._writes or self._in_notebook):
            say(report.notice)
        if report.train_nats == report.train_nats:
            last = self._smooth_nats
            self._smooth_nats = report.train_nats if last is None else 0.95 * last + 0.05 * report.train_nats
        if report.valid_nats is not None or report.sample is not None:
            self._valid_nats, self._sample = report.valid_nats, report.sample or ""
            if self._writes:
                say(self._line(report))
        drawn = self._is_live or self._in_notebook
        if drawn and (time.monotonic() - self._shown_at > _REFRESH_S or report.spent >= 1):
            self._shown_at = time.monotonic()
            if self._in_notebook:
                self._show_in_notebook(report)
            elif self._live is None:
                from rich.console import Console
                from rich.live import Live

                self._live = Live(
                    console=Console(stderr=True), auto_refresh=False, transient=False, redirect_stdout=False
                )
                self._live.start()
            if self._live:
                self._live.update(self._picture(report), refresh=True)
        if report.spent >= 1 and report.valid_nats is not None:
            if self._live:
                self._live.stop()
            if self._live or self._writes:
                say("measuring the best weights on the whole held-out text")

    def _show_in_notebook(self, report: "Report") -> None:
        sample = f"<pre style='white-space:pre-wrap'>{html.escape(self._sample.strip())}</pre>" if self._sample else ""
        line = self._line(report, self._valid_nats)
        page = f"<progress max='1' value='{report.spent:.3f}'></progress> {html.escape(line)}{sample}"
        picture = {"text/plain": line, "text/html": page}
        if self._shown is None:
            self._shown = import_module("IPython.display").display(picture, raw=True, display_id=True)
        else:
            self._shown.update(picture, raw=True)

    def _line(self, report: "Report", valid_nats: float | None = None) -> str:
        trained = "" if self._smooth_nats is None else f"training {self._smooth_nats:.4f}, "
        valid_nats = report.valid_nats if valid_nats is None else valid_nats
        valid = "" if valid_nats is None else f"validation {valid_nats:.4f} "
        return (
            f"{report.spent:4.0%}  step {report.step:,}  {trained}{valid}nats per character"
            f"  {report.chars_per_s:,.0f} characters/s  {_clock(_left(report))} left"
        )

    def _picture(self, report: "Report") -> "Group":
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        top = Table.grid(padding=(0, 2))
        top.add_row(
            ProgressBar(total=1.0, completed=report.spent, width=36),
            Text(f"{report.spent:4.0%}", style="bold"),
            Text(f"step {report.step:,}"),
            Text(f"{report.chars_per_s:,.0f} characters/s"),
            Text(f"{_clock(_left(report))} left"),
        )
        numbers = Table.grid(padding=(0, 2))
        numbers.add_row("", "nats per character", "bits per character", "perplexity", style="dim")
        for name, nats in (("training", self._smooth_nats), ("validation", self._valid_nats)):
            if nats is not None:
                bits, perplexity = loss.bits_per_char(nats), loss.perplexity(nats)
                numbers.add_row(name, f"{nats:.4f}", f"{bits:.4f}", f"{perplexity:.3f}")
        parts = [top, numbers]
        if self._sample:
            return Group(*parts, Panel(Text(self._sample.strip()), title="a sample so far", border_style="dim"))
        return Group(*parts)


def _left(report: "Report") -> float:
    return report.elapsed_s * (1 - report.spent) / max(report.spent, 1e-9)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
