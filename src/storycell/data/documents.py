"""Documents that hold a text inside of something else: books, web pages, subtitles, mail, chats, tunes, Parquet.

A `TextDocument` is a text file whose stories have to be picked out of its markup; a `BinaryDocument` is read from its
path. Which one a file is, its content tells, and only where that leaves it open its ending. What becomes a story:

    EPUB, DOCX, HTML    the whole file, without tags, notes and navigation
    subtitles           the whole film, a line for each subtitle
    chats               the talk of one day, as `Name: words` lines without the messenger's own notices
    mbox                the body of each message
    ABC                 each tune
    MIDI                the file, in words (see `storycell.data.midi`)
    Parquet             each cell of one column

The libraries that read them are extras (`documents`, `midi`, `parquet`), imported when the first such file is read.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from storycell.data.anonymise import NOBODY, Anonymiser
from storycell.data.binary import PANDAS, PANDOC, kind_of
from storycell.data.blocks import START, Place, normalise
from storycell.data.midi import read_midi
from storycell.data.tables import clear_column, no_column
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError
from storycell.extras import require

if TYPE_CHECKING:
    from zipfile import ZipFile

LARGEST_BYTES = 256 << 20  # of a document that has to be in memory as a whole
ENDINGS = (
    ".epub",
    ".docx",
    ".html",
    ".htm",
    ".xhtml",
    ".srt",
    ".vtt",
    ".ass",
    ".ssa",
    ".mbox",
    ".abc",
    ".mid",
    ".midi",
    ".parquet",
)


def as_block(story: str, name: str) -> bytes:
    """A story as a normalised block with the boundary behind it."""
    return b"".join(normalise([story.encode("utf-8", "replace")], name)) + BOUNDARY_BYTE


# Text documents


@dataclass(frozen=True)
class TextDocument:
    """A text file with its stories inside of markup."""

    kind: str
    anonymiser: Anonymiser | None = field(default=None, compare=False, repr=False)

    @property
    def names_people(self) -> bool:
        """Whether it says who wrote what, so that names can be replaced."""
        return _TEXT_KINDS[self.kind].messages is not None

    def people(self, chunks: Iterable[bytes], name: str) -> Iterator[tuple[str, ...]]:
        """Whom the whole of it names as a writer, or marks as mentioned, each by one or more names."""
        messages = _TEXT_KINDS[self.kind].messages
        assert messages is not None
        for message in messages(_whole_text(chunks, name, self.kind), name):
            yield from message.people

    def reader(self, name: str, place: Place = START) -> "DocumentReader":
        """What reads it from a place on."""
        return DocumentReader(name, place, self)

    def __str__(self) -> str:
        return f"{self.kind}: {_TEXT_KINDS[self.kind].what}"


class DocumentReader:
    """Chunks of UTF-8 -> one block, when the document has ended."""

    def __init__(self, name: str, place: Place, document: TextDocument) -> None:
        self.name, self.place, self._document = name, place, document
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes, final: bool = False) -> bytes:
        """As `Reader.feed`; `CorpusError` names a document that is damaged or holds no words."""
        kind, anonymiser = self._document.kind, self._document.anonymiser
        self._held.append(chunk)
        self._size += len(chunk)
        _refuse_huge(self._size, self.name, kind)
        if not final or (self.place.offset and not self._size):
            return b""
        text, about = _whole_text(self._held, self.name, kind), _TEXT_KINDS[kind]
        found = _days(about.messages(text, self.name), anonymiser) if about.messages else about.stories(text, self.name)
        stories = [story for story in found if story.strip()]
        if not stories:
            raise CorpusError(
                f"{self.name} is {kind} without any words in it; give another file, or --column '' to learn it as it "
                "lies"
            )
        self.place = Place(self.place.offset + self._size, 0)
        return b"".join(as_block(story, self.name) for story in stories)


def _refuse_huge(size: int, name: str, kind: str) -> None:
    if size > LARGEST_BYTES:
        raise CorpusError(f"{name} is {kind} of more than {LARGEST_BYTES:,} bytes; cut it into smaller ones")


def _whole_text(chunks: Iterable[bytes], name: str, kind: str) -> str:
    held, size = list[bytes](), 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        _refuse_huge(size, name, kind)
    try:
        return b"".join(held).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{name} is not UTF-8: invalid byte at position {error.start:,}; name its encoding with --encoding"
        ) from None


def _damaged(
    name: str, kind: str, why: object, otherwise: str = "give --column '' to learn it as it lies"
) -> CorpusError:
    told = " ".join(str(why).split())[:200]
    return CorpusError(
        f"{name} is {kind} that cannot be read ({told}); it is damaged: copy it again, "
        f"or {otherwise.replace('FILE', name)}"
    )


def _html(text: str, name: str) -> Iterator[str]:
    require("inscriptis", f"reading {name}, which is HTML,")
    import inscriptis
    from lxml.etree import LxmlError

    without_declaration = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)  # lxml refuses one that names an encoding
    try:
        found = inscriptis.get_text(without_declaration)
    except (LxmlError, ValueError, RecursionError) as error:
        raise _damaged(name, "HTML", error) from None
    lines = [line.rstrip().replace("\u00a0", " ") for line in found.strip("\n").split("\n")]
    yield "\n".join(lines).strip() + "\n" if any(lines) else ""


def _subtitles(text: str, name: str) -> Iterator[str]:
    require("pysubs2", f"reading {name}, which are subtitles,")
    import pysubs2

    try:
        film = pysubs2.SSAFile.from_string(text)
    except (pysubs2.exceptions.Pysubs2Error, ValueError, LookupError) as error:
        raise _damaged(name, "subtitles", error) from None
    said: list[str] = []
    for event in film:
        line = " ".join(event.plaintext.split())
        if line and not event.is_comment and not event.is_drawing and said[-1:] != [line]:  # rolling ones repeat
            said.append(line)
    yield "".join(f"{line}\n" for line in said)


# A message begins with its date, as the phone's language writes it; what follows without one goes on with the last.
_WHEN = (
    r"^[\u200e\u200f]?\[?(?P<day>\d{1,4}[./-]\d{1,2}[./-]\d{1,4}),?\s"
    r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?[AaPp]\.?\s?[Mm]\.?)?(?:\]\s| - )"
)
_SPEAKER = r"(?s)(?P<name>[^:\n]{1,60}): (?P<words>.*)"
_MENTIONED = r"@\u2068([^\u2069\n]{1,60})\u2069"
_OMITTED = r"[\u200e\u200f]|<[^<>\n]{3,60}>$"  # marks what the messenger says itself; <Media omitted>


@dataclass(frozen=True)
class Message:
    """What somebody wrote to a chat."""

    day: str
    name: str
    words: str
    people: tuple[tuple[str, ...], ...]  # whom it names, each by one or more names


def _whatsapp(text: str, _name: str) -> Iterator[Message]:
    messages: list[tuple[str, str]] = []
    for line in text.splitlines():
        if begins := re.match(_WHEN, line):
            messages.append((begins["day"], line[begins.end() :]))
        elif messages:
            day, rest = messages[-1]
            messages[-1] = (day, f"{rest}\n{line}")
    said = [(day, re.fullmatch(_SPEAKER, rest)) for day, rest in messages]
    for day, found in said:
        if found and not re.match(_OMITTED, found["words"]):
            mentioned = re.findall(_MENTIONED, found["words"])
            people = ((found["name"],), *((name,) for name in mentioned))
            yield Message(day, found["name"], found["words"].rstrip(), people)


def _days(messages: Iterable[Message], anonymiser: Anonymiser | None) -> Iterator[str]:
    """A story for each day."""
    lines: list[str] = []
    today = None
    for message in messages:
        if message.day != today and lines:
            yield "".join(lines)
            lines = []
        today = message.day
        if message.words.strip():
            name, words = " ".join(message.name.split()), message.words
            if anonymiser:
                name, words = anonymiser.name_of(name), anonymiser.replace(words)
            lines.append(f"{name}: {words}\n")
    yield "".join(lines)


def _parse(text: str, name: str, kind: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, kind, error) from None


def _objects(of: Any, *keys: str) -> list[dict[str, Any]]:
    """The objects of the list that lies under some keys in a JSON value, if there is one."""
    for key in keys:
        of = of.get(key) if isinstance(of, dict) else None
    return [each for each in of if isinstance(each, dict)] if isinstance(of, list) else []


def _telegram(text: str, name: str) -> Iterator[Message]:
    export = _parse(text, name, "a Telegram export")
    for k, chat in enumerate([export, *_objects(export, "chats", "list")]):
        for message in _objects(chat, "messages"):
            if message.get("type") == "message":
                writer, words = str(message.get("from") or NOBODY), message.get("text")
                mentioned = [piece for piece in words if isinstance(piece, dict)] if isinstance(words, list) else []
                people = [str(piece.get("text")) for piece in mentioned if piece.get("type") == "mention_name"]
                yield Message(
                    f"{k} {str(message.get('date'))[:10]}",
                    writer,
                    _telegram_words(words),
                    ((writer,), *((person,) for person in people)),
                )


def _telegram_words(text: Any) -> str:
    """A message's words: a string, or pieces, of which links and marked words are objects."""
    if isinstance(text, list):
        return "".join(_telegram_words(piece) for piece in text)
    return str(text.get("text", "")) if isinstance(text, dict) else str(text or "")


