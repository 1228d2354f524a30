"""Characters <-> ids: one id for each Unicode character, in code point order after two reserved ones.

`0` is the boundary between stories, `1` a character that the model does not know. With `kind = "bytes"` the characters
are the 256 bytes of UTF-8. With `kind = "pieces"` the ids of the characters are followed by those of pieces of words,
each put together of two others (`storycell.data.pieces`).

In the blocks of a corpus the byte 0xFF stands for a boundary. It occurs nowhere in UTF-8, so text needs no escaping,
and a whole block is translated without looking for separators again: ASCII through a table of 256 bytes, the rest
through a table of all code points.
"""

import json
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from storycell.data import pieces
from storycell.errors import SettingsError, UnknownCharacterError, VocabularyError
from storycell.types import BOUNDARY, LABEL_END, RESERVED, UNKNOWN, Ids

SEPARATOR = "<|endoftext|>"  # a line of its own between two stories
BOUNDARY_BYTE = b"\xff"
LARGEST = 65_536  # ids are uint16 at most
LONGEST_HEADER = 4096  # ids of a story's labels
_CODE_POINTS = 0x110000
_ASCII = bytes(range(0x80))
_CONTINUATION = bytes(range(0x80, 0xC0))  # the bytes of a character in UTF-8 after its first
_SPELT_AT_A_TIME = 1 << 20  # ids
_SCORED_AT_A_TIME = 1024  # ids, each with the probabilities of all
_FORMAT, _FORMAT_OF_PIECES = 1, 2  # of vocab.json; a storycell from before there were pieces refuses the second

Kind = Literal["characters", "bytes", "pieces"]


def parse_kind(word: str) -> tuple[Kind, int]:
    """What a vocabulary is asked for by, such as `characters` or `pieces:4096`, and how many ids (0: not asked for).

    `pieces` alone are `pieces.PIECES`. `SettingsError` for anything else.
    """
    name, colon, number = word.partition(":")
    for kind in get_args(Kind):
        if name == kind and not colon:
            return kind, pieces.PIECES if kind == "pieces" else 0
    if name == "pieces" and number.isascii() and number.isdecimal() and RESERVED < int(number) <= LARGEST:
        return "pieces", int(number)
    raise SettingsError(
        f"vocab = {word!r}: it must be characters, bytes, or pieces, with a number as in pieces:{pieces.PIECES}, which "
        f"is at most {LARGEST:,}"
    )


