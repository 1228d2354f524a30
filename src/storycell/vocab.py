"""Characters <-> ids.

In: code points, as strings or as the byte blocks of a corpus. Out: ids, one for each Unicode character, in code point
order after two reserved ones: `0`, the boundary between stories, and `1`, a character the model does not know. With
`kind = "bytes"` the characters are the 256 bytes of UTF-8.

The surprising decision: in the blocks that a corpus gives, the byte 0xFF stands for a boundary. It occurs nowhere in
UTF-8, so text needs no escaping, and a whole block is translated without looking for separators again: ASCII through a
table of 256 bytes, what is left through a table of all code points.
"""

import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from storycell.errors import UnknownCharacterError, VocabularyError

BOUNDARY = 0
UNKNOWN = 1
RESERVED = 2
SEPARATOR = "<|endoftext|>"  # a line of its own between two stories
BOUNDARY_BYTE = b"\xff"
LARGEST = 65_536  # ids are uint16 at most
_CODE_POINTS = 0x110000
_ASCII = bytes(range(0x80))
_CONTINUATION = bytes(range(0x80, 0xC0))  # the bytes of a character in UTF-8 after its first


@dataclass(frozen=True)
class Vocabulary:
    """The characters a model knows: `characters[k]` has id `k + 2`. Bytes are written as the code points 0 to 255."""

    characters: str
    kind: Literal["characters", "bytes"] = "characters"

    def __len__(self) -> int:
        """V, the number of ids, the two reserved ones included."""
        return len(self.characters) + RESERVED

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The smallest type that holds an id: uint8 or uint16."""
        return np.uint8 if len(self) <= 256 else np.uint16

    @cached_property
    def _id_of_code(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        table = np.full(_CODE_POINTS, UNKNOWN, dtype=self.dtype)
        table[_codes(self.characters)] = np.arange(RESERVED, len(self), dtype=self.dtype)
        return table

    @cached_property
    def _id_of_byte(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        table = self._id_of_code[:256].copy()
        table[0xFF] = BOUNDARY
        return table

    @cached_property
    def utf8_sizes(self) -> npt.NDArray[np.int64]:
        """How many bytes each id takes in UTF-8, `[V]`; a boundary none, an unknown character three (as U+FFFD)."""
        return np.array([len(self.bytes_of(k)) for k in range(len(self))])

    def encode_block(self, block: bytes) -> npt.NDArray[np.unsignedinteger[Any]]:
        """A block of a corpus (UTF-8, boundaries as 0xFF) -> ids `[n]`; unknown characters get `UNKNOWN`."""
        rare = b"" if self.kind == "bytes" else _rare(block)
        firsts = block.translate(None, _CONTINUATION) if rare else block  # a byte for each character and boundary
        if self.dtype is np.uint8:
            ids = np.frombuffer(bytearray(firsts.translate(self._id_of_byte.tobytes())), dtype=np.uint8)
        else:
            ids = self._id_of_byte[np.frombuffer(firsts, dtype=np.uint8)]
        if rare:
            first = np.frombuffer(firsts, dtype=np.uint8)
            ids[(first >= 0x80) & (first < 0xFF)] = self._id_of_code[_codes(rare.decode())]
        return ids

    def ids_of_codes(self, codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Code points `[n]` -> ids `[n]`; unknown characters get `UNKNOWN`, and nothing is a boundary."""
        ids: npt.NDArray[np.unsignedinteger[Any]] = self._id_of_code[codes]
        return ids

    def encode(self, text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Text (separator lines become boundaries) -> ids `[n]`; unknown characters get `UNKNOWN`."""
        return self.encode_block(BOUNDARY_BYTE.join(story.encode() for story in story_lines(well_formed(text))))

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; a boundary becomes a separator line, an unknown character U+FFFD."""
        if self.kind == "bytes":
            parts = [SEPARATOR.encode() + b"\n" if k == BOUNDARY else self.bytes_of(k) for k in ids]
            return b"".join(parts).decode("utf-8", "replace")
        return "".join(self.text_of(k) for k in ids)

    def text_of(self, k: int) -> str:
        """The text of one id. (Of a byte vocabulary: of a byte on its own, U+FFFD unless it is ASCII.)"""
        if k == BOUNDARY:
            return SEPARATOR + "\n"
        if k == UNKNOWN:
            return "�"
        character = self.characters[k - RESERVED]
        return character if self.kind == "characters" or character.isascii() else "�"

    def bytes_of(self, k: int) -> bytes:
        """The UTF-8 bytes of one id; none for a boundary."""
        if k == BOUNDARY:
            return b""
        if k == UNKNOWN:
            return "�".encode()
        character = self.characters[k - RESERVED]
        return bytes([ord(character)]) if self.kind == "bytes" else character.encode()

    def prompt_ids(self, prompt: str, unknown: Literal["error", "replace", "skip"] = "error") -> tuple[list[int], str]:
        """A prompt's ids and the prompt as the model reads it.

        `unknown` says what becomes of characters that the model does not know: an `UnknownCharacterError` that names
        each, its position and the closest known one; the closest known one in its place; or nothing.
        """
        stories = story_lines(well_formed(prompt))
        if self.kind == "characters":
            strangers = self._strangers(stories)
            if strangers and unknown == "error":
                raise UnknownCharacterError(self._describe(strangers))
            put = {ord(c): self.closest(c) if unknown == "replace" else "" for _, c in strangers}
            stories = [story.translate(put) for story in stories]
        read = f"{SEPARATOR}\n".join(stories)
        return self.encode(read).tolist(), read

    def _strangers(self, stories: list[str]) -> list[tuple[int, str]]:
        """The unknown characters of a prompt and their positions in it; those of separator lines do not count."""
        found: list[tuple[int, str]] = []
        start = 0
        for story in stories:
            found += [(start + k, c) for k, c in enumerate(story) if c not in self.characters]
            start += len(story) + len(SEPARATOR) + 1
        return found

    def _describe(self, strangers: list[tuple[int, str]]) -> str:
        first_of: dict[str, int] = {}
        for position, character in strangers:
            first_of.setdefault(character, position)
        shown = [
            f"{c!r} (U+{ord(c):04X}) at position {p}, closest known {self.closest(c)!r}"
            for c, p in list(first_of.items())[:8]
        ]
        more = f", and {len(first_of) - 8} more" if len(first_of) > 8 else ""
        return (
            f"the model does not know {'; '.join(shown)}{more}; "
            "write the prompt without, or go on with --unknown replace or --unknown skip"
        )

    def closest(self, character: str) -> str:
        """The known character most like an unknown one: without its accent, in the other case, of the same kind."""
        known = self.characters
        plain = unicodedata.normalize("NFKD", character)[:1]
        spoken = _PUNCTUATION.get(character, plain)
        for candidate in (plain, spoken, plain.lower(), plain.upper(), character.lower(), character.upper()):
            if len(candidate) == 1 and candidate in known:
                return candidate
        category = unicodedata.category(character)
        alike = [c for c in known if unicodedata.category(c) == category]
        alike = alike or [c for c in known if unicodedata.category(c)[0] == category[0]] or list(known)
        return min(alike, key=lambda c: abs(ord(c) - ord(character)))

    def merged(self, other: "Vocabulary") -> "Vocabulary":
        """This vocabulary with the characters of another added, in code point order again."""
        if self.kind != other.kind:
            raise VocabularyError(f"a vocabulary of {self.kind} cannot take the characters of one of {other.kind}")
        return self if self.kind == "bytes" else _of_characters(set(self.characters) | set(other.characters))

    def to_json(self) -> str:
        """The text of `vocab.json`; ASCII, so that any character survives any editor."""
        reserved = [SEPARATOR, "<|unknown|>"]
        return (
            json.dumps({"format": 1, "kind": self.kind, "reserved": reserved, "characters": list(self.characters)})
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """The vocabulary in the text of a `vocab.json`; `VocabularyError` says what is wrong with it."""
        try:
            data = json.loads(text)
            version, kind, listed = data["format"], data["kind"], data["characters"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise VocabularyError("it is not the JSON of a vocabulary") from None
        if version != 1:
            raise VocabularyError(f"it has format {version!r}, and this storycell reads format 1")
        if not (isinstance(listed, list) and all(isinstance(c, str) and len(c) == 1 for c in listed)):
            raise VocabularyError("'characters' is not a list of single characters")
        if any("\ud800" <= c <= "\udfff" for c in listed):
            raise VocabularyError("'characters' holds a lone surrogate, which is no character")
        if kind not in ("characters", "bytes") or not 0 < len(listed) <= LARGEST - RESERVED:
            raise VocabularyError(f"a vocabulary of {len(listed)} {kind!r} is not one that storycell writes")
        if listed != sorted(set(listed)) or (kind == "bytes" and "".join(listed) != BYTES.characters):
            raise VocabularyError("its characters are not in code point order, each once")
        return cls("".join(listed), kind)


BYTES = Vocabulary("".join(map(chr, range(256))), "bytes")

_PUNCTUATION = {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "."}
_PUNCTUATION |= {"\t": " ", "\r": "\n", "\u2028": "\n", "\u2029": "\n"}


def well_formed(text: str) -> str:
    """A string with each lone surrogate, which no file can hold, made U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def story_lines(text: str) -> list[str]:
    """A text cut at its separator lines: the stories between them, each with its line ends, empty ones too."""
    if SEPARATOR not in text:
        return [text]
    stories: list[str] = []
    lines: list[str] = []
    for line in text.split("\n"):
        if line == SEPARATOR:
            stories.append("\n".join([*lines, ""]) if lines else "")
            lines = []
        else:
            lines.append(line)
    return [*stories, "\n".join(lines)]


def add_counts(counts: npt.NDArray[np.int64], block: bytes) -> None:
    """Add to `counts [0x110000]` how often each code point occurs in a block of a corpus; boundaries do not count."""
    counts[:0x80] += np.bincount(np.frombuffer(block, dtype=np.uint8), minlength=0x80)[:0x80]
    if rare := _rare(block):
        found = np.bincount(_codes(rare.decode()))
        counts[: len(found)] += found


def from_counts(counts: npt.NDArray[np.int64]) -> Vocabulary:
    """The vocabulary of a text whose code points occur `counts` times, `[0x110000]`."""
    return _of_characters({chr(code) for code in np.flatnonzero(counts)})


def _of_characters(characters: set[str]) -> Vocabulary:
    if len(characters) > LARGEST - RESERVED:
        raise VocabularyError(
            f"the text has {len(characters):,} different characters, and a vocabulary holds {LARGEST - RESERVED:,}; "
            "train on its bytes with --vocab bytes"
        )
    return Vocabulary("".join(sorted(characters)))


def _rare(block: bytes) -> bytes:
    """What is left of a block without its ASCII characters and boundaries: the other characters, in their order."""
    return b"" if block.isascii() else block.translate(None, _ASCII + BOUNDARY_BYTE)


def _codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
