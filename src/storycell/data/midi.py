"""MIDI files <-> text: a line for each bar, and in it what sounds, in short words that a model of characters can learn.

    m3/4 t120 i0 v6 C4:12 E4:12 .12 G4:24
    d v8 C2:3 .6 i40 C#4:4

    t120     the tempo, in quarters a minute          i0, d    the instrument (General MIDI, from 0), or drums
    m3/4     the meter; a new one begins a bar         v6       how loud, from 1 to 8; as before where it is left out
    C4:12    a note and its length; C4 is middle C     .12      so much later
    a line   the rest of the bar, whatever is left of it

Lengths are in twelfths of a quarter, so that sixteenths and triplets are exact; all else is moved to them. Notes of
all tracks stand in the order of time; instruments are told apart by `i` and `d`, which hold until the next one. What a
file holds besides (names, lyrics, pedals, bends, markers) is left out. Files are read and written by symusic.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storycell.errors import CorpusError, SettingsError
from storycell.extras import require

QUARTER = 12  # units
LONGEST = 4 * QUARTER * 20_000
_LOUDNESS = 16  # of MIDI, for one step
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_WORD = (
    r"t(?P<tempo>\d{1,3})|m(?P<beats>\d{1,2})/(?P<beat>1|2|4|8|16|32|64)|i(?P<program>\d{1,3})|(?P<drums>d)"
    r"|v(?P<loud>[1-8])|\.(?P<later>\d{1,4})|(?P<name>[A-G]#?)(?P<octave>-?\d):(?P<length>\d{1,4})"
)
_DRUMS = -1  # as an instrument
_END = -2


def read_midi(path: Path, name: str, _column: str | None = None) -> Iterator[str]:
    """The text of a MIDI file; `CorpusError` names one that is damaged."""
    require("symusic", f"reading {name}, which is MIDI,")
    from symusic import Score

    try:
        read: Any = Score.from_midi(path.read_bytes())  # whose types do not say what it has
        score = read.resample(QUARTER, min_dur=1)
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise CorpusError(f"{name} is a MIDI file that cannot be read ({told}); it is damaged: copy it again") from None
    if score.end() > LONGEST:
        raise CorpusError(f"{name} is a MIDI file that lasts for more than 20,000 bars; it is damaged, or no music")
    yield as_text(score)


def as_text(score: Any) -> str:
    """The text of a symusic score that counts in `QUARTER` units a quarter; empty where nothing sounds in it."""
    notes = sorted(
        (note.time, _DRUMS if track.is_drum else track.program, note.pitch, note.duration, _steps(note.velocity))
        for track in score.tracks
        for note in track.notes
    )
    if not notes:
        return ""
    tempos = [(max(0, tempo.time), f"t{min(999, max(1, round(tempo.qpm)))}") for tempo in score.tempos]
    meters = [(max(0, meter.time), meter.numerator, meter.denominator) for meter in score.time_signatures]
    writer = _Writer(sorted(tempos) or [(0, "t120")], sorted(meters) or [(0, 4, 4)])
    for time, instrument, pitch, length, loud in notes:
        writer.go_to(time)
        writer.play(instrument, pitch, length, loud)
    return writer.text()


def _steps(velocity: int) -> int:
    return min(8, velocity // _LOUDNESS + 1)


def _bar(beats: int, beat: int) -> int:
    """The units of a bar; of a meter in very short beats the next whole number."""
    return max(1, -(-4 * QUARTER * beats // beat))


class _Writer:
    """Words, bar after bar."""

    def __init__(self, tempos: list[tuple[int, str]], meters: list[tuple[int, int, int]]) -> None:
        self._tempos, self._meters = tempos, meters
        self._lines: list[list[str]] = [[]]
        self._time = self._bar_begin = 0
        self._length = _bar(4, 4)
        self._instrument, self._loud = _END, 0
        self._begin_bar()

    def _begin_bar(self) -> None:
        while self._meters and self._meters[0][0] <= self._bar_begin:
            _, beats, beat = self._meters.pop(0)
            self._length = _bar(beats, beat)
            self._add(f"m{beats}/{beat}")
        self._say_tempo()

    def _say_tempo(self) -> None:
        while self._tempos and self._tempos[0][0] <= self._time:
            self._add(self._tempos.pop(0)[1])

    def _add(self, word: str) -> None:
        self._lines[-1].append(word)

    def go_to(self, time: int) -> None:
        """Bars and waits until then, with the tempos and meters on the way."""
        while self._time < time:
            until = min([time, *(at for at, _ in self._tempos[:1])])
            end = self._bar_begin + self._length
            if until >= end:
                self._time = self._bar_begin = end
                self._lines.append([])
                self._begin_bar()
            else:
                if until > self._time:
                    self._add(f".{until - self._time}")
                self._time = until
                self._say_tempo()

    def play(self, instrument: int, pitch: int, length: int, loud: int) -> None:
        """A note now."""
        if instrument != self._instrument:
            self._add("d" if instrument == _DRUMS else f"i{instrument}")
        if loud != self._loud:
            self._add(f"v{loud}")
        self._instrument, self._loud = instrument, loud
        self._add(f"{_NAMES[pitch % 12]}{pitch // 12 - 1}:{max(1, min(length, 9999))}")

    def text(self) -> str:
        """All of it."""
        return "".join(" ".join(line) + "\n" for line in self._lines)


@dataclass
class Tune:
    """What the words of a text come to: places and lengths in units."""

    notes: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # time, whose, pitch, length, velocity
    tempos: list[tuple[int, int]] = field(default_factory=list)
    meters: list[tuple[int, int, int]] = field(default_factory=list)
    unknown: int = 0  # words that are none of these


def parse(text: str) -> Tune:
    """A text as music; words that are no such words are counted, and left out."""
    tune = Tune()
    time = bar_begin = 0
    length, instrument, velocity = _bar(4, 4), 0, 5 * _LOUDNESS - _LOUDNESS // 2
    for k, line in enumerate(text.split("\n")):
        if k:
            time = bar_begin = max(bar_begin + length, time)
        for word in line.split():
            found = re.fullmatch(_WORD, word)
            if found is None:
                tune.unknown += 1
            elif found["tempo"]:
                tune.tempos.append((time, max(1, int(found["tempo"]))))
            elif found["beats"]:
                beats, beat = max(1, int(found["beats"])), int(found["beat"])
                length = _bar(beats, beat)
                tune.meters.append((bar_begin, beats, beat))
            elif found["program"] or found["drums"]:
                instrument = _DRUMS if found["drums"] else min(int(found["program"]), 127)
            elif found["loud"]:
                velocity = int(found["loud"]) * _LOUDNESS - _LOUDNESS // 2
            elif found["later"]:
                time += int(found["later"])
            else:
                pitch = _NAMES.index(found["name"]) + 12 * (int(found["octave"]) + 1) if found["name"] in _NAMES else -1
                if 0 <= pitch < 128:
                    tune.notes.append((time, instrument, pitch, max(1, int(found["length"])), velocity))
                else:
                    tune.unknown += 1
    return tune


def midi_file(text: str) -> tuple[bytes, int]:
    """A MIDI file of the music in a text, and how many words of it are no music, and were left out.

    `SettingsError` where there is no note in it.
    """
    require("symusic", "writing MIDI")
    from symusic import Note, Score, Tempo, TimeSignature, Track

    tune = parse(text)
    if not tune.notes:
        raise SettingsError("the text has no notes, so there is no MIDI to write; train on MIDI, or generate more")
    score: Any = Score(QUARTER)
    for instrument in sorted({note[1] for note in tune.notes}):
        track: Any = Track("", max(0, instrument), instrument == _DRUMS)
        for time, whose, pitch, length, velocity in tune.notes:
            if whose == instrument:
                track.notes.append(Note(time, length, pitch, velocity))
        score.tracks.append(track)
    for time, tempo in tune.tempos:
        score.tempos.append(Tempo(time, tempo))
    for time, beats, beat in tune.meters:
        score.time_signatures.append(TimeSignature(time, beats, beat))
    return bytes(score.dumps_midi()), tune.unknown
