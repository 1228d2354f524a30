"""Files that hold no plain text (PDF, office documents, archives, …), recognised by their first bytes.

Each gets a `CorpusError` that names the format and says what to do.
"""

import re
from functools import cache

from storycell.errors import CorpusError

PANDOC = "take the text out first, for example with `pandoc FILE -t plain --wrap none -o book.txt`"
_OFFICE = "take the text out first, for example with `soffice --convert-to txt:Text FILE`"
_EBOOK = "take the text out first, for example with `ebook-convert FILE book.txt` (of calibre)"
PANDAS = (
    "write it as JSON lines first, for example with pandas: "
    "`{}('FILE').to_json('a.jsonl', orient='records', lines=True)`"
)
_NO_TEXT = "it holds no text; give a text file"
_PIPE = "unpack it first, as with `{} | storycell train -`, or pack it as .gz or .zst"
_UNPACK = "unpack it first, with `{}`"

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (  # as a regular expression; what it is; what to do
    (rb"(?:\xef\xbb\xbf|\s){0,8}%PDF-", "a PDF", "take the text out first, for example with `pdftotext FILE book.txt`"),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub\+zip", "an EPUB book", PANDOC),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis\.opendocument\.text", "an OpenDocument text (ODT)", PANDOC),
    (rb"PK\x03\x04(?:.{0,60000}?PK\x03\x04)?.{26}word/", "a Word document (DOCX)", PANDOC),
    (rb"PK\x03\x04(?:.{0,60000}?PK\x03\x04)?.{26}xl/", "an Excel table (XLSX)", "save it as CSV first"),
    (rb"PK\x03\x04(?:.{0,60000}?PK\x03\x04)?.{26}ppt/", "a PowerPoint file (PPTX)", _OFFICE),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", "a ZIP archive", _UNPACK.format("unzip FILE")),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format("7z x FILE")),
    (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK.format("unrar x FILE")),
    (rb".{257}ustar[\0 ]", "a tar archive", _UNPACK.format("tar xf FILE")),
    (rb"\x1f\x8b\x08", "a gzip file inside of another packing", "unpack it first"),
    (rb"\x28\xb5\x2f\xfd", "a zstandard file inside of another packing", "unpack it first"),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "a bzip2 file", _PIPE.format("bzip2 -dc FILE")),
    (rb"\xfd7zXZ\0", "an xz file", _PIPE.format("xz -dc FILE")),
    (rb"\x1f[\x9d\xa0]", "a file packed by compress (.Z)", _UNPACK.format("uncompress FILE")),
    (rb"\x04\x22\x4d\x18", "an LZ4 file", _PIPE.format("lz4 -dc FILE")),
    (rb"PAR1", "a Parquet table", PANDAS.format("read_parquet")),
    (rb"ARROW1|FEA1", "an Arrow table", PANDAS.format("read_feather")),
    (rb"ORC[\0-\x1f]", "an ORC table", PANDAS.format("read_orc")),
    (rb"Obj\x01", "an Avro file", "write it as JSON lines first"),
    (
        rb"SQLite format 3\0",
        "an SQLite database",
        "write the text as CSV first: `sqlite3 -csv -header FILE 'select text from …'`",
    ),
    (rb"\{\\rtf", "an RTF document", PANDOC),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office (DOC, XLS or PPT)", _OFFICE),
    (rb".{60}(?:BOOKMOBI|TEXtREAd)", "a Kindle book (MOBI)", _EBOOK),
    (rb"AT&TFORM", "a DjVu document", "take the text out first, for example with `djvutxt FILE book.txt`"),
    (rb"%!PS", "a PostScript document", "take the text out first, for example with `ps2ascii FILE book.txt`"),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image", _NO_TEXT),
    (rb"\xff\xd8\xff", "a JPEG image", _NO_TEXT),
    (rb"GIF8[79]a", "a GIF image", _NO_TEXT),
    (rb"II\*\0|MM\0\*", "a TIFF image", _NO_TEXT),
    (rb"RIFF.{4}WEBP", "a WebP image", _NO_TEXT),
    (rb"BM.{4}\0\0\0\0", "a BMP image", _NO_TEXT),
    (rb"\0\0\x01\0[\x01-\x40]\0", "an icon", _NO_TEXT),
    (rb".{4}ftyp(?:avif|heic|heix|mif1)", "a HEIF or AVIF image", _NO_TEXT),
    (rb".{4}ftyp", "an MP4 file", _NO_TEXT),
    (rb"MThd", "a MIDI file", "unpack it first"),
    (rb"RIFF.{4}(?:WAVE|AVI )|OggS\0|ID3[\2-\4]|fLaC|\x1a\x45\xdf\xa3", "a sound or a film", _NO_TEXT),
    (rb"\x93NUMPY", "a numpy array", _NO_TEXT),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _NO_TEXT),
    (rb"GGUF[\1-\x09]\0", "the weights of a model (GGUF)", _NO_TEXT),
    (rb".{8}\{\"(?:__metadata__|[\w.]+\":\{\"dtype)", "the weights of a model (safetensors)", _NO_TEXT),
    (rb"\x80[\2-\5](?:\x95|\}|\]|c)", "a pickle of Python's", "it is not opened here, as it can run anything"),
    (rb"\x7fELF|MZ.{0,200}\0\0\0|\xca\xfe\xba\xbe|\xcf\xfa\xed\xfe|\0asm", "a program", _NO_TEXT),
)


@cache
def _known() -> tuple[tuple[re.Pattern[bytes], str, str], ...]:
    """The beginnings, compiled when the first file is looked at: that takes a few milliseconds."""
    return tuple((re.compile(begins, re.DOTALL), kind, advice) for begins, kind, advice in _BEGINNINGS)


def kind_of(head: bytes) -> tuple[str, str] | None:
    """What a file that begins so is, and what to do with it; None if it may be a text."""
    return next(((kind, advice) for begins, kind, advice in _known() if begins.match(head)), None)


def refuse_binary(head: bytes, name: str) -> None:
    """`CorpusError` if a file begins as one of a kind that is known to be no text."""
    if known := kind_of(head):
        kind, advice = known
        raise CorpusError(f"{name} is {kind}, not a text; {advice.replace('FILE', name)}")
