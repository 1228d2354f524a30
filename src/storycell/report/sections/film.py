"""The film: the loss with what was born on the way, AUC and effect at every checkpoint, a text through time."""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from storycell.inspect.film import Birth, Film
from storycell.inspect.inspection import Inspection
from storycell.report.drawings import draw_svg
from storycell.report.inspection import Section
from storycell.report.page import Figure
from storycell.web.theme import BLUE, GREY, ORANGE, SERIES

_STRIP_CHARS, _STRIPS = 64, 12
_FULL = 0.98  # of the values of a unit at the end stay within the full colour
_SURPRISING = 4.0  # nats that have the full colour: `FULL_NATS` of web/story.js
_STEPS = 127  # of an int8


def build(found: Inspection) -> Section | None:
    """Figures, a table of births, and what the script colours; nothing where no film was asked for."""
    film = found.film
    if film is None:
        return None
    born = [birth for birth in film.births if birth.known_at is not None]
    figures = [
        _draw_loss(film, born),
        *([_draw_births(film)] if film.births else []),
        *([_draw_strips(film, born[0])] if born else []),
    ]
    values = {
        "film": film,
        "born": [(birth, film.steps[birth.known_at]) for birth in born if birth.known_at is not None],
        "used": {b.finding.feature: film.steps[b.used_at] for b in born if b.used_at is not None},
        "rows": [_row(film, birth) for birth in film.births],
    }
    return Section(35, "The film: what was learnt when", values, figures, {"film-passage": _passage(film)})


def _row(film: Film, birth: Birth) -> list[str]:
    f = birth.finding
    effect = "no pairs to ask with"
    if birth.asked:
        effect = f"{birth.effects[-1]:.3f} ({birth.lows[-1]:.3f} to {birth.highs[-1]:.3f})"
    return [
        f.feature,
        f"{f.layer}:{f.unit}",
        f"{f.score:.3f} ({f.low:.3f} to {f.high:.3f})",
        f"{f.untrained_score:.3f}",
        "no" if birth.known_at is None else f"step {film.steps[birth.known_at]:,}",
        effect,
        f"{birth.random[-1]:.3f}" if birth.asked else "-",
        f"{birth.together[-1]:.3f}" if birth.asked else "-",
        "no" if birth.used_at is None else f"step {film.steps[birth.used_at]:,}",
    ]


def _passage(film: Film) -> dict[str, Any]:
    """What the script needs: characters, and for each unit (and the surprise) int8 values of all frames, base64."""
    rows = [
        {
            "scores": np.round(birth.scores, 3),
            "effects": np.round(birth.effects, 4),
            **_small(birth.values, float(np.quantile(np.abs(birth.values[-1]), _FULL))),
        }
        for birth in film.births
    ]
    return {
        "characters": list(film.text),
        "steps": film.steps,
        "nats": np.round(film.nats, 4),
        "units": rows,
        "surprise": _small(film.row_nats, _SURPRISING),
    }


def _small(values: Any, full: float) -> dict[str, Any]:
    full = full or 1.0
    steps = np.rint(np.clip(np.asarray(values) / full, -1, 1) * _STEPS).astype(np.int8)
    return {"values": base64.b64encode(steps.tobytes()).decode(), "full": full}


def _places(steps: Sequence[int]) -> list[float]:
    """Where steps lie on a logarithmic axis; 0 a little before the first."""
    first = next((step for step in steps if step), 1)
    return [float(step or first / 2) for step in steps]


def _set_steps(axes: Any, film: Film) -> None:
    places = _places(film.steps)
    shown = range(0, len(places), max(1, math.ceil(len(places) / 8)))
    axes.set_xscale("log")
    axes.set_xticks([places[k] for k in shown], [f"{film.steps[k]:,}" for k in shown])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("step")
    axes.grid()


def _draw_loss(film: Film, born: Sequence[Birth]) -> Figure:
    """The loss, and when what was born."""
    places = _places(film.steps)

    def draw(axes: Any) -> None:
        for column, (label, colour) in enumerate((("training", GREY), ("validation", ORANGE))):
            told = [(line[0], line[1 + column]) for line in film.curve if line[0] and line[1 + column] is not None]
            if told:
                axes.plot(*zip(*told, strict=True), color=colour, linewidth=1, label=f"{label} (the log)")
        axes.plot(places, film.nats, color=BLUE, marker="o", markersize=3, label="this text, at the checkpoints")
        top = float(np.nanmax(film.nats))
        for k, birth in enumerate(born):
            assert birth.known_at is not None
            x, colour = places[birth.known_at], SERIES[(k + 2) % len(SERIES)]
            axes.axvline(x, color=colour, linewidth=1, linestyle="--")
            axes.text(x, top * (1 - 0.075 * k), f" {birth.finding.feature}", color=colour, va="top", fontsize=8)
        _set_steps(axes, film)
        axes.set_ylabel("loss in nats")
        axes.legend(loc="lower left")

    said = ", ".join(f"{b.finding.feature} at step {film.steps[b.known_at]:,}" for b in born if b.known_at is not None)
    alt = f"The loss falls from {film.nats[0]:.2f} to {film.nats[-1]:.2f} nats; born: {said or 'nothing'}."
    numbers = {"steps": film.steps, "nats": film.nats, "curve": film.curve}
    return Figure("film-loss", draw_svg(draw, height=3.6), alt, numbers=numbers)


