"""Loss curves as PNG bytes, drawn by Pillow: small, and imported in an instant.

The palette is the theme's. Lines are drawn at twice their size and then halved, which smooths them.
"""

import io
import math
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from storycell.naming import show_name
from storycell.web.theme import BLUE, GREY, INK, LINE, ORANGE

WIDTH, HEIGHT = 864, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 55  # margins around the axes
SHARP = 2  # times as large as it is shown
Point = tuple[float, float]


def loss_curve(metrics: list[dict[str, Any]], title: str, floor_nats: float | None = None) -> bytes:
    """Training and validation loss against characters read, from the lines of a `metrics.jsonl`."""
    trained = _points(metrics, "train_nats")
    valid = _points(metrics, "valid_nats")
    axes = _Axes([*trained, *valid], floor_nats)
    canvas = _Canvas()
    for x in _ticks(0.0, axes.chars, 8):
        place = axes.place((x, axes.low))
        canvas.line([(place[0], TOP), place], LINE, 1)
        canvas.text((place[0], place[1] + 8), f"{x:g}", "ma")
    for y in _ticks(axes.low, axes.high, 7):
        place = axes.place((0.0, y))
        canvas.line([place, (WIDTH - RIGHT, place[1])], LINE, 1)
        canvas.text((place[0] - 8, place[1]), f"{y:g}", "rm")
    canvas.line([(LEFT, TOP), (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], INK, 1)
    if floor_nats is not None:
        left, right = axes.place((0.0, floor_nats)), axes.place((axes.chars, floor_nats))
        canvas.dashes(left, right, GREY)
        canvas.text((left[0] + 8, left[1] - 3), f"floor {floor_nats:.3f}", "ls", GREY)
    canvas.line([axes.place(point) for point in trained], BLUE, 2)
    canvas.line([axes.place(point) for point in valid], ORANGE, 2)
    for point in valid:
        canvas.dot(axes.place(point), ORANGE)
    if valid:
        x, y = axes.place(valid[-1])
        canvas.text((min(x + 5, WIDTH - 4), y - 10), f"{valid[-1][1]:.3f}", "rs", ORANGE)
    canvas.text((WIDTH / 2, 12), show_name(title), "ma", size=14)
    canvas.text((WIDTH / 2, HEIGHT - 24), "characters read, millions", "ma")
    canvas.text((LEFT, TOP - 6), "loss, nats per character", "ls")
    named = [(trained, BLUE, "training, mean since the last point"), (valid, ORANGE, "validation, part of the text")]
    for k, (_, colour, name) in enumerate(entry for entry in named if entry[0]):
        y = TOP + 14 + 20 * k
        canvas.line([(WIDTH - RIGHT - 40, y), (WIDTH - RIGHT - 10, y)], colour, 2)
        canvas.text((WIDTH - RIGHT - 48, y), name, "rm")
    return canvas.png()


def _points(metrics: list[dict[str, Any]], name: str) -> list[Point]:
    """(millions of characters, nats) of the lines that have a loss of that name, which is a number."""
    found = [(m["chars"] / 1e6, m[name]) for m in metrics if m.get(name) is not None]
    return [(chars, nats) for chars, nats in found if math.isfinite(nats)]


class _Axes:
    """What is shown, and where in the picture it lies; losses above what matters are cut off at the edge."""

    def __init__(self, points: list[Point], floor_nats: float | None) -> None:
        losses = sorted(nats for _, nats in points)
        lowest = min([*losses[:1], *([] if floor_nats is None else [floor_nats])], default=0.0)
        self.low = max(0.0, lowest - 0.08)
        self.high = max(self.low + 0.1, min(losses[-1] if losses else 1.0, lowest + 2.2) + 0.05)
        self.chars = max((chars for chars, _ in points), default=1.0) or 1.0

    def place(self, point: Point) -> Point:
        """Where a point lies, in the picture's units from the upper left."""
        height = min(1.0, max(0.0, (point[1] - self.low) / (self.high - self.low)))
        across = point[0] / self.chars
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers within a range, evenly apart."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


class _Canvas:
    """A picture that is drawn at `SHARP` times its size."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (WIDTH * SHARP, HEIGHT * SHARP), "white")
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: list[Point], colour: str, width: int) -> None:
        """Straight from point to point."""
        if len(points) > 1:
            places = [(x * SHARP, y * SHARP) for x, y in points]
            self._draw.line(places, colour, width * SHARP, joint="curve")

    def dashes(self, left: Point, right: Point, colour: str) -> None:
        """A dashed line from left to right."""
        x = left[0]
        while x < right[0]:
            self.line([(x, left[1]), (min(x + 7, right[0]), left[1])], colour, 1)
            x += 11

    def dot(self, place: Point, colour: str) -> None:
        """A small disc."""
        self._draw.circle((place[0] * SHARP, place[1] * SHARP), 3.5 * SHARP, colour)

    def text(self, place: Point, text: str, anchor: str, colour: str = INK, size: int = 13) -> None:
        """A line of text; `anchor` says which point of it `place` is, as Pillow's do."""
        font = ImageFont.load_default(size * SHARP)
        self._draw.text((place[0] * SHARP, place[1] * SHARP), text, colour, font, anchor)

    def png(self) -> bytes:
        """The picture as it is shown."""
        image = io.BytesIO()
        self._image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(image, "PNG", optimize=True)
        return image.getvalue()
