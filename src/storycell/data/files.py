"""Files, folders, globs and standard input -> sources of byte chunks.

Every `Source` is read in constant memory, as often as wanted (standard input and pipes are kept in temporary files for
that); the content of a file, not its name, decides how it is read (`packing`, `formats`).

The files of a folder or glob come in the order of their names. Links are followed, and a file that can be reached in
several ways is read once, so loops end. Hidden files are left out, and so is what is no text: files that storycell
itself has made (runs, prepared text) and caches that are marked as such.
"""

import atexit
import codecs
import fnmatch
import glob
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

from storycell.data import blocks, documents, encodings, packing
from storycell.data.anonymise import Anonymiser
from storycell.data.binary import refuse_binary
from storycell.data.blocks import Bookmark, Place, after, decode, is_utf8, read_on, refuse_marks
from storycell.data.documents import BinaryDocument, TextDocument
from storycell.data.formats import JSON_LINES_ENDINGS, Form, Head, Lines, MoreWantedError, Notes, PlainText
from storycell.data.json_text import JsonLines
from storycell.data.vocab import SEPARATOR
from storycell.errors import CorpusError

_CACHE_MARK = b"Signature: 8a477f597d28d172789f06886806bc55"  # begins a CACHEDIR.TAG: https://bford.info/cachedir/
_ANY = "**"  # in a pattern: folders, none or any number


class _Found(NamedTuple):
    by_link: bool  # sorts a file's own name before those that links give it
    path: Path
    real: str


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and in the folders below."""
    return _each_once(_walk(folder, hidden=False))


def matching(pattern: str) -> list[Path]:
    """The files that a pattern matches."""
    parts = Path(pattern).parts
    k = parts.index(_ANY) if _ANY in parts else len(parts)
    before, below = Path(*parts[:k]), parts[k:]
    found = [Path(path) for path in glob.glob(str(before))]  # noqa: PTH207 - Path.glob cannot start anywhere
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), k)  # folders named in so many words
    found = [path for path in found if not any(is_no_text(Path(*path.parts[:n])) for n in range(fixed + 1, k + 1))]
    if not below:
        real = [os.path.realpath(path) for path in found]
        by_link = [os.path.abspath(path) != own for path, own in zip(found, real, strict=True)]  # noqa: PTH100
        return _each_once(_Found(*each) for each in zip(by_link, found, real, strict=True) if each[1].is_file())
    hidden = any(part.startswith(".") for part in below)
    return _each_once(
        file
        for folder in found
        if folder.is_dir()
        for file in _walk(folder, hidden)
        if _matches(file.path.parts[len(folder.parts) :], below)
    )


def is_no_text(folder: Path) -> bool:
    """Whether a folder is a run, a text that was prepared, or a cache."""
    return is_run(folder) or (folder / "prepared.json").is_file() or _is_marked(folder / "CACHEDIR.TAG")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, finished or not."""
    weights = ("model.safetensors", "last.safetensors")
    return all((folder / name).is_file() for name in ("config.json", "vocab.json")) and any(
        (folder / name).is_file() for name in weights
    )


def _is_marked(tag: Path) -> bool:
    if not tag.is_file():
        return False
    with tag.open("rb") as file:
        return file.read(len(_CACHE_MARK)) == _CACHE_MARK


def _walk(top: Path, hidden: bool) -> Iterator[_Found]:
    """The files below a folder; every folder is entered once, those that only links lead to after all others."""
    own, linked, seen = [(False, top)], list[Path](), set[str]()
    while own or linked:
        by_link, folder = own.pop() if own else (True, linked.pop())
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        for entry in os.scandir(folder):
            path = folder / entry.name
            if entry.name.startswith(".") and not hidden:
                continue
            if not path.is_dir():
                if path.is_file():
                    is_link = entry.is_symlink()
                    place = os.path.realpath(path) if is_link else os.path.join(real, entry.name)  # noqa: PTH118
                    yield _Found(by_link or is_link, path, place)
            elif is_no_text(path):
                continue
            elif entry.is_symlink():
                linked.append(path)
            else:
                own.append((by_link, path))
        linked.sort(reverse=True)  # the first one is taken next


