"""Words a user typed -> stories, as a stream of blocks that fits in memory however large the text.

The words are files, folders, globs, `-`, or the name of a corpus: `stories` (embedded, endless, with a known floor) or
`tinystories` (downloaded). The blocks of a `Corpus` are UTF-8 with the byte 0xFF between two stories (see
`storycell.data.vocab`), and can be read as often as wanted.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from storycell.data import files
from storycell.data.anonymise import Anonymiser
from storycell.data.blocks import Bookmark, TextReader, read_on
from storycell.data.embedded import StoriesSource
from storycell.data.files import Advance, FileSource
from storycell.data.formats import Notes
from storycell.data.tinystories import tinystories
from storycell.data.vocab import BOUNDARY_BYTE, SEPARATOR, well_formed
from storycell.errors import CorpusError

NAMES = ("stories", "tinystories")
_NO_ENCODING = "there is no encoding {!r}; try utf-8, cp1252 or utf-16"


class Named(str):
    """The name of a corpus that was not typed: no file or folder of that name takes its place."""

    __slots__ = ()


class Source(Protocol):
    """One file, or what takes the place of one."""

    @property
    def name(self) -> str:
        """What errors and reports call it."""

    @property
    def size_bytes(self) -> int:
        """How many bytes `blocks` will report to `advance`."""

    def blocks(self, advance: Advance = ..., bookmark: Bookmark | None = ...) -> Iterator[bytes]:
        """Its normalised blocks from the bookmark on, which moves along."""

    def raw_chunks(self) -> Iterator[bytes]:
        """Bytes that determine its stories, for hashing."""

    @property
    def stamp(self) -> tuple[int, ...]:
        """What differs when its content was changed meanwhile, found without reading it."""


@dataclass(frozen=True)
class Corpus:
    """Sources read one after the other, a boundary between them."""

    words: tuple[str, ...]  # what the user typed
    sources: tuple[Source, ...]
    encoding: str = "utf-8"
    column: str | None = None  # of tables and JSON, that holds the text; None: the one that is clear
    lines: bool = False  # whether each line of a file is a story
    labels: tuple[str, ...] = ()  # columns whose values each story begins with
    anonymiser: Anonymiser | None = field(default=None, compare=False, repr=False)

    @property
    def names_people(self) -> bool:
        """Whether all of it is chats and mail."""
        return all(isinstance(source, FileSource) and source.names_people for source in self.sources)

    def refuse_names_in_words(self) -> None:
        """`CorpusError` where a path, which is recorded, holds a name that is replaced in the text."""
        for word in self.words if self.anonymiser else ():
            if self.anonymiser and self.anonymiser.names_somebody(word):
                raise CorpusError(
                    f"the path {word}, which would be recorded, holds a name that --anonymise replaces; move the file "
                    "to another name, or give it by standard input: storycell train - --anonymise < FILE"
                )

    @property
    def name(self) -> str:
        """What errors and reports call it."""
        return " ".join(self.words)

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded `stories`, whose floor is known."""
        return len(self.sources) == 1 and isinstance(self.sources[0], StoriesSource)

    @property
    def size_bytes(self) -> int:
        """The size of all sources."""
        return sum(source.size_bytes for source in self.sources)

    def blocks(self, advance: Advance = lambda _: None) -> Iterator[bytes]:
        """All blocks, with the boundary byte between two stories and between two sources."""
        for k, source in enumerate(self.sources):
            if k > 0:
                yield BOUNDARY_BYTE
            yield from source.blocks(advance)

    def digest(self, advance: Advance = lambda _: None) -> str:
        """A hash of what the sources hold now and how it is read; names and dates do not enter."""
        content = hashlib.blake2b(self.encoding.encode(), digest_size=16)
        for source in self.sources:
            content.update(b"%d:" % source.size_bytes)
            for chunk in source.raw_chunks():
                content.update(chunk)
                advance(len(chunk))
        return content.hexdigest()

    def stamps(self) -> list[tuple[int, ...]]:
        """The stamps of all sources: two readings of a text with equal ones in between have read the same."""
        return [source.stamp for source in self.sources]


