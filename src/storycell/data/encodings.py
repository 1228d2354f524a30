"""Bytes that are not UTF-8: a guess at their encoding, to be suggested for `--encoding` and never acted on.

UTF-16 and UTF-32 without a byte order mark are recognised by their NUL bytes. Where non-ASCII bytes stand alone inside
words, as in the languages of Western Europe, the guess is cp1252 (latin-1 reads the same bytes, but makes control
characters of curly quotes); where they come in runs, charset-normalizer tells the other alphabets apart.
"""

import codecs
import re
import unicodedata

MARKS = (  # the marks of UTF-32 first: that of UTF-16 begins one of them
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CONTROLS = re.compile("[\x80-\x9f]")  # C1: no text has them, but latin-1 makes them of every byte
CONTROLS_UTF8 = re.compile(b"\xc2[\x80-\x84\x86-\x9f]")  # a next line, U+0085, may be meant
_SAMPLE_BYTES = 1 << 14
_IN_A_ROW = re.compile(b"[\x80-\xff]{3,}")
_FEW_NULS = 4  # in what is otherwise UTF-8 may be an accident
_CONTROL_BYTES = re.compile(b"[\x01-\x08\x0b\x0e-\x1f]")  # halves of many a character in UTF-16, and in no plain text
_SPARSE = 0.2  # of the bytes beyond ASCII stand three or more in a row, where the alphabet is Latin
_TURKISH = re.compile(b"[\xdd\xf0\xfd\xfe]")  # İ ğ ı ş of cp1254, and in cp1252 Ý ð ý þ
_ICELANDIC = re.compile(b"[\xe1\xe6\xf3]")  # á æ ó in both
_DENSE = ("cp1251", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "euc_kr", "cp1253", "cp1255", "cp1256", "cp1250")
_NAMES = {"cp932": "shift_jis", "koi8_r": "koi8-r"}
_KANA = re.compile("[\u3040-\u30ff]")
_WINDOWS = {"iso8859-2": "cp1250", "iso8859-5": "cp1251", "iso8859-7": "cp1253", "iso8859-9": "cp1254"}


def find_byte_order_mark(data: bytes) -> str | None:
    """The encoding whose byte order mark a text begins with, UTF-8 apart."""
    return next((encoding for mark, encoding in MARKS if data.startswith(mark)), None)


def guess_utf16_or_32(data: bytes) -> str | None:
    """UTF-16 or UTF-32 of a text that begins without a mark, as its NUL bytes show."""
    data = data[:_SAMPLE_BYTES]
    nuls = data.count(b"\0")
    few = nuls < _FEW_NULS or (4 * nuls < len(data) and not _CONTROL_BYTES.search(data))
    if not nuls or (few and _is_utf8(data)):
        return None
    plausible = [(_plainness(data, encoding), encoding) for encoding in ("utf-32-le", "utf-32-be")]
    if not any(plainness for plainness, _ in plausible):
        plausible = [(_plainness(data, encoding), encoding) for encoding in ("utf-16-le", "utf-16-be")]
    plainness, encoding = max(plausible)
    return encoding if plainness else None


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _plainness(data: bytes, encoding: str) -> float:
    """How many of the characters are ASCII or separate others; 0 if some can be in no text."""
    width = 4 if "32" in encoding else 2
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data[: len(data) // width * width])
    except UnicodeDecodeError:
        return 0.0
    if not text or any(unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") and c not in "\t\n\f\r" for c in text):
        return 0.0
    return (sum(c.isascii() or unicodedata.category(c)[0] in "ZP" for c in text) + 0.1) / len(text)


def is_mostly_utf8(data: bytes) -> bool:
    """Whether few of the characters beyond ASCII are no UTF-8, as in a text that was damaged."""
    text = data.decode("utf-8", "replace")
    beyond = sum(not c.isascii() for c in text)
    return text.count("\ufffd") * 10 < beyond


def likely(data: bytes) -> str | None:
    """The encoding that some bytes are likely in; None where they are in none that is known here."""
    data = data[: 4 * _SAMPLE_BYTES]
    if found := guess_utf16_or_32(data):
        return found
    if b"\0" in data:
        return None
    high = len(data.translate(None, bytes(range(0x80))))
    if sum(map(len, _IN_A_ROW.findall(data))) <= _SPARSE * high and _reads_as_words(data, "cp1252"):
        return "cp1254" if _TURKISH.search(data) and not _ICELANDIC.search(data) else "cp1252"
    return _guess_by_statistics(data)


def _reads_as_words(data: bytes, encoding: str) -> bool:
    """Whether all bytes are characters by it, and no symbols such as ¾ or ³ stand inside of words."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4 or error.start == 0:
            return False
        text = data[: error.start].decode(encoding)
    return not re.search(r"[^\W\d_][¹²³¼½¾¿¡¢£¤¥¦§¨©ª¬®¯°±´¶·¸º×÷†‡‰ˆ][^\W\d_]", text)


def _guess_by_statistics(data: bytes) -> str | None:
    try:
        import charset_normalizer
    except ImportError:
        return None
    for cut in range(4):  # bytes of a last character that is not whole
        for found in charset_normalizer.from_bytes(data[: len(data) - cut], cp_isolation=[*_DENSE, "cp1252"]):
            if found.encoding not in ("cp932", "euc_jp") or _KANA.search(str(found)):
                return _NAMES.get(found.encoding, found.encoding)
    return None


def instead_of(encoding: str) -> str | None:
    """The Windows encoding that has letters where this one, of the ISO 8859 family, has control characters."""
    name = codecs.lookup(encoding).name
    return _WINDOWS.get(name, "cp1252") if name.startswith("iso8859") else None
