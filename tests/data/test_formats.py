"""Files of every format: told by their content, read rightly, or refused by their right name with what to do."""

import csv
import gzip
import io
import json
import logging
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_runs import FLAGS, command
from test_corpus import stories, stories_in, written

from storycell.data import blocks, encodings, files, prepare, resumable, tables
from storycell.data.blocks import Bookmark
from storycell.data.corpus import open_corpus
from storycell.data.files import FileSource
from storycell.data.formats import PlainText
from storycell.data.json_text import JsonLines
from storycell.data.vocab import SEPARATOR
from storycell.errors import CorpusError

TEXTS = [f'Story {k}; "Hi, “you”", he said.\n\nThe end.' for k in range(60)]
RECORDS = [{"id": k, "story": text, "source": "GPT-4"} for k, text in enumerate(TEXTS)]


def table(*columns: list[str], delimiter: str = ",", **how: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, **how).writerows(zip(*columns, strict=True))
    return out.getvalue()


NUMBERED = [["id", *map(str, range(60))], ["story", *TEXTS]]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)
FORMATS: dict[str, tuple[str, str]] = {  # the usual ending of the name, and the content
    "csv": (".csv", table(*NUMBERED)),
    "csv, semicolons": (".csv", table(*NUMBERED, delimiter=";")),
    "csv, bars": (".csv", table(*NUMBERED, delimiter="|")),
    "csv, old Mac": (".csv", table(*NUMBERED, lineterminator="\r")),
    "tsv": (".tsv", table(*NUMBERED, delimiter="\t")),
    "json array": (".json", json.dumps(RECORDS)),
    "json array, indented": (".json", json.dumps(RECORDS, indent=2, ensure_ascii=False)),
    "json strings": (".json", json.dumps(TEXTS)),
    "json object": (".json", json.dumps({"version": 1, "about": {"by": ["me"]}, "data": RECORDS, "count": 60})),
    "json lines": (".jsonl", LINES),
    "json lines, other name": (".json", LINES.rstrip()),
    "json objects": (".json", "\n".join(json.dumps(record, indent=1) for record in RECORDS)),
    "json objects without line ends": (".json", "".join(json.dumps(record) for record in RECORDS)),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("how", ["as named", "as text", "gz", "zst", "mark", "utf-16", "utf-16-le"])
def test_every_format_gives_its_stories(tmp_path: Path, name: str, how: str) -> None:
    ending, content = FORMATS[name]
    encoding = how if how.startswith("utf") else "utf-8"
    data = content.encode("utf-8-sig" if how == "mark" else encoding)
    packers: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}
    path = tmp_path / f"a{'.txt' if how == 'as text' else ending}{f'.{how}' if how in packers else ''}"
    assert stories_in(written(path, packers.get(how, bytes)(data)), encoding=encoding) == TEXTS


