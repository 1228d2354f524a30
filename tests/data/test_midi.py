"""MIDI: a file that symusic made becomes the text that says what sounds, and the text the same music again."""

import random
from pathlib import Path

import pytest
from support.tiny_runs import FLAGS, command
from symusic import Note, Score, Tempo, TimeSignature, Track

from storycell.data.corpus import open_corpus
from storycell.data.midi import QUARTER, as_text, midi_file, parse
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError, SettingsError

Music = tuple[list[tuple[int, ...]], list[tuple[int, int]], list[tuple[int, int, int]]]


def score(notes: list[tuple[int, int, int, int, int]], tempos: list[tuple[int, int]] = [(0, 120)],  # noqa: B006
          meters: list[tuple[int, int, int]] = [(0, 4, 4)], ticks: int = 480) -> Score:  # fmt: skip # noqa: B006
    """A score of (time, instrument, pitch, length, velocity), in twelfths of a quarter; instrument -1 is drums."""
    made, unit = Score(ticks), ticks // QUARTER
    for instrument in sorted({note[1] for note in notes}):
        track = Track("name", max(0, instrument), instrument == -1)
        for time, whose, pitch, length, velocity in notes:
            if whose == instrument:
                track.notes.append(Note(time * unit, length * unit, pitch, velocity))
        made.tracks.append(track)
    for time, qpm in tempos:
        made.tempos.append(Tempo(time * unit, qpm))
    for time, beats, beat in meters:
        made.time_signatures.append(TimeSignature(time * unit, beats, beat))
    return made


def music(of: Score) -> Music:
    """What sounds in a score, in twelfths of a quarter."""
    of = of.resample(QUARTER, min_dur=1)
    notes = [
        (note.time, -1 if track.is_drum else track.program, note.pitch, note.duration, note.velocity)
        for track in of.tracks
        for note in track.notes
    ]
    tempos = [(tempo.time, round(tempo.qpm)) for tempo in of.tempos]
    meters = [(meter.time, meter.numerator, meter.denominator) for meter in of.time_signatures]
    return sorted(notes), sorted(tempos), sorted(meters)


def stories(*paths: Path) -> list[str]:
    data = b"".join(open_corpus([str(path) for path in paths]).blocks())
    return [story.decode() for story in data.split(BOUNDARY_BYTE) if story]


WALTZ = [
    *((0, 0, 60, 12, 88), (0, 0, 64, 12, 88), (12, 0, 67, 24, 88), (36, -1, 36, 3, 120), (42, 40, 61, 4, 120)),
    *((108, 0, 0, 1, 8), (108, 0, 127, 400, 8)),
]
WALTZ_TEXT = """\
m3/4 t120 i0 v6 C4:12 E4:12 .12 G4:24
d v8 C2:3 .6 i40 C#4:4 .6 t90

i0 v1 C-1:1 G9:400
"""


def test_a_file_is_a_story_with_a_line_for_each_bar(tmp_path: Path) -> None:
    made = score(WALTZ, tempos=[(0, 120), (48, 90)], meters=[(0, 3, 4)])
    made.dump_midi(tmp_path / "waltz.mid")
    assert stories(tmp_path / "waltz.mid") == [WALTZ_TEXT]
    made.dump_midi(tmp_path / "without-a-name")  # told by its content
    assert stories(tmp_path / "without-a-name", tmp_path / "waltz.mid") == [WALTZ_TEXT] * 2
    assert stories(tmp_path) == [WALTZ_TEXT]  # a folder of documents


