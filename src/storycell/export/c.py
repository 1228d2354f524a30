"""Export to one file of C99 that generates stories: `story.c` beside this module, with a model put in.

Weights are base64 in strings, not numbers in an array: half the size, and compilers read a string many times faster. No
string is longer than the 4,095 characters that C99 promises. What others have named, the run and the file, stands in
comments alone, of a few harmless characters; of the vocabulary only numbers are written.
"""

import re
import unicodedata
from collections.abc import Sequence
from importlib import resources

from storycell.data.pieces import character_classes
from storycell.data.vocab import Vocabulary
from storycell.engine.cells import NORM_EPSILON
from storycell.errors import ExportError
from storycell.export import encoding
from storycell.export.encoding import Weights, check_rounding
from storycell.export.network import Network, Shape
from storycell.types import RESERVED

_STRING = 4000  # characters of weights in one string
_SPELT = 3  # characters, at most, that one is spelt out with
_NOT_IN_COMMENTS = re.compile(r"[^A-Za-z0-9 ,.:;=+()'/_-]|/(?=/)")
_PLAIN_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_STRINGS = re.compile(r"^static const char \*const weights\[STRINGS\] = \{$", re.MULTILINE)
_PRINTING = """    if (halves[id][0]) {
        long long shown = print_id(halves[id][0], most);
        return shown + print_id(halves[id][1], most - shown);
    }
"""
_CODINGS = {
    "fp32": "base64 of little-endian float32",
    "fp16": "base64 of little-endian float16 (biases float32)",
    "int8": "a character a weight, from -44 to 44, after base64 of each row's float32 scale; biases float32",
}


def write(network: Network, vocab: Vocabulary, weights: Weights, about: str, file_name: str, prompt: str = "") -> str:
    """The text of the C file; `about` is a line on the model, `prompt` what it begins with by itself."""
    text = encoding.encode(network, weights)
    strings = [text[k : k + _STRING] for k in range(0, len(text), _STRING)]
    parts = {
        "ABOUT": comment(about),
        "FILE": plain_file(file_name, "story.c"),
        "MODEL": _model(network.shape, vocab, weights, len(strings), prompt),
        "EPSILON": f"{NORM_EPSILON:g}",
        "CODING": _CODINGS[weights],
        "WEIGHTS": ",\n".join(f'"{string}"' for string in strings),
        "PRINTING": _PRINTING if vocab.kind == "pieces" else "",
        "READING": _file("story_pieces.c" if vocab.kind == "pieces" else "story_characters.c"),
    }
    return re.sub("@([A-Z]+)@", lambda found: parts[found[1]], _file("story.c"))


def _file(name: str) -> str:
    return (resources.files("storycell.export") / name).read_text(encoding="utf-8")


def comment(text: str) -> str:
    """Text that can stand in a comment: no star ends it, and no line end, backslash or trigraph does anything in it."""
    return _NOT_IN_COMMENTS.sub("_", text)


def plain_file(name: str, otherwise: str) -> str:
    """A file's name for a command that people copy, or another where a shell would take it for something else."""
    return name if _PLAIN_FILE.fullmatch(name) else otherwise


def _string(text: str) -> str:
    """A C string: letters and blanks as they are, every other byte as three octal digits."""
    plain = "".join(chr(b) if (chr(b).isalnum() and b < 0x80) or b == 0x20 else f"\\{b:03o}" for b in text.encode())
    return f'"{plain}"'


def _model(shape: Shape, vocab: Vocabulary, weights: Weights, strings: int, prompt: str) -> str:
    codes = [f"{ord(c)}," for c in vocab.characters]
    lines = [" ".join(codes[k : k + 20]) for k in range(0, len(codes), 20)]
    constants: dict[str, object] = {"CELL": shape.cell.upper(), "V": shape.V, "D": shape.D, "H": shape.H, "L": shape.L}
    constants |= {"NGRAMS": shape.N, "ROWS": shape.R, "MATCHES": shape.M, "GATE_NORM": int(shape.gate_norm)}
    constants |= {"G": shape.G, "WEIGHTS": weights.upper(), "STRINGS": strings, "BYTES": int(vocab.kind == "bytes")}
    constants |= {"PROMPT": _string(prompt), "SPELT": _SPELT, "CHARACTERS": len(vocab.characters)}
    defined = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    return (
        f"{defined}static const uint32_t code_points[CHARACTERS] = {{\n    "
        + "\n    ".join(lines)
        + "\n};\n\n/* Letter, accent, the two as one character; and what is the same as a character, spelt out. */\n"
        + f"static const uint32_t pairs[][3] = {{{_rows(_pairs(vocab), 3)}}};\n"
        + f"static const uint32_t same[][1 + SPELT] = {{{_rows(_same(vocab), 1 + _SPELT)}}};"
        + (_pieces(vocab) if vocab.kind == "pieces" else "")
    )


