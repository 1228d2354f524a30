"""Books, pages, subtitles, mail, chats, tunes and tables of Parquet: the right stories, or refused by name.

Where a format has a library that writes it, the files of these tests are written by that library.
"""

import json
import logging
import mailbox
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import pyarrow
import pysubs2
import pytest
from ebooklib import epub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from support.changed_json import changed

from storycell.data.blocks import Bookmark
from storycell.data.corpus import open_corpus
from storycell.data.files import FileSource
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError, MissingExtraError


def stories_of(path: Path, **settings: str) -> list[str]:
    data = b"".join(open_corpus([str(path)], **settings).blocks())
    return [story.decode() for story in data.split(BOUNDARY_BYTE) if story.strip()]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def book(path: Path) -> Path:
    made = epub.EpubBook()
    made.set_title("The Ball")
    made.set_language("en")
    chapters = [epub.EpubHtml(title=f"Part {k}", file_name=f"part {k}.xhtml", lang="en") for k in (1, 2)]
    chapters[0].content = "<h1>One</h1><p>Ann had a <b>red</b> ball&nbsp;&amp; a cat.</p><p>She ran.</p>"
    chapters[1].content = "<h1>Two</h1><p>“It is lost,” said Ben.</p>"
    for chapter in chapters:
        made.add_item(chapter)
    made.toc = chapters
    made.spine = ["nav", *reversed(chapters)]  # the spine's order counts, not that of the files
    made.add_item(epub.EpubNcx())
    made.add_item(epub.EpubNav())
    epub.write_epub(str(path), made)
    return path


def test_an_epub_is_its_chapters_in_the_order_of_its_spine_without_tags_and_contents(tmp_path: Path) -> None:
    (story,) = stories_of(book(tmp_path / "ball.epub"))
    lines = [line for line in story.split("\n") if line]
    assert lines == ["Two", "“It is lost,” said Ben.", "One", "Ann had a red ball & a cat.", "She ran."]


def test_a_locked_epub_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "ball.epub")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "META-INF/encryption.xml",
            '<encryption><EncryptedData><CipherData><CipherReference URI="EPUB/part%201.xhtml"/>'
            "</CipherData></EncryptedData></encryption>",
        )
    with pytest.raises(CorpusError, match="encrypted"):
        stories_of(path)