def _draw_births(film: Film) -> Figure:
    """For every feature what the unit tells, and what it does, at every checkpoint."""
    places = _places(film.steps)

    def draw(all_axes: Any) -> None:
        for k, ((told, done), birth) in enumerate(zip(all_axes, film.births, strict=True)):
            f = birth.finding
            told.plot(places, birth.bests, color=GREY, linewidth=1, label="the best unit at the time")
            told.plot(places, birth.scores, color=BLUE, marker="o", markersize=3, label="the unit of the end")
            told.axhline(f.untrained_score, color=GREY, linewidth=0.8, linestyle=":", label="untrained")
            told.set_ylim(0.35, 1.02)
            told.set_title(f"{f.feature}: what unit {f.layer}:{f.unit} tells (AUC)", loc="left", fontsize=9)
            done.set_title("what it does (change of a probability)", loc="left", fontsize=9)
            if birth.asked:
                done.plot(places, birth.random, color=GREY, linewidth=1, label="a random unit")
                done.plot(places, birth.together, color=ORANGE, linewidth=1, label="the units that tell most")
                done.plot(places, birth.effects, color=BLUE, marker="o", markersize=3, label="the unit alone")
                done.fill_between(places, birth.lows, birth.highs, color=BLUE, alpha=0.15, linewidth=0)
                if not any(axes[1].get_legend() for axes in all_axes):
                    done.legend(fontsize=7, loc="upper left")
                done.set_ylim(min(-0.02, done.get_ylim()[0]), max(0.05, done.get_ylim()[1]))
            for axes, at in ((told, birth.known_at), (done, birth.used_at)):
                if at is not None:
                    axes.axvline(places[at], color=BLUE, linewidth=1, linestyle="--")
                _set_steps(axes, film)
            if k == 0:  # the same in every row
                told.legend(fontsize=7, loc="lower right")

    svg = draw_svg(draw, height=2.3 * len(film.births), nrows=len(film.births), ncols=2, squeeze=False)
    alt = "; ".join(
        f"{b.finding.feature}: AUC from {b.scores[0]:.2f} to {b.scores[-1]:.2f}"
        + (f", effect from {b.effects[0]:.3f} to {b.effects[-1]:.3f}" if b.asked else "")
        for b in film.births
    )
    numbers = {
        b.finding.feature: {
            "layer": b.finding.layer, "unit": b.finding.unit, "steps": film.steps, "auc": b.scores, "best": b.bests,
            "effect": b.effects, "low": b.lows, "high": b.highs, "random": b.random, "together": b.together,
            "known_at": None if b.known_at is None else film.steps[b.known_at],
            "used_at": None if b.used_at is None else film.steps[b.used_at],
        }
        for b in film.births
    }  # fmt: skip
    return Figure("film-births", svg, alt, numbers=numbers)


def _draw_strips(film: Film, birth: Birth) -> Figure:
    """One line of the passage, a strip for each of some checkpoints."""
    frames = np.unique(np.linspace(0, len(film.steps) - 1, min(_STRIPS, len(film.steps))).round().astype(int))
    marks = [t for t, c in enumerate(film.text) if c in '"“«([{']
    start = max(0, min((marks[0] if marks else 0) - 12, len(film.text) - _STRIP_CHARS))
    text = film.text[start : start + _STRIP_CHARS].replace("\n", "↵").replace("\0", "■")
    full = float(np.quantile(np.abs(birth.values[-1]), _FULL)) or 1.0

    def draw(axes: Any) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        for y, frame in enumerate(frames):
            shares = np.clip(birth.values[frame, start : start + len(text)] / full, -1, 1)
            seen = [(t, share) for t, share in enumerate(shares) if abs(share) >= 0.04]
            cells = [Rectangle((t, y + 0.06), 1, 0.88) for t, _ in seen]
            colours = [(BLUE if share >= 0 else ORANGE, abs(share)) for _, share in seen]
            axes.add_collection(PatchCollection(cells, facecolor=colours, edgecolor="none"))
        for t, c in enumerate(text):
            axes.text(t + 0.5, -0.32, "" if c == " " else c, ha="center", fontsize=8, fontfamily="monospace")
        axes.set_xlim(0, len(text))
        axes.set_ylim(len(frames), -0.8)
        axes.set_yticks(np.arange(len(frames)) + 0.5, [f"step {film.steps[k]:,}" for k in frames])
        axes.set_xticks([])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    f = birth.finding
    caption = f"“{f.feature}”: {film.name} of layer {f.layer}, unit {f.unit}, from the beginning to the end."
    alt = f"{film.name} of unit {f.unit} of layer {f.layer} along {text!r} at {len(frames)} checkpoints."
    numbers = {
        "text": text,
        "steps": [film.steps[k] for k in frames],
        "values": birth.values[frames][:, start:][:, : len(text)],
    }
    return Figure("film-strips", draw_svg(draw, height=0.5 + 0.22 * len(frames)), alt, caption, numbers)
