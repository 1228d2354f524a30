"""Texts of every format and encoding: read, or refused in a sentence; the same however they are cut and taken up.

An input is the kind of file and whether a column is named, the size of a chunk, the place to stop at, and the content.
"""

import contextlib
import gzip
from pathlib import Path
from unittest import mock

import numpy as np
import zstandard

from fuzz import folder, refusing
from storycell.data import files, vocab
from storycell.data.blocks import Bookmark
from storycell.data.corpus import open_corpus
from storycell.data.files import FileSource
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.errors import CorpusError

KINDS = [
    (ending, encoding, packs)
    for ending in (
        ".txt",
        ".jsonl",
        ".txt.gz",
        ".txt.zst",
        ".jsonl.gz",
        ".jsonl.zst",
        ".csv",
        ".tsv.gz",
        ".json",
        ".json.gz",
    )
    for encoding in ("utf-8", "latin-1", "utf-16", "utf-7")
    for packs in (False, True)
]
COLUMNS = (None, "story", "2", "")
FOLDER = folder()
_TEXT = "\ufeffOnce “upon”\r\na time\r<|endoftext|>\r\n😀<|endoftext|>\n<|endoftext|>"
_CSV = 'id,story\r\n1,"Once, ""upon"" “a”\n\ntime"\n\n2,plain\n'.encode()
_JSON = (
    b'[{"text": "a\\n", "story": "b"}, {"story": "", "text": "c"}]',
    b'["a", "b\\u00e9"]\n',
    b'{"n": [1], "data": [{"story": "a"}], "m": {"k": 2}}',
    b'{"story": "a",\n "n": 1}\n{"story": "b"}',
    b'{"story": "a"}\n{"story": "b"}\n',
)
SEEDS = [
    *(
        bytes([k, 5, 1]) + _TEXT.encode(encoding, "ignore")
        for k, (_, encoding, _) in enumerate(KINDS)
        if k < 8 or k % 5 == 0
    ),
    *(bytes([k, 9, 2]) + b'{"text": "a\\ud83d\\ude00\\n<|endoftext|>\\nb"}\n\n{"text": ""}' for k in (8, 17, 33)),
    bytes([16, 3, 0]) + gzip.compress(b"Once upon"),
    *(bytes([k, 9, stop]) + _CSV for k in (0, 48, 56) for stop in (2, 66, 130)),
    *(bytes([k, 9, stop]) + body for k in (0, 64, 72) for stop in (2, 66) for body in _JSON),
    bytes([24, 3, 0]) + zstandard.compress(b"Once upon") * 2,
]


def one_input(data: bytes) -> None:
    """Read a file in one go, in small chunks, and from where a first reading was left."""
    if len(data) < 3:
        return
    ending, encoding, packs = KINDS[data[0] % len(KINDS)]
    column = COLUMNS[data[2] // 64]
    content, path = data[3:], FOLDER / f"a{ending}"
    if packs and ending.endswith(".gz"):
        content = gzip.compress(content, 1, mtime=0)
    elif packs and ending.endswith(".zst"):
        content = zstandard.compress(content, 1)
    path.write_bytes(content)
    whole = None
    with refusing(path.name):
        whole = _read(path, encoding, column)
    with mock.patch.object(files, "CHUNK_BYTES", 1 + data[1] % 64):
        if whole is None:
            with contextlib.suppress(CorpusError):
                _read(path, encoding, column)
                raise AssertionError("it can be read in small chunks, and not in one")
            return
        assert _read(path, encoding, column) == whole
        _left_and_taken_up(FileSource(path, encoding, column=column), whole, data[2] % 64)
    assert b"\r" not in whole
    assert b"\0" not in whole
    _round_trip(whole)


def _read(path: Path, encoding: str, column: str | None) -> bytes:
    return b"".join(open_corpus([str(path)], encoding, column=column).blocks())


def _left_and_taken_up(source: FileSource, whole: bytes, blocks: int) -> None:
    bookmark, begun = Bookmark(), b""
    for k, block in enumerate(source.blocks(bookmark=bookmark)):
        begun += block
        if k == blocks:
            break
    assert begun + b"".join(source.blocks(bookmark=Bookmark(bookmark.place))) == whole


def _round_trip(whole: bytes) -> None:
    counts = np.zeros(0x110000, dtype=np.int64)
    vocab.add_counts(counts, whole)
    stories = whole.split(BOUNDARY_BYTE)
    text = "".join(story.decode() for story in stories)
    assert counts.sum() == len(text)
    if text:
        characters = vocab.from_counts(counts)
        assert characters.decode(characters.encode_block(whole)) == f"{vocab.SEPARATOR}\n".join(
            map(bytes.decode, stories)
        )