def open_corpus(
    words: Sequence[str],
    encoding: str = "utf-8",
    split: str = "train",
    column: str | None = None,
    lines: bool = False,
    labels: Sequence[str] = (),
    *,
    anonymise: bool | Anonymiser = False,
    recorded: bool = False,
) -> Corpus:
    """The corpus that the words name. `split` is for `tinystories`, which comes with a validation file of its own.

    `column` names the column of tables, and the field of JSON objects, that holds the text; without it, it is taken
    where it is clear. An empty one has every file read as a plain text. With `lines` each line of a file is a story,
    whatever the file is. `labels` are columns, or fields, whose values each story begins with.
    With `anonymise` the names in chats and mail are replaced; an `Anonymiser` is one that knows people already.
    A file or a folder goes before a named corpus, unless the words are `recorded`, that is, chosen by default or those
    of a run: these have the absolute paths of files, so that the name of a corpus is nothing else there.
    """
    if not _is_text_encoding(encoding):
        raise CorpusError(_NO_ENCODING.format(encoding))
    if lines and (column or labels):
        raise CorpusError("--lines reads every file as a list of lines; --column and --label are for tables and JSON")
    sources: list[Source] = []
    notes = Notes()
    anonymiser = Anonymiser() if anonymise is True else anonymise or None
    for word in words:
        found = _open_named(word, encoding, split, recorded)
        if (lines or labels) and not all(isinstance(s, FileSource) for s in found):
            raise CorpusError(f"{word} has no lines or labels to choose: --lines and --label are for files")
        if anonymiser and not all(isinstance(s, FileSource) for s in found):
            raise CorpusError(f"{word} names nobody; --anonymise is for chats and mail")
        sources += [
            replace(s, column=column, lines=lines, labels=tuple(labels), anonymiser=anonymiser, notes=notes)
            if isinstance(s, FileSource)
            else s
            for s in found
        ]
    if not any(source.size_bytes for source in sources):
        raise CorpusError(f"{' '.join(words)} is empty: there is nothing to learn from")
    if anonymiser:
        _meet_people(anonymiser, [s for s in sources if isinstance(s, FileSource)], notes)
    return Corpus(tuple(words), tuple(sources), encoding, column, lines, tuple(labels), anonymiser)


def _meet_people(anonymiser: Anonymiser, sources: list[FileSource], notes: Notes) -> None:
    before = anonymiser.people
    for source in sources:
        source.meet_people()
    if met := anonymiser.people - before:
        notes.say("people", f"--anonymise: {met:,} people get made-up names")


def _is_text_encoding(encoding: str) -> bool:
    """Whether bytes can become text by it (`hex` and `rot13` are encodings too, for Python)."""
    try:
        b"a".decode(encoding)
    except UnicodeError:
        return True  # one such as utf-16, for which that is too little
    except (LookupError, ValueError):
        return False
    return True


def held_out_words(words: Sequence[str], valid: Sequence[str] | None) -> list[str] | None:
    """The words of the validation text: those given, or those of the one that a named corpus brings along."""
    return list(valid) if valid else ["tinystories"] if list(words) == ["tinystories"] else None


def _open_named(word: str, encoding: str, split: str, recorded: bool) -> Sequence[Source]:
    if word == "-":
        return [files.standard_input(encoding)]
    found = None if recorded and word in NAMES else files.expand(word, encoding)
    if found is not None:
        return found
    if word == "stories":
        return [StoriesSource()]
    if word == "tinystories":
        return [FileSource(tinystories(split))]
    if files.looks_like_a_path(word):
        raise CorpusError(f"there is no file or folder {word}; the named corpora are {' and '.join(NAMES)}")
    raise CorpusError(
        f"{word or 'an empty name'} is neither a file, nor a folder, nor a named corpus; "
        f"the named corpora are {' and '.join(NAMES)}"
    )


def text_corpus(text: str) -> Corpus:
    """A corpus of a string that is already in memory."""
    return Corpus(("text",), (_TextSource(well_formed(text).encode()),))


def read_text(word: str, encoding: str = "utf-8") -> str:
    """The whole of one file, or of standard input (`-`), as one string: a prompt, read by the rules of a text.

    Raises `CorpusError` where it cannot be read.
    """
    if not _is_text_encoding(encoding):
        raise CorpusError(_NO_ENCODING.format(encoding))
    source = files.standard_input(encoding) if word == "-" else FileSource(Path(word), encoding)
    return b"".join(source.blocks()).replace(BOUNDARY_BYTE, f"{SEPARATOR}\n".encode()).decode()


@dataclass(frozen=True)
class _TextSource:
    data: bytes
    name: str = "the text"
    stamp: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def blocks(self, advance: Advance = lambda _: None, bookmark: Bookmark | None = None) -> Iterator[bytes]:
        mark = bookmark or Bookmark()
        advance(len(self.data))
        yield from read_on(TextReader(self.name, mark.place), [self.data[mark.place.offset :]], mark)

    def raw_chunks(self) -> Iterator[bytes]:
        yield self.data