@pytest.mark.parametrize("name", FORMATS)
def test_the_size_of_chunks_does_not_show(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, content = FORMATS[name]
    path = written(tmp_path / f"a{ending}", content)
    for size in (1, 3, 50, 4000):
        monkeypatch.setattr(files, "CHUNK_BYTES", size)
        assert stories_in(path) == TEXTS


@pytest.mark.parametrize("name", FORMATS)
def test_reading_goes_on_behind_any_block(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ending, content = FORMATS[name]
    monkeypatch.setattr(files, "CHUNK_BYTES", 700)
    source = FileSource(written(tmp_path / f"a{ending}", content))
    whole, begun, bookmark = b"".join(source.blocks()), b"", Bookmark()
    places = 0
    for block in source.blocks(bookmark=bookmark):
        begun += block
        assert begun + b"".join(source.blocks(bookmark=Bookmark(bookmark.place))) == whole
        places += 1
    assert places > 3


@pytest.mark.parametrize("name", ["csv", "json array", "json object"])
def test_a_preparation_stopped_inside_such_a_file_ends_with_the_same_bytes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "_EVERY_S", -1.0)
    monkeypatch.setattr(files, "CHUNK_BYTES", 500)
    ending, content = FORMATS[name]
    text = open_corpus([str(written(tmp_path / f"a{ending}", content))])
    whole = prepare.prepare(text, tmp_path / "whole")

    def stop(what: str, done: int, total: int) -> None:
        if what == "translating" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(text, tmp_path / "out", progress=stop)
    again = prepare.prepare(text, tmp_path / "out")
    for file in ("train.tokens", "valid.tokens", "vocab.json"):
        assert (again.folder / file).read_bytes() == (whole.folder / file).read_bytes()


CELLS = st.text(st.sampled_from("ab\",;\t\n'é😀 |"), max_size=12)


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"))
def test_a_table_of_any_texts_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    content = table(["x", *(a for a, _ in rows)], ["text", *(b for _, b in rows)], delimiter=delimiter)
    ending = ".tsv" if delimiter == "\t" else ".csv"
    path = written(tmp_path_factory.mktemp("table") / f"a{ending}", content)
    assert stories_in(path) == [b for _, b in rows if b.strip()]
    path.unlink()


READ_STDIN = """
import sys
from storycell.data.corpus import open_corpus
sys.stdout.buffer.write(b"".join(open_corpus(["-"]).blocks()))
"""


@pytest.mark.parametrize("content", [FORMATS["csv"][1].encode(), gzip.compress(FORMATS["json array"][1].encode())])
def test_standard_input_is_told_by_its_content(content: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_STDIN], input=content, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode("utf-8", "replace").count("The end.") == done.stdout.count(b"\xff") == 60
    assert b"standard input is read as" in done.stderr


# Which column


def test_a_column_is_taken_where_it_is_named_or_clear(tmp_path: Path) -> None:
    both = written(tmp_path / "a.csv", "story,text\nno,yes\n")
    assert stories_in(both) == ["yes"]
    assert stories(open_corpus([str(both)], column="story")) == ["no"]
    odd = written(tmp_path / "b.csv", "a,b\n1,x\n2,y\n")
    assert stories(open_corpus([str(odd)], column="b")) == ["x", "y"]
    assert stories(open_corpus([str(odd)], column="2")) == ["b", "x", "y"]
    assert stories(open_corpus([str(odd)], column="")) == ["a,b\n1,x\n2,y\n"]
    lines = written(tmp_path / "a.jsonl", '{"a": "1", "b": "2"}\n')
    assert stories(open_corpus([str(lines)], column="b")) == ["2"]


@pytest.mark.parametrize("column", [None, "nope"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "title,words\nx,y\n"),
        ("a.tsv", "title\twords\nx\ty\n"),
        ("a.csv", "story,passage,title,words\nx,y,z,w\n"),
        ("a.jsonl", '{"title": "x", "words": "y"}\n'),
        ("a.json", '[{"title": "x", "words": "y"}]'),
        ("a.json", '{"title": "x", "words": "y", "n": 3}'),
    ],
)
def test_where_it_is_not_clear_the_columns_are_named(
    tmp_path: Path, name: str, content: str, column: str | None
) -> None:
    corpus = open_corpus([str(written(tmp_path / name, content))], column=column)
    with pytest.raises(CorpusError, match=r"a\.\w+ is (a JSON|CSV|TSV|JSON).*title, words.*--column NAME") as error:
        corpus.digest()
    assert "\n" not in str(error.value)
    assert column is None or "'nope'" in str(error.value)


def test_what_is_taken_for_a_table_or_json_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.csv", "b.csv"):
        written(tmp_path / name, "id,story\n1,Once\n")
    corpus = open_corpus([f"{tmp_path}/*.csv"])
    assert stories(corpus) == stories(corpus) == ["Once", "Once"]
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}/a.csv is read as CSV: the column 'story' of each record is a story"
    ]
    caplog.clear()
    stories_in(written(tmp_path / "a.jsonl", '{"text": "usual"}\n'), written(tmp_path / "a.txt", "plain\n"))
    assert not caplog.records