def _each_once(found: Iterable[_Found]) -> list[Path]:
    names: dict[str, Path] = {}
    for file in sorted(found):
        names.setdefault(file.real, file.path)
    return sorted(names.values())


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern, as `glob` has it."""
    if not pattern:
        return not parts
    if set(pattern) == {_ANY}:  # at the end: what lies below, and never the file itself
        return bool(parts) and not any(part.startswith(".") for part in parts)
    if pattern[0] == _ANY and _matches(parts, pattern[1:]):
        return True
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    if pattern[0] == _ANY:
        return _matches(parts[1:], pattern)
    return fnmatch.fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16  # looked at to tell what a file is; 16 times as many, and so on, where its first record is longer
_TEXT_ENDINGS = (".txt", ".text", ".md", *JSON_LINES_ENDINGS)
_PACKED_ENDINGS = packing.ENDINGS
_SEPARATOR = SEPARATOR.encode()
_LOOSE_SEPARATOR = (
    f"{{}} holds {SEPARATOR} inside a line or with blanks beside it, where it counts as {len(SEPARATOR)} characters "
    "each time; to separate stories it has to be a line of its own: "
    f"sed 's/[[:blank:]]*{SEPARATOR}[[:blank:]]*/\\n{SEPARATOR}\\n/g' FILE > NEW"
)
_CONTROLS = (
    "{} holds control characters (U+0080 to U+009F), which are kept: it seems that it was cp1252 and has been "
    "converted as latin-1; convert it again from what it was made from"
)


Advance = Callable[[int], None]  # is told how many bytes were read from disk


@dataclass(frozen=True)
class FileSource:
    """One file: text, JSON or a table, plain or packed, in UTF-8 or `encoding`."""

    path: Path
    encoding: str = "utf-8"
    shown: str = ""
    column: str | None = None
    lines: bool = False
    labels: tuple[str, ...] = ()
    anonymiser: Anonymiser | None = field(default=None, compare=False, repr=False)
    notes: Notes = field(default_factory=Notes, compare=False, repr=False)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.shown or str(self.path)

    @property
    def size_bytes(self) -> int:
        """Its size on disk."""
        with self._failures_named():
            return self.path.stat().st_size

    @property
    def stamp(self) -> tuple[int, ...]:
        """Its size and when it was last written to."""
        with self._failures_named():
            about = self.path.stat()
            return about.st_size, about.st_mtime_ns

    def blocks(self, advance: Advance = lambda _: None, bookmark: Bookmark | None = None) -> Iterator[bytes]:
        """Its normalised blocks (see `storycell.data.blocks`), from the bookmark on.

        A plain file of UTF-8 is read from there; any other is unpacked and decoded up to there first, which is a
        quarter of the work or less.
        """
        mark = bookmark or Bookmark()
        packed, form = self._packing_and_form
        before = self.anonymiser.counts.copy() if self.anonymiser else None
        if isinstance(form, BinaryDocument):
            yield from self._note_oddities(self._blocks_of(form, mark, advance))
        else:
            yield from self._blocks_of_text(packed, form, mark, advance)
        if self.anonymiser and before is not None:
            self._note_replaced(self.anonymiser.counts - before)

    def _blocks_of_text(self, packed: str, form: Form, mark: Bookmark, advance: Advance) -> Iterator[bytes]:
        as_it_is = is_utf8(self.encoding)
        with self._failures_named(), self.path.open("rb") as raw:
            if sought := as_it_is and not packed:
                raw.seek(mark.place.offset)
            chunks = _report_progress(packing.unpack(raw, packed, CHUNK_BYTES), raw, advance)
            chunks = chunks if as_it_is else decode(chunks, self.name, self.encoding)
            reader = form.reader(self.name, mark.place)
            yield from self._note_oddities(
                read_on(reader, chunks if sought else after(chunks, mark.place.offset), mark)
            )

    def _blocks_of(self, document: BinaryDocument, mark: Bookmark, advance: Advance) -> Iterator[bytes]:
        """A block for each of its stories; those before the bookmark are read again and left out."""
        with self._failures_named():
            for story in documents.skip(document.stories(self.path, self.name), mark.place.offset):
                mark.place = Place(mark.place.offset + 1)
                yield documents.as_block(story, self.name)
            advance(self.size_bytes)

    @property
    def names_people(self) -> bool:
        """Whether it is a chat or mail, whose names can be replaced."""
        form = self._packing_and_form[1]
        return isinstance(form, TextDocument | BinaryDocument) and form.names_people

    def meet_people(self) -> None:
        """Tell the anonymiser whom the file names; `CorpusError` where it is neither a chat nor mail."""
        packed, form = self._packing_and_form
        assert self.anonymiser is not None
        if not (isinstance(form, TextDocument | BinaryDocument) and form.names_people):
            what = f"read as {form}" if str(form) else "a plain text"
            raise CorpusError(
                f"{self.name} is {what}, which does not say whom to replace; --anonymise is for chats (WhatsApp, "
                "Telegram, Discord) and mail"
            )
        with self._failures_named():
            if isinstance(form, BinaryDocument):
                self.anonymiser.meet(form.people(self.path))
                return
            with self.path.open("rb") as raw:
                chunks = packing.unpack(raw, packed, CHUNK_BYTES)
                chunks = chunks if is_utf8(self.encoding) else decode(chunks, self.name, self.encoding)
                self.anonymiser.meet(form.people(chunks, self.name))

    def _note_replaced(self, counts: Counter[str]) -> None:
        self.notes.say(
            f"replaced {self.name}",
            f"{self.name}: --anonymise replaced names in what is said {counts['names']:,} times, and masked "
            f"{counts['numbers']:,} telephone numbers and {counts['addresses']:,} e-mail addresses",
        )

    def raw_chunks(self) -> Iterator[bytes]:
        """How it is read, and its bytes as they lie on disk."""
        packed, form = self._packing_and_form
        is_plain = isinstance(form, PlainText)
        known_before = is_plain or form == JsonLines()  # and its digest stays, so that runs go on
        yield repr((packed, not is_plain if known_before else form)).encode()
        if self.labels:
            yield repr(self.labels).encode()
        if self.anonymiser:
            yield b"anonymised"
        with self._failures_named(), self.path.open("rb") as raw:
            yield from packing.read(raw, CHUNK_BYTES)

    @cached_property
    def _packing_and_form(self) -> tuple[str, Form | BinaryDocument]:
        """What its beginning and its name say of it; said is what a user may not expect."""
        name = self.name.lower()
        suffix = next((ending for ending in _PACKED_ENDINGS if name.endswith(ending)), "")
        with self._failures_named():
            with self.path.open("rb") as raw:
                packed = packing.packing_of(raw.read(packing.LONGEST_BEGINNING)) or suffix
            ending = Path(name.removesuffix(suffix)).suffix
            form = self._form(packed, ending)
        if isinstance(form, TextDocument | BinaryDocument):
            form = replace(form, anonymiser=self.anonymiser)
        as_named = form == JsonLines() and ending in JSON_LINES_ENDINGS
        if not isinstance(form, PlainText | Lines) and not as_named:
            self.notes.say(f"form {form!r}", f"{self.name} is read as {form}")
        elif isinstance(form, PlainText) and form.looks_like:
            self.notes.say("looks", f"{self.name} {form.looks_like}")
        elif isinstance(form, PlainText) and self.column:
            self.notes.say("no columns", f"{self.name} is a plain text without columns, and is read as it lies")
        return packed, form

    def _form(self, packed: str, ending: str) -> Form | BinaryDocument:
        """The form of the file, from as much of it as it takes to tell."""
        if not packed and self.column != "":
            with self.path.open("rb") as raw:
                if document := documents.binary_document(raw.read(_HEAD_BYTES), self.column):
                    if self.lines or self.labels:
                        raise CorpusError(
                            f"{self.name} is {document}: --lines and --label are for text, CSV and JSON; make one of it"
                        )
                    return document
        size, longest = _HEAD_BYTES, blocks.LONGEST_RECORD_BYTES
        while True:
            data, is_all = self._head(packed, size)
            try:
                text = codecs.utf_8_decode(data, "strict", False)[0]
            except UnicodeDecodeError as error:
                if ending not in JSON_LINES_ENDINGS:  # which are read until there, and the line named
                    return PlainText()  # whose reader says what is wrong
                text, is_all = data[: error.start].decode(), True
            if "\0" in text:
                return PlainText()
            try:
                return Head(text, is_all, self.name, ending, self.column, self.lines, self.labels).form()
            except MoreWantedError:
                if size < longest:
                    size = min(16 * size, longest)
                elif ending in JSON_LINES_ENDINGS:  # whose lines may be longer
                    return JsonLines(self.column or "text", self.labels)
                else:
                    raise CorpusError(
                        f"{self.name} has a first record of more than {longest:,} bytes; make smaller ones of it, "
                        "or give --column '' to learn the file as it lies"
                    ) from None

    def _head(self, packed: str, size: int) -> tuple[bytes, bool]:
        """(at least so many bytes from its beginning on, as UTF-8; whether these are all)."""
        with self.path.open("rb") as raw:
            data, is_all = _first(packing.unpack(raw, packed, size), size)
        refuse_binary(data, self.name)
        if is_utf8(self.encoding):
            refuse_marks(data, self.name)
            return data, is_all
        with self.path.open("rb") as raw:
            return _first(decode(packing.unpack(raw, packed, size), self.name, self.encoding), size)

    def _note_oddities(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The same blocks; what in them may not be what was meant is said."""
        before = b""
        for block in blocks:
            if _SEPARATOR in (before + block[: len(_SEPARATOR)]) or _SEPARATOR in block:
                self.notes.say("separators", _LOOSE_SEPARATOR.format(self.name))
            if not block.isascii() and encodings.CONTROLS_UTF8.search(block):
                self.notes.say("controls", _CONTROLS.format(self.name))
            before = (before + block[-len(_SEPARATOR) :])[1 - len(_SEPARATOR) :]
            yield block

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """What a disk or a decompressor raises, as a `CorpusError` with the name of the file."""
        try:
            yield
        except packing.FAILURES as error:
            raise CorpusError(f"{self.name} is truncated or damaged ({error}); unpack or copy it again") from None
        except OSError as error:
            raise CorpusError(f"{self.name} cannot be read: {error.strerror or error}") from None