def _discord(text: str, name: str) -> Iterator[Message]:
    def names(user: Any) -> tuple[str, ...]:
        found = [user.get("nickname"), user.get("name")] if isinstance(user, dict) else []
        return tuple(str(name) for name in found if name) or (NOBODY,)

    for message in _objects(_parse(text, name, "a Discord export"), "messages"):
        writer = names(message.get("author"))
        people = (writer, *map(names, _objects(message, "mentions")))
        yield Message(str(message.get("timestamp"))[:10], writer[0], str(message.get("content") or ""), people)


def _tunes(text: str, _name: str) -> Iterator[str]:
    """Each from its X: line to the next; what stands before the first belongs to none."""
    for tune in re.split(r"(?m)^(?=X:)", text)[1:]:
        yield tune.strip() + "\n"


@dataclass(frozen=True)
class _TextKind:
    begins: (
        str  # the beginning of such a file, compiled when the first file is looked at; "" where only the name says it
    )
    endings: tuple[str, ...]  # that say it where the beginning does not
    what: str
    stories: Callable[[str, str], Iterator[str]] = lambda _text, _name: iter(())  # (text, name)
    messages: Callable[[str, str], Iterator[Message]] | None = None  # of a chat, which has no other stories


_MESSAGES = r'.{0,4000}"messages"\s*:\s*\['
_TEXT_KINDS = {
    "HTML": _TextKind(  # a text file that begins so may be a text about HTML
        "", (".html", ".htm", ".xhtml"), "its words without the tags are a story", _html,
    ),
    "subtitles": _TextKind(
        r"WEBVTT\b|\s*\[Script Info\]|\s*\d+\r?\n\d\d:\d\d:\d\d[,.]\d{3} --> ",
        (".srt", ".vtt", ".ass", ".ssa"), "the film is a story, a line for each subtitle", _subtitles,
    ),
    "a WhatsApp chat": _TextKind(
        rf"(?m)(?:{_WHEN}.*\n(?:.*\n){{0,40}}?){{2}}", (),
        "each day is a story, a line for each message", messages=_whatsapp,
    ),
    "a Telegram export": _TextKind(
        (
            r'(?s)\s*\{(?:.{0,1000}"type"\s*:\s*"(?:\w+_(?:chat|group|supergroup|channel)|saved_messages|bot_chat)"'
            rf'{_MESSAGES}|.{{0,20000}}"chats"\s*:\s*\{{.{{0,2000}}"list"\s*:\s*\[)'
        ), (), "each day of a chat is a story, a line for each message", messages=_telegram,
    ),
    "a Discord export": _TextKind(
        rf'(?s)\s*\{{\s*"guild"\s*:.{{0,4000}}"channel"\s*:{_MESSAGES}', (),
        "each day is a story, a line for each message", messages=_discord,
    ),
    "ABC music": _TextKind(
        r"(?:%abc.*\n)?(?:[%\w].*\n|\s*\n){0,40}?X:\s*\d+.*\n(?:[A-Z%].*\n){0,40}?K:", (".abc",),
        "each tune is a story", _tunes,
    ),
}  # fmt: skip