@pytest.mark.parametrize("seed", range(20))
def test_music_that_was_read_and_written_is_the_same(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    meters, time = [], 0
    for _ in range(draw.choice((1, 1, 3))):
        beats, beat = draw.choice(((4, 4), (3, 4), (6, 8), (7, 8), (5, 16), (2, 2)))
        meters.append((time, beats, beat))
        time += draw.randrange(1, 5) * (48 * beats // beat)  # a meter begins at a bar
    tempos = [(0, 100), *((draw.randrange(1, 400), draw.randrange(30, 300)) for _ in range(draw.randrange(3)))]
    tempos = sorted({time: (time, qpm) for time, qpm in tempos}.values())
    pitches = draw.sample(range(128), 60)  # a MIDI file cannot say which of two notes of one pitch ends
    places = {(draw.randrange(500), draw.choice((-1, 0, 24, 127)), pitch) for pitch in pitches}
    notes = [(*place, draw.randrange(1, 200), draw.choice((8, 24, 72, 120))) for place in places]
    notes.append((600, 1, 60, 1, 72))  # after all else
    made = score(notes, tempos, meters, ticks=draw.choice((12, 96, 480)))
    made.dump_midi(tmp_path / "a.mid")
    (text,) = stories(tmp_path / "a.mid")
    data, unknown = midi_file(text)
    assert unknown == 0
    assert music(Score.from_midi(data)) == music(made)
    assert as_text(Score.from_midi(data).resample(QUARTER, min_dur=1)) == text


def test_what_is_between_the_twelfths_is_moved_to_them_and_loudness_to_eight_steps(tmp_path: Path) -> None:
    made = Score(480)
    track = Track("", 5, False)
    for time, length, velocity in ((3, 470, 100), (479, 1, 1), (485, 900, 127)):
        track.notes.append(Note(time, length, 60, velocity))
    made.tracks.append(track)
    made.dump_midi(tmp_path / "a.mid")
    assert stories(tmp_path / "a.mid") == ["m4/4 t120 i5 v7 C4:12 .12 v1 C4:1 v8 C4:23\n"]


@pytest.mark.parametrize("words", ["", "x", "C4", "C4:", "H4:3", "m3/5 E9:99999", "v9 .x", "i t d3", "c4:1"])
def test_words_that_are_no_music_are_counted_and_left_out(words: str) -> None:
    tune = parse(f"{words} C4:12 G9:1 G#9:1 i999 C4:0")
    assert [note[:4] for note in tune.notes] == [(0, 0, 60, 12), (0, 0, 127, 1), (0, 127, 60, 1)]
    assert tune.unknown == len(words.split()) + 1
    data, unknown = midi_file(f"{words} C4:12")
    assert unknown == len(words.split())
    assert [note[:4] for note in music(Score.from_midi(data))[0]] == [(0, 0, 60, 12)]
    with pytest.raises(SettingsError, match="no notes"):
        midi_file(words)


def test_a_damaged_file_and_one_without_notes_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    score(WALTZ).dump_midi(path)
    whole = path.read_bytes()
    for damaged in (whole[:30], whole[:-5], whole[:4] + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match=r"a\.mid is a MIDI file that cannot be read .*it is damaged"):
            stories(path)
    score([(10_000_000, 0, 60, 1, 8)], ticks=12).dump_midi(path)
    with pytest.raises(CorpusError, match=r"a\.mid is a MIDI file that lasts for more than 20,000 bars"):
        stories(path)
    score([]).dump_midi(path)
    with pytest.raises(CorpusError, match=r"a\.mid is a MIDI file without any words in it"):
        stories(path)


def test_sample_writes_midi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "music", tmp_path / "tune.mid"
    folder.mkdir()
    for k in range(12):
        notes = [(12 * t, 0, 60 + (t * (k + 1)) % 12, 12, 72) for t in range(40)]
        score(notes).dump_midi(folder / f"{k}.mid")
    assert command(capsys, "train", folder, "--out", tmp_path / "run", *FLAGS, "--recipe=quick").code == 0
    sample = ("sample", tmp_path / "run", "--seed=1", "--match", r"m4/4 t120 i0 v5( [CDEFG]4:12 \.12\n?){8}.*")
    one = command(capsys, *sample, "--out", out)
    assert one.code == 0
    assert one.out == ""
    assert "tune.mid: " in one.err
    notes, tempos, meters = music(Score(str(out)))
    assert [note[0] for note in notes[:8]] == sorted(note[0] for note in notes[:8])
    assert len(notes) >= 8
    assert (tempos, meters) == ([(0, 120)], [(0, 4, 4)])
    assert command(capsys, *sample, "--count=2", "--format=midi", "--out", out).code == 0
    assert len(music(Score(str(tmp_path / "tune-2.mid")))[0]) >= 8
    command(capsys, *sample, "--format=midi").stated(2, "--format midi writes files")
    command(capsys, "sample", "demo", "--chars=9", "--seed=1", "--out", out).stated(2, "the text has no notes")