@dataclass(frozen=True)
class Vocabulary:
    """The characters a model knows: `characters[k]` has id `k + 2`. Bytes are written as the code points 0 to 255.

    Pieces, which have the ids after those, are what the `merges` make, each from two that are there already.
    """

    characters: str
    kind: Kind = "characters"
    labels: tuple[str, ...] = ()  # the names of the values that each story of the text begins with (see `header_size`)
    merges: tuple[tuple[str, str], ...] = ()  # in the order in which they are tried

    def __len__(self) -> int:
        """V, the number of ids, the two reserved ones included."""
        return len(self.texts) + RESERVED

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The text of every id from `RESERVED` on (a byte as the code point 0 to 255)."""
        return tuple(pieces.piece_texts(self.characters, self.merges)) if self.merges else tuple(self.characters)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many characters each id stands for, `[V]`: more than one only if it is a piece; a boundary counts one."""
        return pieces.piece_lengths(self.texts)

    def count_chars(self, ids: Ids | Sequence[int]) -> int:
        """How many characters some ids stand for, boundaries included (of bytes: how many bytes)."""
        return int(self.lengths[ids].sum()) if self.kind == "pieces" else len(ids)

    def refuse_pieces(self, what: str, instead: str = "train a model without --vocab pieces for it") -> None:
        """Raise `SettingsError` where ids are pieces of words, which `what` cannot do with."""
        if self.kind == "pieces":
            raise SettingsError(
                f"{what} goes character by character, and this model predicts pieces of words; {instead}"
            )

    @cached_property
    def spelling(self) -> "Vocabulary":
        """The vocabulary of the single characters of one of pieces; of others, itself."""
        return replace(self, kind="characters", merges=()) if self.kind == "pieces" else self

    def spell(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Ids `[n]` in those of their single characters, which are of `spelling`, `[chars]`."""
        if self.kind != "pieces":
            return ids
        spelling = self.spelling
        letters = spelling.ids_of_codes(_codes("".join(self.texts)))
        flat = np.concatenate([np.arange(RESERVED, dtype=spelling.dtype), letters])
        starts = np.cumsum(self.lengths) - self.lengths
        parts = [flat[:0]]
        for at in range(0, len(ids), _SPELT_AT_A_TIME):
            part = np.asarray(ids[at : at + _SPELT_AT_A_TIME], np.int64)
            lengths = self.lengths[part]
            before = np.cumsum(lengths) - lengths
            parts.append(flat[np.arange(lengths.sum()) + np.repeat(starts[part] - before, lengths)])
        return np.concatenate(parts)

    def spell_nats(self, log_probabilities: npt.NDArray[Any], ids: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The loss in nats of every character of `ids [n]`, `[chars]`, given `log_probabilities [n V]` of a model.

        A character of a piece costs what the probability of all pieces that begin with the characters before it has to
        be multiplied by for those that begin with it too; the last one also that the piece ends there. So those of a
        piece add up to its loss. Where every id is one character, it is just that.
        """
        ids = np.asarray(ids, np.intp)
        own: npt.NDArray[np.float64] = log_probabilities[np.arange(len(ids)), ids].astype(np.float64)
        if self.kind != "pieces":
            return 0.0 - own
        parts = [
            self._spell_nats(log_probabilities[at : at + _SCORED_AT_A_TIME], ids[at : at + _SCORED_AT_A_TIME], own[at:])
            for at in range(0, len(ids), _SCORED_AT_A_TIME)
        ]
        return np.concatenate([np.zeros(0), *parts])

    def _spell_nats(
        self, log_probabilities: npt.NDArray[Any], ids: npt.NDArray[np.intp], own: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        prefixes, width = self._prefixes, len(self.texts) + 1
        probabilities = np.zeros((len(ids), width))  # in the order of the texts, and a zero behind them all
        np.exp(log_probabilities[:, RESERVED + prefixes.order], out=probabilities[:, :-1])
        lengths = self.lengths[ids]
        places = np.cumsum(lengths) - lengths
        starts = np.cumsum(self.lengths) - self.lengths - RESERVED
        nats = np.empty(lengths.sum())
        behind = np.zeros(len(ids))  # ln p of all that begin with the characters so far
        for depth in range(lengths.max(initial=0)):
            last = np.flatnonzero(lengths == depth + 1)
            nats[places[last] + depth] = behind[last] - own[last]
            more = np.flatnonzero(lengths > depth + 1)
            if not len(more):
                break
            at = starts[ids[more]] + depth
            edges = np.stack([prefixes.first[at], prefixes.end[at]], axis=1) + more[:, None] * width
            shares = np.add.reduceat(probabilities.ravel(), edges.ravel())[::2]
            with np.errstate(divide="ignore"):  # what is all too unlikely: as likely as the piece itself
                now = np.minimum(np.maximum(np.log(shares), own[more]), behind[more])
            nats[places[more] + depth] = behind[more] - now
            behind[more] = now
        return nats

    def beginning_with(self, text: str) -> npt.NDArray[np.intp]:
        """The ids whose text begins with some characters, one at least, in their order."""
        ordered, n = self._ordered, len(text)
        first = bisect_left(ordered, text)
        end = bisect_right(ordered, text, first, key=lambda one: one[:n])
        return np.sort(RESERVED + self._prefixes.order[first:end])

    @cached_property
    def _ordered(self) -> list[str]:
        return sorted(self.texts)

    @cached_property
    def _prefixes(self) -> pieces.Prefixes:
        return pieces.find_prefixes(self.texts)

    @cached_property
    def _encoder(self) -> pieces.Encoder:
        return pieces.Encoder(self.characters, self.merges, self.dtype)

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The smallest type that holds an id: uint8 or uint16."""
        return np.uint8 if len(self) <= 256 else np.uint16

    @cached_property
    def _id_of_code(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        table = np.full(_CODE_POINTS, UNKNOWN, dtype=self.dtype)
        table[_codes(self.characters)] = np.arange(RESERVED, RESERVED + len(self.characters), dtype=self.dtype)
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
        if self.kind == "pieces":
            return self.encode_part(block, ends=True)[0]
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

    def encode_part(self, block: bytes, *, ends: bool) -> tuple[npt.NDArray[np.unsignedinteger[Any]], bytes]:
        """As `encode_block`, of a block that goes on unless it `ends`: its ids, and the bytes to put before the rest.

        Those are the end of it that cannot be cut into pieces yet; of other kinds of vocabularies there are none.
        """
        if self.kind != "pieces":
            return self.encode_block(block), b""
        boundary = np.array([BOUNDARY], self.dtype).tobytes()
        *closed, last = block.split(BOUNDARY_BYTE)
        words, held = self._encoder.words(last.decode()), b""
        if not ends:
            words, open_words = words[: -pieces.UNSETTLED], words[-pieces.UNSETTLED :]
            held = "".join(open_words).encode()
        stories = [self._encoder.encode(self._encoder.words(story.decode())) for story in closed]
        ids = boundary.join([*stories, self._encoder.encode(words)])
        return np.frombuffer(bytearray(ids), self.dtype), held

    def settled(self, text: str, before: str = "") -> tuple[list[int], str]:
        """The ids of a text's beginning that are the same whatever follows, and what of the text is after them.

        The text may go on from what was left so of another, which is put `before` it.
        """
        block = BOUNDARY_BYTE.join(story.encode() for story in story_lines(text))
        ids, rest = self.encode_part(before.encode() + block, ends=False)
        return ids.tolist(), rest.decode()

    def ids_of_text(self, text: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Any string -> ids `[n]`; unknown characters, lone surrogates too, get `UNKNOWN`; nothing is a boundary."""
        if self.kind == "pieces":
            return np.frombuffer(self._encoder.encode(self._encoder.words(text)), self.dtype)
        return self.ids_of_codes(_codes(text))

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
        text = self.texts[k - RESERVED]
        return text if self.kind != "bytes" or text.isascii() else "�"

    def bytes_of(self, k: int) -> bytes:
        """The UTF-8 bytes of one id; none for a boundary."""
        if k == BOUNDARY:
            return b""
        if k == UNKNOWN:
            return "�".encode()
        text = self.texts[k - RESERVED]
        return bytes([ord(text)]) if self.kind == "bytes" else text.encode()

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.characters)

    def prompt_ids(self, prompt: str, unknown: Literal["error", "replace", "skip"] = "error") -> tuple[list[int], str]:
        """A prompt's ids and the prompt as the model reads it: by the rules of a text (see `plain_text`).

        What the model does not know as it is written is read as the same thing written otherwise, where it knows that
        (see `same`). `unknown` says what becomes of characters that it does not know in any form: an
        `UnknownCharacterError` that names each, its position and the closest known one; the closest known one in its
        place; or nothing.
        """
        read = plain_text(prompt)
        if self.kind != "bytes" and not self._known.issuperset(read):
            read = _end_line(self._read(prompt, unknown))
        return self.encode(read).tolist(), read

    def _read(self, prompt: str, unknown: Literal["error", "replace", "skip"]) -> str:
        """A prompt in characters that the model knows; those of separator lines count as known."""
        strangers: dict[str, int] = {}  # their first positions in the prompt as it was given
        put: dict[str, str] = {}

        def substitute(character: str, position: int) -> str:
            if character not in put:
                strangers[character] = position
                put[character] = self.replacement(character) if unknown == "replace" else ""
            return put[character]

        parts: list[str] = []
        for line in _LINE.finditer(well_formed(prompt)):
            text, at = line["text"], line.start("text")
            for cluster in [text] if text == SEPARATOR or self._known.issuperset(text) else _clusters(text):
                same = cluster if text == SEPARATOR else self.same(cluster)
                if same is None:
                    for k, c in enumerate(cluster):
                        one = self.same(c)
                        parts.append(substitute(c, at + k) if one is None else one)
                else:
                    parts.append(same)
                at += len(cluster)
            if line["end"]:
                parts.append("\n" if "\n" in self._known or text == SEPARATOR else substitute("\n", at))
        if strangers and unknown == "error":
            raise UnknownCharacterError(self._describe_all(strangers))
        return "".join(parts)

    def same(self, text: str) -> str | None:
        """What is the same as a character with its marks, in characters that the model knows; None if nothing is.

        As it is written, where that is known; then in the other canonical form (an accented letter as one character, or
        as letter and accent); then without what is never seen (joiners, a soft hyphen, marks of direction); then with
        what a printer chose spelt out: ligatures, letters of full width, blanks that do not break, `ss` for `ß`.
        """
        seen = "".join(c for c in text if c in self._known or not _INVISIBLE.match(c))
        spelt = "".join(c if c in self._known else _spelt(c) for c in seen)
        for candidate in (text, seen, spelt):
            for form in (candidate, *(unicodedata.normalize(form, candidate) for form in ("NFC", "NFD"))):
                if self._known.issuperset(form):
                    return form
        return None

    def replacement(self, character: str) -> str:
        """What stands best for an unknown character: what it is made of, if that is known in some case, without accents
        (`"..."` for an ellipsis); otherwise the closest known character. Nothing for an accent by itself.
        """
        if unicodedata.combining(character):
            return ""
        letters = [c for c in unicodedata.normalize("NFKD", _spelt(character)) if not unicodedata.combining(c)]
        known = [next((form for form in (c, c.lower(), c.upper()) if form in self._known), "") for c in letters]
        return "".join(known) if all(known) else self.closest(character)

    def _describe_all(self, strangers: dict[str, int]) -> str:
        shown = [self._describe(c, position) for c, position in list(strangers.items())[:8]]
        more = f", and {len(strangers) - 8} more" if len(strangers) > 8 else ""
        return (
            f"the model does not know {'; '.join(shown)}{more}; "
            "write the prompt without, or go on with --unknown replace or --unknown skip"
        )

    def _describe(self, character: str, position: int) -> str:
        closest = self.replacement(character)
        advice = f"closest known {closest!r}" if closest else "with none like it that it knows"
        return f"{character!r} (U+{ord(character):04X}) at position {position}, {advice}"

    def closest(self, character: str) -> str:
        """The known character most like another: itself, without its accent, in the other case, of the same kind.

        A control character or a line end is never the answer, but for a line end; nothing if no other is known.
        """
        plain = unicodedata.normalize("NFKD", character)[:1]
        spoken = _PUNCTUATION.get(character, plain)
        for candidate in (character, plain, spoken, plain.lower(), plain.upper(), character.lower(), character.upper()):
            if candidate in self._known:
                return candidate
        seen = [c for c in self.characters if unicodedata.category(c) not in _UNSEEN]
        category = unicodedata.category(character)
        alike = [c for c in seen if unicodedata.category(c) == category]
        alike = alike or [c for c in seen if unicodedata.category(c)[0] == category[0]] or seen
        return min(alike, key=lambda c: abs(ord(c) - ord(character)), default="")

    def merge(self, other: "Vocabulary") -> "Vocabulary":
        """This vocabulary with the characters of another added, in code point order again; pieces stay as they are."""
        if self.kind != other.kind and (self.kind, other.kind) != ("pieces", "characters"):
            raise VocabularyError(f"a vocabulary of {self.kind} cannot take the characters of one of {other.kind}")
        labels = other.labels or self.labels
        if self.kind == "bytes":
            return replace(self, labels=labels)
        merged = _of_characters(set(self.characters) | set(other.characters))
        return replace(merged, kind=self.kind, merges=self.merges, labels=labels)

    def header_size(self, story: Ids) -> int:
        """How many ids at the beginning of a story, its boundary apart, are its labels; 0 where it has none."""
        if not self.labels:
            return 0
        ends = np.flatnonzero(story[:LONGEST_HEADER] == self.encode(LABEL_END)[0])
        return int(ends[len(self.labels) - 1]) + 1 if len(ends) >= len(self.labels) else 0

    def header(self, values: Sequence[str]) -> str:
        """What a story with these labels begins with."""
        return "".join(value + LABEL_END for value in values)

    def to_json(self) -> str:
        """The text of `vocab.json`; ASCII, so that any character survives any editor."""
        reserved = [SEPARATOR, "<|unknown|>"]
        version = _FORMAT_OF_PIECES if self.kind == "pieces" else _FORMAT
        about = {"format": version, "kind": self.kind, "reserved": reserved, "characters": list(self.characters)}
        merges = {"merges": self.merges} if self.kind == "pieces" else {}
        return json.dumps(about | merges | ({"labels": list(self.labels)} if self.labels else {})) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """The vocabulary in the text of a `vocab.json`; `VocabularyError` says what is wrong with it."""
        try:
            data = json.loads(text)
            version, kind, listed, labels = data["format"], data["kind"], data["characters"], data.get("labels", [])
            merges = data.get("merges", [])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise VocabularyError("it is not the JSON of a vocabulary") from None
        if version != (_FORMAT_OF_PIECES if kind == "pieces" else _FORMAT):
            raise VocabularyError(
                f"it has format {version!r}, and this storycell reads format {_FORMAT} (of pieces {_FORMAT_OF_PIECES})"
            )
        if not (isinstance(listed, list) and all(isinstance(c, str) and len(c) == 1 for c in listed)):
            raise VocabularyError("'characters' is not a list of single characters")
        if any("\ud800" <= c <= "\udfff" for c in listed):
            raise VocabularyError("'characters' holds a lone surrogate, which is no character")
        if kind not in get_args(Kind) or not 0 < len(listed) <= LARGEST - RESERVED:
            raise VocabularyError(f"a vocabulary of {len(listed)} {kind!r} is not one that storycell writes")
        if listed != sorted(set(listed)) or (kind == "bytes" and "".join(listed) != BYTES.characters):
            raise VocabularyError("its characters are not in code point order, each once")
        if not (isinstance(labels, list) and all(isinstance(name, str) and name for name in labels)):
            raise VocabularyError("'labels' is not a list of names")
        if labels and LABEL_END not in listed:
            raise VocabularyError("it has labels, and not the character that ends them")
        if kind != "pieces" and merges:
            raise VocabularyError(f"it has merges, and is of {kind}")
        return cls("".join(listed), kind, tuple(labels), _check_merges(listed, merges))


def _check_merges(characters: list[str], merges: Any) -> tuple[tuple[str, str], ...]:
    """The merges of a `vocab.json`: pairs of what is a piece by then, none of them twice."""
    if not isinstance(merges, list):
        raise VocabularyError("'merges' is not a list of pairs of texts")
    known, found = set(characters), dict[tuple[str, str], None]()
    for pair in merges:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise VocabularyError("'merges' is not a list of pairs of texts")
        if not known.issuperset(pair) or tuple(pair) in found:
            raise VocabularyError(f"its merge {pair!r} is there twice, or not of pieces that are there before it")
        found[pair[0], pair[1]] = None
        known.add(pair[0] + pair[1])
    if len(known) > LARGEST - RESERVED:
        raise VocabularyError(f"it has {len(known):,} pieces, and a vocabulary holds {LARGEST - RESERVED:,}")
    return tuple(found)


BYTES = Vocabulary("".join(map(chr, range(256))), "bytes")

_PUNCTUATION = {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "."}
_PUNCTUATION |= {"\n": " ", "\t": " ", **dict.fromkeys("\v\f\r\x85\u2028\u2029", "\n")}
_UNSEEN = ("Cc", "Cf", "Zl", "Zp")  # controls, joiners and the like, line ends

# A line of a prompt and its end; a byte order mark before the first one is no part of it.
_LINE = re.compile("(?:\\A\ufeff)?(?P<text>[^\r\n]*)(?P<end>\r\n|\r|\n|\\Z)")
# What Unicode calls default ignorable: soft hyphen, joiners, marks of direction, variation selectors.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e0fff]"
)
# Ligatures, digraphs, blanks and hyphens that do not break, forms of Arabic letters, full width: NFKC spells them out.
_TYPESET = re.compile(
    "[\u00a0\u0132\u0133\u017f\u01c4-\u01cc\u01f1-\u01f3\u2000-\u200a\u202f\u205f\u3000\ufb00-\ufb06\ufb13-\ufb17"
    "\ufb50-\ufdff\ufe70-\ufefc\uff01-\uff5e]"
)
_LATER_JAMO = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff]")
_SPELT = {"ß": "ss", "ẞ": "SS", "\u2011": "-"}


def _spelt(character: str) -> str:
    """A character of which a printer chose the form, spelt out; any other as it is."""
    if character in _SPELT:
        return _SPELT[character]
    return unicodedata.normalize("NFKC", character) if _TYPESET.match(character) else character


def _clusters(text: str) -> list[str]:
    """A text cut into characters with what belongs to them: marks, joiners, the later parts of a Korean syllable."""
    found: list[str] = []
    for c in text:
        if found and (unicodedata.category(c)[0] == "M" or _INVISIBLE.match(c) or _LATER_JAMO.match(c)):
            found[-1] += c
        else:
            found.append(c)
    return found


def plain_text(text: str) -> str:
    """A string by the rules of a text file: without a byte order mark before it, every line end `\\n`, well formed.

    A separator line gets an end where it has none.
    """
    return _end_line(well_formed(text).removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))


def _end_line(text: str) -> str:
    """A text whose last line has an end if it is a separator."""
    return f"{SEPARATOR}\n".join(story_lines(text))


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