def test_a_command_says_it_and_a_run_remembers_its_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))
    content = table(["title", *map(str, range(40))], ["words", *(f"Story {k}. It ends here.\n" for k in range(40))])
    path, run, made = written(tmp_path / "a.csv", content), tmp_path / "run", tmp_path / "made"
    command(capsys, "train", path, "--out", run, *FLAGS).stated(1, "a.csv is CSV", "title, words", "--column")
    assert "column 'words'" in command(capsys, "train", path, "--column", "words", "--out", run, *FLAGS).err
    assert json.loads((run / "config.json").read_text())["text"]["column"] == "words"
    assert command(capsys, "train", "--resume", run, "--steps", 6).code == 0
    command(capsys, "train", "--resume", run, "--column", "title").stated(2, "--column does not go with --resume")
    assert "too few for figures" in command(capsys, "inspect", run, "--json").err  # it has been read
    for verb in (["eval", run], ["eval", run, path, "--column", "words"]):
        assert command(capsys, *verb).code == 0, verb
    for verb in (["compare", run, "--no-baselines"], ["novelty", run, "--count", 1, "--chars", 5]):
        assert command(capsys, *verb).code == 0, verb
    command(capsys, "eval", run, path).stated(1, "a.csv is CSV")
    command(capsys, "inspect", run, path, "--column", "nope", "--json").stated(1, "without a column 'nope'")
    command(capsys, "novelty", run, path, "--column", "nope").stated(1, "without a column 'nope'")
    command(capsys, "compare", run, "--text", path, "--column", "nope").stated(1, "without a column 'nope'")
    assert command(capsys, "prepare", path, "--column", "words", "--out", made).code == 0
    assert json.loads((made / "prepared.json").read_text())["column"] == "words"
    command(capsys, "train", made, "--column", "words", *FLAGS).stated(2, "has been prepared already")