def text_document(text: str, ending: str) -> TextDocument | None:
    """The document that a text file is, by its beginning or its ending; None if it is a text as it lies."""
    head = text.removeprefix("\ufeff")
    for kind, about in _TEXT_KINDS.items():
        if ending in about.endings or (about.begins and re.match(about.begins, head)):
            return TextDocument(kind)
    return None


# Binary documents


@dataclass(frozen=True)
class BinaryDocument:
    """A file that is read from its path."""

    kind: str
    column: str | None = None  # of Parquet
    anonymiser: Anonymiser | None = field(default=None, compare=False, repr=False)

    @property
    def names_people(self) -> bool:
        """Whether it says who wrote what, so that names can be replaced."""
        return self.kind == MAIL

    def people(self, path: Path) -> Iterator[tuple[str, ...]]:
        """Whom the headers of mail name."""
        import mailbox
        from email.header import decode_header, make_header
        from email.utils import getaddresses

        box = mailbox.mbox(path, create=False)
        try:
            for message in box:
                written = [value for key in _PEOPLE for value in message.get_all(key, [])]
                for shown, address in getaddresses([str(value) for value in written]):
                    with suppress(LookupError, ValueError):  # a character set that nobody knows
                        shown = str(make_header(decode_header(shown)))
                    yield shown, "" if (local := address.partition("@")[0]).lower() in _NO_PERSON else local
        finally:
            box.close()

    def stories(self, path: Path, name: str) -> Iterator[str]:
        """Its stories in their order; `CorpusError` names a file that is damaged or holds no words."""
        found = _BINARY_KINDS[self.kind][0](path, name, self.column)
        if self.anonymiser:
            found = map(self.anonymiser.replace, found)
        some = False
        for story in found:
            if story.strip():
                some = True
                yield story
        if not some:
            raise CorpusError(f"{name} is {self.kind} without any words in it; give another file")

    def __str__(self) -> str:
        return f"{self.kind}: {_BINARY_KINDS[self.kind][1]}"