def test_a_word_document_is_its_paragraphs_and_tables(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("The ball", 0)
    document.add_paragraph("Ann had a ").add_run("red").bold = True
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "ball", "red"
    document.add_paragraph("The end.")
    document.save(str(tmp_path / "a.docx"))
    assert stories_of(tmp_path / "a.docx") == ["The ball\nAnn had a red\nball\tred\nThe end.\n"]


def test_a_page_is_its_words(tmp_path: Path) -> None:
    page = (
        "<!DOCTYPE html><html><head><title>T</title><style>p{}</style><script>x()</script></head>"
        "<body><h1>Ball</h1><p>Ann &lt;3 balls.<br>She ran.</p><ul><li>one</li></ul></body></html>"
    )
    (story,) = stories_of(written(tmp_path / "a.html", page))
    assert [line.strip() for line in story.split("\n") if line.strip()] == [
        "Ball",
        "Ann <3 balls.",
        "She ran.",
        "* one",
    ]
    assert stories_of(tmp_path / "a.html", column="") == [page]


@pytest.mark.parametrize("ending", ["srt", "vtt", "ass"])
def test_subtitles_are_what_is_said_once_each(tmp_path: Path, ending: str) -> None:
    film = pysubs2.SSAFile()
    for k, line in enumerate(["Hello,\\Nworld.", "{\\i1}Who is it?{\\i0}", "Who is it?", "Tom."]):
        film.append(pysubs2.SSAEvent(start=1000 * k, end=1000 * k + 900, text=line))
    film.save(str(tmp_path / f"a.{ending}"))
    assert stories_of(tmp_path / f"a.{ending}") == ["Hello, world.\nWho is it?\nTom.\n"]
    unnamed = written(tmp_path / "a", (tmp_path / f"a.{ending}").read_text())
    assert stories_of(unnamed) == ["Hello, world.\nWho is it?\nTom.\n"]


def test_each_message_of_a_mailbox_is_its_words(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "a.mbox")
    plain = EmailMessage()
    plain["From"], plain["Subject"] = "ann@example.org", "Ball"
    plain.set_content("Where is the café?\nFrom here?\n")
    plain.add_attachment(b"\0\1", maintype="application", subtype="octet-stream", filename="x.bin")
    plain.add_attachment("not this", filename="x.txt")
    page = EmailMessage()
    page["From"] = "ben@example.org"
    page.set_content("<p>It is <b>there</b>.</p>", subtype="html")
    both = EmailMessage()
    both["From"] = "cy@example.org"
    both.set_content("words\n")
    both.add_alternative("<p>the same</p>", subtype="html")
    for message in (plain, page, both):
        box.add(message)
    box.close()
    found = stories_of(tmp_path / "a.mbox")
    assert [story.strip() for story in found] == ["Where is the café?\n>From here?", "It is there.", "words"]


WHATSAPP = {
    "iPhone": (
        "[31.12.20, 21:15:03] Ann: Hi\n\u200e[31.12.20, 21:15:09] Ann: \u200eimage omitted\n"
        "[31.12.20, 21:16:00] Ben B.: Hello: you\nthere\n[01.01.21, 00:00:01] Ann: Happy new year\n"
    ),
    "Android": (
        "31/12/2020, 21:14 - Messages are end-to-end encrypted. Tap to learn more.\n31/12/2020, 21:15 - Ann: Hi\n"
        "31/12/2020, 21:15 - Ann: <Media omitted>\n31/12/2020, 21:16 - Ben B.: Hello: you\nthere\n"
        "01/01/2021, 00:00 - Ann: Happy new year\n"
    ),
    "American": (
        "12/31/20, 9:15\u202fPM - Ann: Hi\n12/31/20, 9:16\u202fPM - Ben B.: Hello: you\nthere\n"
        "1/1/21, 12:00\u202fAM - Ann: Happy new year\n"
    ),
}
CHAT = ["Ann: Hi\nBen B.: Hello: you\nthere\n", "Ann: Happy new year\n"]


@pytest.mark.parametrize("phone", WHATSAPP)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_day_of_a_whatsapp_chat_is_a_story(
    tmp_path: Path, phone: str, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "_chat.txt"
    path.write_bytes(WHATSAPP[phone].replace("\n", ends).encode())
    assert stories_of(path) == CHAT
    assert "a WhatsApp chat: each day is a story" in caplog.text
    assert stories_of(path, column="") == [WHATSAPP[phone]]


def telegram() -> dict[str, Any]:
    def message(day: str, who: str | None, text: object, kind: str = "message") -> dict[str, object]:
        return {"id": 1, "type": kind, "date": f"{day}T21:15:03", "from": who, "text": text}

    return {
        "name": "Ben",
        "type": "personal_chat",
        "id": 7,
        "messages": [
            message("2020-12-31", None, "", "service"),
            message("2020-12-31", "Ann", "Hi"),
            message("2020-12-31", "Ben B.", ["Hello: ", {"type": "bold", "text": "you"}, "\nthere"]),
            message("2020-12-31", "Ann", ""),
            message("2021-01-01", "Ann", "Happy new year"),
        ],
    }


def discord() -> dict[str, Any]:
    def message(time: str, name: str, nickname: str | None, content: str) -> dict[str, object]:
        return {"id": "1", "type": "Default", "timestamp": time, "content": content,
                "author": {"id": "2", "name": name, "nickname": nickname}}  # fmt: skip

    return {
        "guild": {"id": "1", "name": "G"},
        "channel": {"id": "3", "type": "GuildTextChat", "name": "general"},
        "dateRange": {"after": None, "before": None},
        "messages": [
            message("2020-12-31T21:15:03+00:00", "ann", "Ann", "Hi"),
            message("2020-12-31T21:16:03+00:00", "Ben B.", None, "Hello: you\nthere"),
            message("2021-01-01T00:00:03+00:00", "ann", "Ann", "Happy new year"),
        ],
    }


def test_a_day_of_a_telegram_chat_is_a_story(tmp_path: Path) -> None:
    assert stories_of(written(tmp_path / "result.json", json.dumps(telegram(), indent=1))) == CHAT
    everything = {"about": "Here is the data", "chats": {"about": "x", "list": [telegram(), telegram()]}}
    assert stories_of(written(tmp_path / "all.json", json.dumps(everything, indent=1))) == CHAT * 2


def test_a_day_of_a_discord_channel_is_a_story(tmp_path: Path) -> None:
    assert stories_of(written(tmp_path / "general.json", json.dumps(discord(), indent=2))) == CHAT


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("export", [telegram, discord])
def test_an_export_with_anything_in_any_place_is_read_or_refused_by_name(
    tmp_path: Path, export: Callable[[], dict[str, Any]], data: st.DataObject
) -> None:
    path = written(tmp_path / "chat.json", json.dumps(changed(export(), data.draw)))
    refused = ""
    try:
        stories_of(path)
    except CorpusError as error:
        refused = str(error)
    assert refused == "" or "chat.json" in refused


def test_each_tune_is_a_story(tmp_path: Path) -> None:
    tunes = ["X:1\nT:Ball\nM:4/4\nL:1/8\nK:G\nGABc dedB|\n", "X: 2\nT:Cat\nK:D\n|:DFA:|\n"]
    text = "% made by hand\n\n" + "\n".join(tunes)
    assert stories_of(written(tmp_path / "a.abc", text)) == tunes
    assert stories_of(written(tmp_path / "tunes.txt", text)) == tunes


def test_each_cell_of_a_parquet_column_is_a_story_from_any_place_on(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    cells = [f"Story {k}.\n" if k % 7 else None for k in range(3000)]
    parquet.write_table(
        pyarrow.table({"id": list(range(3000)), "title": ["x"] * 3000, "text": cells}), path, row_group_size=500
    )
    told = [cell for cell in cells if cell]
    assert stories_of(path) == told
    assert stories_of(path, column="title") == ["x"] * 3000
    with pytest.raises(CorpusError, match=r"a\.parquet is a Parquet table without a column 'id' \(title, text\)"):
        stories_of(path, column="id")
    mark = Bookmark()
    blocks = FileSource(path).blocks(bookmark=mark)
    first = [next(blocks) for _ in range(1234)]
    rest = list(FileSource(path).blocks(bookmark=Bookmark(mark.place)))
    assert b"".join(first + rest) == b"".join(cell.encode() + BOUNDARY_BYTE for cell in told)


def test_what_is_left_out_of_a_mark_is_not_read_twice_from_a_text_document(tmp_path: Path) -> None:
    source = FileSource(written(tmp_path / "_chat.txt", WHATSAPP["iPhone"]))
    mark = Bookmark()
    assert len(list(source.blocks(bookmark=mark))) == 1
    assert list(source.blocks(bookmark=Bookmark(mark.place))) == []


def test_a_folder_of_books_is_read_where_it_holds_no_text(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    book(tmp_path / "books" / "a.epub")
    assert len(stories_of(tmp_path / "books")) == 1
    written(tmp_path / "books" / "b.txt", "A text.\n")
    assert stories_of(tmp_path / "books") == ["A text.\n"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.epub", "an EPUB book"), ("a.docx", "a Word document"), ("a.parquet", "a Parquet table")],
)
def test_a_damaged_document_is_refused_by_name(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if name == "a.epub":
        book(path)
    elif name == "a.docx":
        docx.Document().save(str(path))
    else:
        parquet.write_table(pyarrow.table({"text": ["words " * 50] * 99}), path)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) * 3 // 4, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(CorpusError, match=rf"{name} is {kind}.* that cannot be read .*it is damaged") as error:
            stories_of(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"name": "x", "type": "personal_chat", "id": 7, "messages": [{"id": 1, "type":'),
        ("a.json", '{"guild": {"id": "1"}, "channel": {"id": "3"}, "messages": [{"id":'),
        ("a.srt", "no times at all\n"),
        ("a.html", "<html><body></body></html>"),
        ("a.abc", "no tune\n"),
        ("a.txt", "1/1/21, 12:00 - Ann joined\n1/1/21, 12:01 - Ben left\n"),
    ],
)
def test_a_document_without_words_or_end_is_refused_by_name(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(CorpusError, match=rf"{name} is .*(damaged|without any words)"):
        stories_of(written(tmp_path / name, content))


@pytest.mark.parametrize(
    "text",
    [
        "X: a letter\nnothing more\n",
        "12/31/20, the last day of the year.\nIt snowed.\n",
        "1\n2\n3\n",
        "From me to you\nwith love\n",
        "From: Ann\nTo: Ben\n\nHi\n",
        '{"type": "x", "messages": 1}\n',
    ],
)
def test_a_text_that_only_resembles_a_document_stays_one(tmp_path: Path, text: str) -> None:
    assert stories_of(written(tmp_path / "a.txt", text), column="") == [text]
    if not text.startswith("{"):
        assert stories_of(written(tmp_path / "a.txt", text)) == [text]


@pytest.mark.parametrize(
    ("package", "name"), [("inscriptis", "a.html"), ("pysubs2", "a.srt"), ("docx", "a.docx"), ("pyarrow", "a.parquet")]
)
def test_without_its_library_a_document_says_what_to_install(
    tmp_path: Path, package: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / name, "x\n")
    if name == "a.docx":
        docx.Document().save(str(path))
    elif name == "a.parquet":
        parquet.write_table(pyarrow.table({"text": ["words"]}), path)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    extra = "parquet" if package == "pyarrow" else "documents"
    with pytest.raises(MissingExtraError, match=rf"{name}.* needs {package}.*storycell\[{extra}\]"):
        stories_of(path)


def test_what_a_document_is_read_as_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    stories_of(book(tmp_path / "ball.epub"))
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'ball.epub'} is read as an EPUB book: the book is a story"
    ]