def _pieces(vocab: Vocabulary) -> str:
    """What the characters are to the pattern of words, the two halves of each id, and the merges in their order."""
    ids = {text: k for k, text in enumerate(vocab.texts, RESERVED)}
    merges = [(ids[a], ids[b], ids[a + b]) for a, b in vocab.merges]
    halves = [(0, 0)] * len(vocab)
    for a, b, made in reversed(merges):
        halves[made] = (a, b)
    return (
        f"\n\n#define MERGES {len(merges)}\n#define LETTERS {vocab.lengths.sum()}\n"
        "/* Of each character: l a letter, m a combining mark, d a digit, _ itself, s white space, o any other;\n"
        "   of each id its halves, or 0; of each merge the two, and what they make. */\n"
        f"static const char classes[] = {_lines(character_classes(vocab.characters))};\n"
        f"static const int halves[V][2] = {{{_numbers(halves)}}};\n"
        f"static const int merges[MERGES + 1][3] = {{{_numbers([*merges, (0, 0, 0)])}}};"
    )


def _lines(text: str) -> str:
    """A C string of letters, in short lines."""
    return "".join(f'\n    "{text[k : k + 100]}"' for k in range(0, len(text), 100))


def _numbers(rows: Sequence[tuple[int, ...]]) -> str:
    texts = ["{" + ", ".join(map(str, row)) + "}" for row in rows]
    return "\n    " + ",\n    ".join(", ".join(texts[k : k + 8]) for k in range(0, len(texts), 8)) + "\n"


def _pairs(vocab: Vocabulary) -> list[str]:
    """What makes the accented letters and Korean syllables of the vocabulary: (one, another, the two as one)."""
    found: set[str] = set()
    for c in vocab.characters if vocab.kind != "bytes" else "":
        parts = unicodedata.normalize("NFD", c)
        whole = [unicodedata.normalize("NFC", parts[:n]) for n in range(1, len(parts) + 1)]
        found |= {a + b + both for a, b, both in zip(whole, parts[1:], whole[1:], strict=False) if len(a + both) == 2}
    return sorted(found)


def _same(vocab: Vocabulary) -> list[str]:
    """Each character that the model does not know, and the known ones that are the same, where there are such."""
    if vocab.kind == "bytes":
        return []
    known = set(vocab.characters)
    others = [c for c in map(chr, range(0x110000)) if c in "ßẞ" or unicodedata.decomposition(c)]
    spelt = [(c, vocab.same(c)) for c in others if c not in known]
    return [c + same for c, same in spelt if same and len(same) <= _SPELT]


def _rows(texts: list[str], width: int) -> str:
    """Rows of an array, ended by one that begins with 0."""
    rows = ["{" + ", ".join(map(str, map(ord, text))) + "}" for text in texts] + ["{" + ", ".join(["0"] * width) + "}"]
    return "\n    " + ",\n    ".join(", ".join(rows[k : k + 6]) for k in range(0, len(rows), 6)) + "\n"


def read(text: str) -> Network:
    """The network in a C file, from its constants and strings alone."""
    constants = dict(
        re.findall(r"^#define (CELL|V|D|H|L|NGRAMS|ROWS|MATCHES|GATE_NORM|WEIGHTS) (\w+)$", text, re.MULTILINE)
    )
    try:
        cell, weights = constants["CELL"].lower(), constants["WEIGHTS"].lower()
        V, D, H, L, N, R, M = (int(constants[axis]) for axis in (*"VDHL", "NGRAMS", "ROWS", "MATCHES"))
        shape = Shape(cell, V, D, H, L, N, R, M, constants["GATE_NORM"] == "1")
        begin = _STRINGS.search(text)
        strings = re.findall(r'^"(.*)",?$', text[begin.end() :] if begin else "", re.MULTILINE)
    except (KeyError, ValueError) as error:
        raise ExportError(f"the file is not what was written: {error}") from None
    return encoding.decode("".join(strings), shape, check_rounding(weights))