def _first(chunks: Iterator[bytes], size: int) -> tuple[bytes, bool]:
    """(at least `size` of the bytes, whether these are all)."""
    found, length = list[bytes](), 0
    for chunk in chunks:
        found.append(chunk)
        length += len(chunk)
        if length >= size:
            return b"".join(found), False
    return b"".join(found), True


def _report_progress(chunks: Iterator[bytes], raw: IO[bytes], advance: Advance) -> Iterator[bytes]:
    """The same chunks; how much was read from disk for each is told."""
    position = 0
    for chunk in chunks:
        advance(raw.tell() - position)
        position = raw.tell()
        yield chunk


def standard_input(encoding: str) -> FileSource:
    """What comes in through `-`, kept in a temporary file until the process ends."""
    if sys.stdin is None:
        raise CorpusError("standard input is closed; name a file")
    return _spool(sys.stdin.buffer, "standard input", encoding)


def _spool(stream: IO[bytes], shown: str, encoding: str) -> FileSource:
    with tempfile.NamedTemporaryFile(prefix="storycell-", suffix=".txt", delete=False) as kept:
        atexit.register(_forget, Path(kept.name))
        try:
            shutil.copyfileobj(stream, kept, CHUNK_BYTES)
        except OSError as error:
            raise CorpusError(f"{shown} cannot be kept in {kept.name}: {error.strerror or error}") from None
    return FileSource(Path(kept.name), encoding, shown)