# What is no table stays a text


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world\nGoodbye, moon\nFarewell, stars\nAnd, so\nOn, on\n",
        '"Hello," said Tom.\n"Yes," said Tim.\n',
        "text, and more text\nmore, and more\nagain, and again\n",
        "dog,cat\ncow,pig\nhen,fox\nant,bee\nowl,elk\nape,emu\n",
        "1,2,3\n4,5,6\n7,8,9\n",
        "text\nis what this is\n",
        "| text | n |\n|---|---|\n| a | 1 |\n",
        "[Chapter 1]\nHello\n",
        '["Well" is a word.]\n',
        '["one", two]\n',
        "[1] A note\n[2] Another\n",
        "{curly} text\n",
        '{"a": 1} is JSON.\n',
        "{\n  int x;\n}\n",
        "PK is what he was called\n",
        "BM, RIFF and II* are words\n",
        "MZ\n",
        "%PD\n",
    ],
)
@pytest.mark.parametrize("ending", [".txt", ".md", ""])
def test_a_plain_text_stays_one(tmp_path: Path, text: str, ending: str) -> None:
    assert stories_in(written(tmp_path / f"a{ending}", text)) == [text]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("dog,cat\ncow,pig\nhen,fox\nant,bee\nowl,elk\n", "seems to be CSV with the columns dog, cat"),
        ("<!DOCTYPE html>\n<p>Hi\n", "is HTML"),
        ("<!-- x -->\n<HTML>\n", "is HTML"),
        ('<mediawiki xmlns="x">\n', "is XML"),
        ("He said \x93don\x92t\x94.\n", "holds control characters"),
    ],
)
def test_what_may_not_be_meant_is_read_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, said: str
) -> None:
    assert stories_in(written(tmp_path / "a.txt", content)) == [content]
    assert [said in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("glue", [SEPARATOR, f"\n{SEPARATOR} \n", f"\n {SEPARATOR}\n", f"\n\t{SEPARATOR}\n"])
@pytest.mark.parametrize("chunk", [5, files.CHUNK_BYTES])
def test_separators_not_alone_on_a_line_are_said(
    tmp_path: Path, glue: str, chunk: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk)
    path = written(tmp_path / "a.txt", glue.join(f"Story {k}.\nThe end." for k in range(30)) + "\n")
    assert len(stories_in(path)) == 1
    assert [SEPARATOR in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    stories_in(written(tmp_path / "b.txt", f"\n{SEPARATOR}\n".join("abc")))
    assert not caplog.records


def test_a_column_for_a_text_without_columns_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert stories(open_corpus([str(written(tmp_path / "a.txt", "plain\n"))], column="story")) == ["plain\n"]
    assert "without columns" in caplog.text


# What cannot be read


def zipped(**members: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("TYPES", "[Content_Types].xml"), content)
    return out.getvalue()


BINARY = {
    "a PDF": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "pdftotext"),
    "a Word document": (zipped(TYPES="<x/>" * 50, word__document="<x/>"), "pandoc"),
    "an Excel table": (zipped(TYPES="<x/>", xl__workbook="<x/>"), "CSV"),
    "an EPUB book": (zipped(mimetype="application/epub+zip"), "pandoc"),
    "an OpenDocument text": (zipped(mimetype="application/vnd.oasis.opendocument.text"), "pandoc"),
    "a ZIP archive": (zipped(a="word/ and more"), "unzip"),
    "an RTF document": (b"{\\rtf1\\ansi Hello}", "pandoc"),
    "a bzip2 file": (b"BZh91AY&SY\1\2\3\4", "bzip2 -dc"),
    "an xz file": (b"\xfd7zXZ\0\0\4", "xz -dc"),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c\0\4", "7z x"),
    "a RAR archive": (b"Rar!\x1a\x07\x01\0", "unrar"),
    "a tar archive": (b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 500, "tar xf"),
    "a Parquet table": (b"PAR1\x15\4", "pandas"),
    "an SQLite database": (b"SQLite format 3\0\x10\0", "sqlite3"),
    "a PNG image": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "text file"),
    "a JPEG image": (b"\xff\xd8\xff\xe0\0\x10JFIF", "text file"),
    "a GIF image": (b"GIF89a\1\0\1\0", "text file"),
    "a pickle": (b"\x80\x04\x95\1\0\0\0\0\0\0\0", "run anything"),
}


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252"])
@pytest.mark.parametrize("name", ["a.bin", "a.txt", "a.csv.gz"])
def test_what_is_no_text_is_refused_by_its_right_name(tmp_path: Path, kind: str, encoding: str, name: str) -> None:
    content, advice = BINARY[kind]
    path = written(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(CorpusError, match=rf"a\.[\w.]+ is {kind}") as error:
        stories_in(path, encoding=encoding)
    assert advice in str(error.value)
    assert "--encoding" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '[{"text": "a"},', "from value 2 on"),
        ("a.json", '[{"text": "a"}, {"text": 3}]', 'value 2: not an object with a field "text"'),
        ("a.json", '[{"text": "a"}, {"txt": "b"}]', 'value 2: not an object with a field "text"'),
        ("a.json", '[{"text": "a"}] more', "comes after the end of the array"),
        ("a.json", '["a", 3]', "not JSON that can be read"),
        ("a.json", '["a", "b", 3]', "value 3: not a string"),
        ("a.json", '["a" "b"]', "not JSON that can be read"),
        ("a.json", '["a", "b" "c"]', "a comma is missing"),
        ("a.json", '{"a": ["x"], "b": ["y"]}', "more than one array"),
        ("a.json", "[1, 2]", "not JSON that can be read"),
        ("a.json", '["a", "b", ' + "[" * 100_000, "nested too deep"),
        ("a.json", '["\\ud800"]', "value 1: not a string"),
        ("a.csv", 'text,n\n"a,1\n', "cannot be read as CSV"),
        ("a.csv", "text,n\n" + "a,1\n" * 50_000 + "b\n", "line 50,002: a record of 1 fields, where the first has 2"),
        ("a.csv", "text,n\n" + "a,1\n" * 50_000 + '"b"c,1\n', "line 50,002: ',' expected"),
        ("a.csv", "text,n\na,1\nb\n", "do not have as many fields each"),
    ],
)
def test_a_damaged_table_or_array_is_named_with_the_place(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(CorpusError, match=r"a\.\w+") as error:
        stories_in(written(tmp_path / name, content))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(("ending", "start"), [(".csv", b'text\n"'), (".json", b'["a", "'), (".json", b'{"text": "')])
def test_a_record_without_end_is_refused_before_memory_is_full(
    tmp_path: Path, ending: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "LONGEST_RECORD_BYTES", 4 << 20)
    bomb = written(tmp_path / f"a{ending}.zst", zstandard.compress(start + b"a" * (64 << 20)))
    with pytest.raises(CorpusError, match="of more than 4,194,304 bytes"):
        stories_in(bomb)


def test_long_records_are_looked_at_a_few_times_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of many chunks is parsed anew when twice as much is there, not at each chunk."""
    looked_at: list[int] = []
    parse = tables.records
    monkeypatch.setattr(tables, "records", lambda text, *more: (looked_at.append(len(text)), parse(text, *more))[1])
    monkeypatch.setattr(files, "CHUNK_BYTES", 1000)
    long = "line\n" * 100_000
    assert stories_in(written(tmp_path / "a.csv", table(["text", long, "b"], ["n", "1", "2"]))) == [long, "b"]
    assert len(long) < sum(looked_at) < 8 * len(long)


# Other encodings: what is advised


SAMPLES = {
    "cp1252": "He said “don’t” – and left… the café.\n",
    "cp1250": "Zażółć gęślą jaźń, powiedział król do królowej.\n",
    "cp1251": "Жили-были старик со старухой. Вот и просит старик: «Испеки, старуха, колобок».\n",
    "cp1254": "Bir varmış bir yokmuş, evvel zaman içinde, kalbur saman içinde güneş doğmuş.\n",
    "shift_jis": "むかしむかし、あるところに、おじいさんとおばあさんが住んでいました。\n",
    "gb18030": "从前有座山，山里有座庙，庙里有个老和尚在讲故事。讲的什么呢？\n",
    "utf-16-le": "Dear diary, “today” it rained.\r\n",
    "utf-16-be": "从前有座山，山里有座庙。讲的什么呢？\n",
    "utf-32-le": "Hello\n",
}


@pytest.mark.parametrize("encoding", SAMPLES)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("times", [1, 3000])
def test_the_encoding_that_is_advised_reads_it(tmp_path: Path, encoding: str, name: str, times: int) -> None:
    text = SAMPLES[encoding] * times
    content = {
        "a.txt": text,
        "a.jsonl": json.dumps({"text": text}, ensure_ascii=False) + "\n",
        "a.csv": table(["text", text], ["n", "1"]),
    }[name]
    path = written(tmp_path / name, content.encode(encoding))
    with pytest.raises(CorpusError, match=f"--encoding {encoding}") as error:
        stories_in(path)
    assert str(error.value).count("--encoding") == 1
    assert stories_in(path, encoding=encoding) == [text.replace("\r\n", "\n")]


@pytest.mark.parametrize(
    ("encoding", "better"), [("latin-1", "cp1252"), ("iso8859-2", "cp1250"), ("iso8859-15", "cp1252")]
)
def test_an_encoding_that_gives_control_characters_is_refused(tmp_path: Path, encoding: str, better: str) -> None:
    path = written(tmp_path / "a.txt", b"He said \x93don\x92t\x94.\n")
    with pytest.raises(CorpusError, match=rf"U\+0093, from byte 8 on.*--encoding {better}"):
        stories_in(path, encoding=encoding)
    assert stories_in(path, encoding=better) == ["He said “don’t”.\n"]


def test_damaged_utf8_is_not_called_another_encoding(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", ("“Hello” é ü 😀 " * 50).encode() + b"\xff bad\n")
    with pytest.raises(CorpusError, match=r"invalid byte at position 1,150.*damaged") as error:
        stories_in(path)
    assert "--encoding" not in str(error.value)


@given(st.binary(max_size=400))
def test_any_bytes_have_an_advice_or_none(data: bytes) -> None:
    found = encodings.likely(data)
    assert found is None or "".encode(found) in (b"", b"\xff\xfe")


def test_digests_of_texts_and_json_lines_are_what_they_were(tmp_path: Path) -> None:
    """Runs made before tables were read go on."""
    plain, lines = (
        written(tmp_path / "a.txt", "Once.\n"),
        written(tmp_path / "a.jsonl.gz", gzip.compress(b"{}", mtime=0)),
    )
    assert next(FileSource(plain).raw_chunks()) == b"('', False)"
    assert next(FileSource(written(tmp_path / "b.jsonl", '{"text": "a"}')).raw_chunks()) == b"('', True)"
    assert FileSource(plain)._packing_and_form == ("", PlainText())
    with pytest.raises(CorpusError, match="it has none"):
        next(FileSource(lines).raw_chunks())
    assert FileSource(written(tmp_path / "c.jsonl", "nothing"))._packing_and_form == ("", JsonLines())


def test_notes_can_be_switched_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="storycell"):
        stories_in(written(tmp_path / "a.csv", "id,story\n1,Once\n"))
    assert not caplog.records