def _epub(path: Path, name: str, _column: str | None) -> Iterator[str]:
    """The documents of its spine in their order: https://www.w3.org/TR/epub-33/#sec-package-doc."""
    require("inscriptis", f"reading {name}, which is an EPUB book,")
    import zipfile
    from urllib.parse import unquote

    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    try:
        with zipfile.ZipFile(path) as book:
            container = etree.fromstring(book.read("META-INF/container.xml"), parser)
            package_name = container.find(".//{*}rootfile").get("full-path")
            package = etree.fromstring(book.read(package_name), parser)
            items = {item.get("id"): item for item in package.iterfind(".//{*}manifest/{*}item")}
            locked = _locked_names(book, etree, parser)
            chapters: list[str] = []
            for entry in package.iterfind(".//{*}spine/{*}itemref"):
                item = items.get(entry.get("idref"))
                if item is None or entry.get("linear") == "no" or "nav" in (item.get("properties") or "").split():
                    continue
                inside = str(PurePosixPath(package_name).parent / unquote(item.get("href")))
                if inside in locked:
                    raise CorpusError(f"{name} is an EPUB book that is encrypted (DRM); give one that is not")
                if "html" in (item.get("media-type") or ""):
                    if book.getinfo(inside).file_size > LARGEST_BYTES:
                        raise CorpusError(f"{name} has a chapter {inside} that is too large to be one")
                    chapters += _html(book.read(inside).decode("utf-8-sig", "replace"), name)
    except (
        zipfile.BadZipFile,
        KeyError,
        AttributeError,
        etree.LxmlError,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        if isinstance(error, OSError) and not isinstance(error, zipfile.BadZipFile) and error.errno:
            raise
        raise _damaged(name, "an EPUB book", error, PANDOC) from None
    yield "\n".join(chapter for chapter in chapters if chapter.strip())


def _locked_names(book: "ZipFile", etree: Any, parser: Any) -> set[str]:
    """What of it is encrypted."""
    from urllib.parse import unquote

    if "META-INF/encryption.xml" not in book.namelist():
        return set()
    tree = etree.fromstring(book.read("META-INF/encryption.xml"), parser)
    return {unquote(found.get("URI")) for found in tree.iterfind(".//{*}CipherReference")}


def _docx(path: Path, name: str, _column: str | None) -> Iterator[str]:
    require("docx", f"reading {name}, which is a Word document,")
    import zipfile

    import docx
    from docx.opc.exceptions import OpcError
    from docx.table import Table
    from lxml.etree import LxmlError

    try:
        lines = []
        for block in docx.Document(str(path)).iter_inner_content():
            if isinstance(block, Table):
                lines += ["\t".join(cell.text for cell in row.cells) for row in block.rows]
            else:
                lines.append(block.text)
    except (OpcError, LxmlError, zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise _damaged(name, "a Word document (DOCX)", error, PANDOC) from None
    yield "".join(f"{line}\n" for line in lines)


def _mbox(path: Path, name: str, _column: str | None) -> Iterator[str]:
    import mailbox

    box = mailbox.mbox(path, create=False)
    try:
        for message in box:
            yield _body(message, name)
    finally:
        box.close()


def _body(message: Any, name: str) -> str:
    """The words of a message: its plain parts, or else those of its HTML, but for what is attached."""
    parts = [
        part for part in message.walk() if not part.is_multipart() and part.get_content_disposition() != "attachment"
    ]
    plain = [_decode_part(part) for part in parts if part.get_content_type() == "text/plain"]
    if any(text.strip() for text in plain):
        return "\n".join(text.replace("\r\n", "\n") for text in plain)
    pages = [_decode_part(part) for part in parts if part.get_content_type() == "text/html"]
    return "\n".join(text for page in pages if page.strip() for text in _html(page, name))


def _decode_part(part: Any) -> str:
    data = part.get_payload(decode=True) or b""
    try:
        text = data.decode(part.get_content_charset() or "utf-8", "replace")
    except LookupError:  # a character set that nobody knows
        text = data.decode("utf-8", "replace")
    return str(text).replace("\0", "")


def _parquet(path: Path, name: str, column: str | None) -> Iterator[str]:
    require("pyarrow", f"reading {name}, which is a Parquet table,")
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, memory_map=False) as table:
            schema = table.schema_arrow
            words = [f.name for f in schema if pyarrow.types.is_string(f.type) or pyarrow.types.is_large_string(f.type)]
            chosen = column or clear_column(words) or (words[0] if len(words) == 1 else None)
            if chosen not in words:
                raise no_column(name, "a Parquet table", words, column)
            for batch in table.iter_batches(batch_size=1024, columns=[chosen]):
                yield from (cell for cell in batch.column(0).to_pylist() if cell)
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(name, "a Parquet table", error, PANDAS.format("read_parquet")) from None


_Stories = Callable[[Path, str, str | None], Iterator[str]]
MAIL = "mail (mbox)"
_NO_PERSON = {
    *("admin", "contact", "hello", "info", "mail", "me", "news", "newsletter"),
    *("no-reply", "noreply", "office", "support", "team"),
}  # fmt: skip
_PEOPLE = ("From", "To", "Cc", "Sender", "Reply-To")
_MBOX = rb"From \S+.*\r?\n(?:[>A-Za-z0-9-]+:.*\r?\n(?:[ \t].*\r?\n)*)+\r?\n"
_BINARY_KINDS: dict[str, tuple[_Stories, str]] = {  # by the names of `storycell.data.binary`, which tells them
    "an EPUB book": (_epub, "the book is a story"),
    "a Word document (DOCX)": (_docx, "the document is a story"),
    "a Parquet table": (_parquet, "each cell of a column is a story"),
    "a MIDI file": (read_midi, "the file is a story, a line for each bar"),
    MAIL: (_mbox, "the words of each message are a story"),
}


def binary_document(head: bytes, column: str | None) -> BinaryDocument | None:
    """The document that a file with such a beginning is."""
    kind = MAIL if re.match(_MBOX, head) else (kind_of(head) or ("", ""))[0]
    if kind not in _BINARY_KINDS:
        return None
    return BinaryDocument(kind, column if kind == "a Parquet table" else None)


def skip(stories: Iterator[str], count: int) -> Iterator[str]:
    """The stories behind the first `count`."""
    for k, story in enumerate(stories):
        if k >= count:
            yield story