def _forget(path: Path) -> None:
    with suppress(OSError):  # Windows removes no file that is still read
        path.unlink(missing_ok=True)


def expand(word: str, encoding: str) -> list[FileSource] | None:
    """The files that a word names: itself, those in a folder, those that a glob matches. None if it names none."""
    try:
        return _expand(word, encoding) if word else None
    except OSError as error:
        raise CorpusError(f"{word[:200]} cannot be read: {error.strerror or error}") from None


def _expand(word: str, encoding: str) -> list[FileSource] | None:
    path = Path(word)
    if (path / "prepared.json").is_file():
        raise CorpusError(f"the folder {word} was made by prepare; give it alone, or the text it was made from")
    if is_run(path):
        raise CorpusError(f"the folder {word} is a run, not a text; give the text")
    if path.is_dir():
        below = files_in(path)
        found = [p for p in below if _is_text(p)] or [p for p in below if p.name.lower().endswith(documents.ENDINGS)]
        if not found:
            endings = " ".join(_TEXT_ENDINGS)
            raise CorpusError(
                f"the folder {word} holds no text; a text ends in one of {endings} (or these with .gz, .zst), "
                f"or else in one of {' '.join(documents.ENDINGS)}, "
                "and what is in a run or a cache is none; other files are read when they are named, as by a glob"
            )
        return [FileSource(p, encoding) for p in found]
    if path.exists() and not path.is_file():  # a pipe can be read once
        with path.open("rb") as pipe:
            return [_spool(pipe, word, encoding)]
    if path.exists():
        return [FileSource(path, encoding)]
    if glob.has_magic(word):
        return [FileSource(p, encoding) for p in matching(word)] or None
    return None


def _is_text(path: Path) -> bool:
    endings = tuple(end + packed for end in _TEXT_ENDINGS for packed in ("", *_PACKED_ENDINGS))
    return path.name.lower().endswith(endings)


def looks_like_a_path(word: str) -> bool:
    """Whether a word that names no file was meant to name one."""
    return any(c in word for c in ("/", os.sep, ".")) or glob.has_magic(word)
